"""Steps that every machine can do: files, golden frames on each engine, preprocessing, a stream from end to end."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from memedge_engines import backends
from memedge_engines.bundle import Bundle
from memedge_engines.frame import Frame
from memedge_engines.manifest import Preprocess

from ..errors import BackendUnavailable
from ..scorer import Scorer
from .frames import Pictures, level_contract
from .report import Failed, Skipped, Step

FILES = "files of the bundle"
_STREAM = "test://?size=320x240&fps=8&seconds=1"
_STREAM_FRAMES = 8


def host_steps(bundle: Bundle, gpu: bool = False) -> list[Step]:
    """The steps, cheapest first; ``gpu``: the GPU's steps follow, so that TensorRT is left to them."""
    there = set(bundle.lowerings())
    engines = [name for name in backends.automatic() if there.intersection(backends.get(name).lowerings)]
    if gpu and "tensorrt" in engines:
        engines.remove("tensorrt")
    pictures = functools.cache(lambda: Pictures(level_contract(bundle)))
    return [
        Step(FILES, lambda: _files(bundle)),
        Step("preprocessing, NumPy and Pillow", lambda: pictures().compare(_plain(pictures().contract))),
        Step("preprocessing, compiled", lambda: pictures().compare(_compiled(pictures().contract))),
        *(Step(f"golden frames, {name}", _golden(bundle, name), (FILES,)) for name in engines),
        Step("stream", lambda: _stream(bundle), (FILES,)),
    ]


def _files(bundle: Bundle) -> str:
    bundle.verify_files(lambda name: None)
    return f"{len(bundle.entries())} files have the hashes of the manifest"


def _golden(bundle: Bundle, name: str) -> Callable[[], str]:
    def work() -> str:
        from ..verify import verify

        if name == "tensorrt":
            raise Skipped("its plan is built and tested by the steps of a GPU", "memedge selftest --gpu")
        try:
            report = verify(bundle, name)
        except BackendUnavailable as error:
            raise Skipped(error.message.removeprefix(f"engine {name}: "), error.fix) from None
        rows = "; ".join(row.line().removeprefix(f"{name} ") for row in report.rows)
        if not report.preprocess_passed:
            apart = f"{report.preprocess.largest:.3g} levels (tolerance {report.preprocess_tolerance:g})"
            raise Failed(f"golden pictures differ by {apart}", fix="report it with these lines")
        if any(row.failed for row in report.rows):
            raise Failed(rows, fix="report it with these lines")
        if not report.passed:
            raise Skipped(rows)
        return rows

    return work


Picture = Callable[[Frame], NDArray[Any]]


def _plain(contract: Preprocess) -> Picture:
    from memedge_engines.preprocess.fast import NumpyPreprocessor

    return NumpyPreprocessor(contract).picture


def _compiled(contract: Preprocess) -> Picture:
    from memedge_engines.kernels.host import Absent, kernels
    from memedge_engines.preprocess.native import NativePreprocessor

    found = kernels()
    if isinstance(found, Absent):
        raise Skipped(found.reason, found.fix)
    return NativePreprocessor(contract).picture


def _stream(bundle: Bundle) -> str:
    from ..streaming import stream

    with Scorer(bundle) as scorer, stream(_STREAM, scorer) as readings:
        found = list(readings)
        engine = f"{scorer.engine} {scorer.precision}"
    wrong = [r.frame_index for r in found if r.score is not None and not 0 <= r.score <= 1]
    scored = [r for r in found if r.score is not None]
    if len(found) != _STREAM_FRAMES or wrong or not scored:
        raise Failed(
            f"{_STREAM} gave {len(found)} readings, {len(scored)} scored, {len(wrong)} of them outside 0..1; "
            f"expected {_STREAM_FRAMES}",
            fix="report it with these lines",
        )
    latency = sorted(r.latency_ms for r in scored if r.latency_ms is not None)
    told = f", median latency {latency[len(latency) // 2]:.1f} ms" if latency else ""
    return f"{len(found)} frames, {len(scored)} scored by {engine}, last rolling score {scored[-1].rolling:.3f}{told}"
