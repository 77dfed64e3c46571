"""Numbers made by hand: what the sentences say of them, what the table and the plot show."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from memedge.bench import BenchReport, Result, Spread, from_json
from memedge.bench.report import Decoding, Histogram, Machine, Paced, Settings, Skipped, Start
from memedge.bench.sentences import bound, compare, explain, sentences, warnings
from memedge.environment import Clocks, Environment
from memedge.errors import MemedgeError, UsageError

QUIET = Machine(load_before=0.0, others_busy=0.0, stolen_share=0.0, yardstick_ms=[1.0, 1.01], clocks=[Clocks()])
HERE = Environment(
    system="Linux 6", machine="x86_64", python="CPython 3.11", cpu="Some CPU", cores=4, usable_cores=4, vnni=True
)


def spread(value: float, p90: float | None = None) -> Spread:
    tail = value if p90 is None else p90
    return Spread(count=200, mean=value, p50=value, p90=tail, p99=tail, max=tail)


def result(fps: float, busy: float = 1.0, samples: int = 200, **changes: Any) -> Result:
    names = ("decode", "preprocess", "infer", "rolling", "sinks")
    stages = {name: spread(changes.pop(name)) for name in names if name in changes}
    fields: dict[str, Any] = {
        "label": "net, engine fp32",
        "bundle": "net",
        "model": "net",
        "untrained": False,
        "bundle_hash": "0" * 64,
        "engine": "engine",
        "precision": "fp32",
        "lowering": "fp32",
        "warmup": 10,
        "samples": samples,
        "stages": stages,
        "end_to_end": spread(sum(s.mean for s in stages.values())),
        "histogram": Histogram.of([1.0, 2.0, 4.0]),
        "throughput_fps": fps,
        "throughput_rounds": [fps],
        "infer_rounds": [stages["infer"].p50] if "infer" in stages else [],
        "cpu_ms": 5.0,
        "cores_busy": busy,
        "engine_cpu_ms": 4.0,
        "added_share": 0.1,
        "open_ms": 50.0,
    }
    return Result(**(fields | changes))


def report(*results: Result, **changes: Any) -> BenchReport:
    fields: dict[str, Any] = {
        "schema": 1,
        "created": "2026-01-01T00:00:00+00:00",
        "settings": Settings(
            source="clip.mp4",
            kind="file",
            width=64,
            height=48,
            rounds=3,
            warmup=5,
            frames=None,
            seconds=10.0,
            threads=0,
        ),
        "environment": HERE,
        "machine": QUIET,
        "decoding": Decoding(wall_ms=2.0, cpu_ms=3.0),
        "results": list(results),
        "skipped": [],
    }
    return BenchReport(**(fields | changes))


PLAIN = {"preprocess": 2.0, "infer": 8.0, "rolling": 0.1, "sinks": 0.1}


def test_spread_is_numpys() -> None:
    values = np.random.default_rng(0).gamma(2, 3, 501).tolist()
    found = Spread.of(values)
    assert found is not None
    assert [found.p50, found.p90, found.p99] == pytest.approx(np.percentile(values, [50, 90, 99]), abs=1e-4)
    assert found.max == pytest.approx(max(values), abs=1e-4)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-4)
    assert found.count == 501
    assert Spread.of([]) is None


def test_histogram_holds_every_sample() -> None:
    values = np.random.default_rng(0).gamma(2, 3, 501).tolist()
    for sample in (values, [1.0] * 9, [0.0, 5.0]):
        found = Histogram.of(sample)
        assert found is not None
        assert sum(found.counts) == len(sample)
        assert len(found.edges) == len(found.counts) + 1
        assert found.edges == sorted(found.edges)
    assert Histogram.of([]) is None


@pytest.mark.parametrize(
    ("measured", "decoding", "kind"),
    [
        (result(95, **PLAIN), 2.0, "infer"),
        (result(95, **{**PLAIN, "preprocess": 8.0, "infer": 2.0}), 2.0, "preprocess"),
        (result(45, **PLAIN), 22.0, "decode"),
        (result(30, **{**PLAIN, "sinks": 30.0}), 2.0, "sinks"),
        # 10 ms of engine a frame, yet 20 ms pass: either all cores are busy, or something else was slow.
        (result(50, busy=3.9, **PLAIN), 9.0, "cores"),
        (result(50, busy=1.5, **PLAIN), 9.0, "infer"),
    ],
)
def test_what_bounds_a_file(measured: Result, decoding: float, kind: str) -> None:
    alone = Decoding(wall_ms=decoding, cpu_ms=decoding)
    assert bound(measured, 4, alone) == kind
    words = {"infer": "inference-bound", "cores": "processor-bound", "sinks": "output-bound"}.get(kind, f"{kind}-bound")
    sentence = explain(measured, 4, alone)
    assert words in sentence
    assert sentence.startswith("net, engine fp32: ")
    assert f"decoding alone {decoding:.2f}" in sentence


def paced(fps: float, delivered: float, within: float = 1.0) -> Result:
    state = Paced(source_fps=delivered, age=spread(12.0, 20.0), bound_ms=43.0, within_bound=within, dropped=3)
    return result(fps, paced=state, **PLAIN)


def test_what_bounds_a_live_source() -> None:
    assert bound(paced(30.0, 30.0), 4) == "source"
    assert bound(paced(20.0, 30.0), 4) == "infer"
    sentence = explain(paced(30.0, 30.0), 4)
    assert "source-bound" in sentence
    assert "30 % of the time" in sentence
    assert "12.0 ms old" in sentence


def test_comparison_names_the_fastest_of_each_bundle() -> None:
    slow = result(10, **PLAIN)
    fast = msgspec.structs.replace(
        result(20, **{**PLAIN, "infer": 4.0}), engine="other", precision="int8", label="net, other int8"
    )
    alone = msgspec.structs.replace(result(10, **PLAIN), bundle="one")
    (sentence,) = compare([slow, fast, alone])
    assert sentence == "net: other int8 infers fastest, 4.00 ms; the others take engine fp32 2.00x"


def test_sentences_tell_untrained_skipped_and_auto() -> None:
    untrained = msgspec.structs.replace(result(10, **PLAIN), untrained=True)
    said = sentences([untrained], HERE, None, [Skipped("net", "gpu", "no driver")], {"net": "other int8"})
    assert any("UNTRAINED" in s for s in said)
    assert "net: gpu was not measured: no driver" in said
    assert any("auto takes other int8" in s for s in said)


def test_quiet_machine_has_no_warnings() -> None:
    assert warnings([result(95, **PLAIN)], HERE, QUIET) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"others_busy": 0.5}, "noisy machine: other processes kept 0.5 of 4 cores busy"),
        ({"others_busy": None, "load_before": 2.0}, "load average was 2.0"),
        ({"stolen_share": 0.05}, "hypervisor took 5 %"),
        ({"yardstick_ms": [1.0, 1.2]}, "unstable clocks: the same arithmetic took up to 20 % longer"),
        ({"clocks": [Clocks([2000.0, 2000.0]), Clocks([3000.0, 3000.0])]}, "between 2000 and 3000 MHz"),
    ],
)
def test_machine_warnings(changes: dict[str, Any], words: str) -> None:
    (warning,) = warnings([result(95, **PLAIN)], HERE, msgspec.structs.replace(QUIET, **changes))
    assert words in warning


@pytest.mark.parametrize(
    ("measured", "environment", "words"),
    [
        (result(95, infer_rounds=[8.0, 9.5], **PLAIN), {}, "median inference moved between 8.00 and 9.50"),
        (result(95, samples=20, **PLAIN), {}, "20 samples"),
        (result(95, precision="int8", **PLAIN), {"vnni": False}, "no 8-bit dot products"),
        (result(95, **PLAIN), {"governor": "powersave"}, "'powersave'"),
        (paced(20.0, 30.0, 0.9), {}, "10 % of the readings are older"),
    ],
)
def test_result_warnings(measured: Result, environment: dict[str, Any], words: str) -> None:
    (warning,) = warnings([measured], msgspec.structs.replace(HERE, **environment), QUIET)
    assert words in warning


def test_variance_warning() -> None:
    stages = {"infer": spread(8.0, 12.0)}
    (warning,) = warnings([msgspec.structs.replace(result(95, **PLAIN), stages=stages)], HERE, QUIET)
    assert "high variance: inference p90 12.00 ms, p50 8.00 ms" in warning


def test_lines_hold_everything() -> None:
    start = Start(first_score_ms=640.0, open_ms=80.0, peak_memory_mb=133.0, frames=20)
    whole = report(
        result(95, decode=1.0, start=start, **PLAIN),
        paced(30.0, 30.0),
        sentences=["a sentence"],
        warnings=["a warning"],
    )
    text = "\n".join(whole.lines())
    for words in (
        "Some CPU", "clip.mp4 64x48", "decode", "preprocess", "infer", "rolling", "sinks", "end to end",
        "95.0 frames a second", "640 ms", "133 MiB", "frame age p50 12.0", "a sentence", "WARNING a warning",
        "alone 2.00 ms",
    ):  # fmt: skip
        assert words in text


def test_table_on_a_terminal_and_plain_lines_elsewhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = report(result(95, decode=1.0, **PLAIN), sentences=["a [bracketed] sentence"], warnings=["a warning"])
    whole.print()
    assert capsys.readouterr().out.splitlines() == whole.lines()
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    whole.print()
    shown = capsys.readouterr().out
    assert "side by side" in shown
    assert "a [bracketed] sentence" in shown
    assert "WARNING a warning" in shown


def test_plot_is_a_picture(tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "out.png"
    report(result(95, decode=1.0, **PLAIN), result(9, decode=1.0, **{**PLAIN, "infer": 300.0})).plot(path)
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with Image.open(path) as image:
        assert min(image.size) > 200
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 20


def test_plot_names_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = report(result(95, **PLAIN))
    with pytest.raises(UsageError, match=r"\.png"):
        one.plot(tmp_path / "out.gif")
    with pytest.raises(UsageError, match="no results"):
        report().plot(tmp_path / "out.png")
    with pytest.raises(MemedgeError, match="cannot write"):
        one.plot(tmp_path / "no-folder" / "out.png")
    real = builtins.__import__

    def without(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MemedgeError, match=r"memedge\[plot\]"):
        one.plot(tmp_path / "out.png")


def test_report_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(MemedgeError, match="cannot write"):
        report(result(95, **PLAIN)).save(tmp_path / "no-folder" / "report.json")


@pytest.mark.parametrize("text", ["", "{}", "[1]", "not json"])
def test_not_a_report(text: str) -> None:
    with pytest.raises(UsageError, match="not a report"):
        from_json(text)


def test_newer_schema() -> None:
    newer = report(result(95, **PLAIN), schema=2).to_json()
    with pytest.raises(UsageError, match="schema 2"):
        from_json(newer)
