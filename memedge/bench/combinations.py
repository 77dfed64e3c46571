"""Which bundles, engines and lowerings a measurement compares, and how one of them is opened."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from memedge_engines import backends
from memedge_engines.backends.base import Engine, EngineOptions
from memedge_engines.bundle import Bundle
from memedge_engines.executor import Executor
from memedge_engines.host_executor import HostExecutor
from memedge_engines.manifest import PRECISION_OF, Manifest

from ..errors import EngineError, MemedgeError, UsageError
from ..scorer import Scorer
from .report import Skipped

PRECISIONS = ("auto", "all", "fp32", "fp16", "int8")


class FixedScorer(Scorer):
    """A Scorer on engines that were chosen already, lowering by lowering; nothing is picked or remembered."""

    def __init__(self, bundle: Bundle, engines: dict[str, Engine], options: EngineOptions) -> None:
        self.bundle = bundle
        self.max_batch = options.max_batch
        self.options = options
        self.executor: Executor = HostExecutor(bundle, engines, max_batch=options.max_batch)
        self._ready(bundle.manifest)

    def _ready(self, _manifest: Manifest) -> None:
        import threading

        self._lock = threading.Lock()
        self._closed = False


@dataclass
class Combination:
    """One bundle on one engine with one lowering.

    Attributes:
        name: what readings and tables call the bundle.
        label: ``name, engine precision``.
        open_ms: how long opening took, once opened.
    """

    bundle: Bundle
    name: str
    engine: str
    lowering: str
    options: EngineOptions = field(default_factory=EngineOptions)
    open_ms: float = 0.0

    @property
    def precision(self) -> str:
        """``fp32``, ``fp16`` or ``int8``; ``bf16`` only by explicit option."""
        return "bf16" if self.options.bf16 and self.engine == "openvino" else PRECISION_OF[self.lowering]

    @property
    def label(self) -> str:
        """What tables call it."""
        detail = f" ({self.lowering})" if self.lowering.startswith("trt-") and self.precision == "int8" else ""
        return f"{self.name}, {self.engine} {self.precision}{detail}"

    def open(self) -> FixedScorer:
        """Open it; EngineError or BackendUnavailable where that is not possible."""
        begin = time.perf_counter()
        scorer = open_fixed(self.bundle, self.engine, self.lowering, self.options)
        self.open_ms = (time.perf_counter() - begin) * 1e3
        return scorer


def open_fixed(bundle: Bundle, engine: str, lowering: str, options: EngineOptions | None = None) -> FixedScorer:
    """A Scorer on exactly this engine and lowering.

    Raises:
        EngineError: the engine does not run this lowering, or the library refuses it.
        BackendUnavailable: the engine cannot be used here.
    """
    backend = backends.get(engine)
    opened: dict[str, Engine] = {}
    wanted = options or EngineOptions()
    try:
        for node in bundle.manifest.nodes:
            if node.kind == "graph":
                opened[node.name] = backend.open(bundle, node, lowering, wanted)
        return FixedScorer(bundle, opened, wanted)
    except BaseException:
        for one in opened.values():
            one.close()
        raise


def plan(
    bundles: Sequence[Bundle],
    engines: str | Sequence[str] = "auto",
    precisions: str | Sequence[str] = "auto",
    options: EngineOptions | None = None,
) -> tuple[list[Combination], list[Skipped]]:
    """What to measure, and what of it cannot be.

    Args:
        bundles: opened bundles.
        engines: ``auto`` (the engine that a tuned ``auto`` takes), ``all``, or names, also separated by commas.
        precisions: ``auto``, ``all``, or names, also separated by commas.

    Raises:
        UsageError: an unknown precision.
        EngineError: an unknown engine, one named that cannot be used here, or nothing that could be measured.
    """
    wanted_engines, wanted_precisions = _words(engines), _words(precisions)
    for word in wanted_precisions:
        if word not in PRECISIONS:
            raise UsageError(f"precision '{word}'; expected one of {', '.join(PRECISIONS)}")
    chosen: list[Combination] = []
    skipped: list[Skipped] = []
    for bundle, name in zip(bundles, _names(bundles), strict=True):
        for engine, named in _engines(bundle, wanted_engines, wanted_precisions, options):
            backend = backends.get(engine)
            found = backend.availability()
            if not found.usable:
                if named:
                    raise EngineError(f"engine {engine}: {found.reason}", fix=found.fix)
                fix = f" (fix: {found.fix})" if found.fix else ""
                skipped.append(Skipped(name, engine, f"{found.reason}{fix}"))
                continue
            lowerings = _lowerings(bundle, engine, wanted_precisions)
            if not lowerings:
                wanted = ", ".join(wanted_precisions)
                skipped.append(Skipped(name, engine, f"the bundle has no lowering of precision {wanted} that it runs"))
            chosen += [Combination(bundle, name, engine, lowering, options or EngineOptions()) for lowering in lowerings]
    if not chosen:
        reasons = "; ".join(f"{s.engine}: {s.reason}" for s in skipped)
        raise EngineError(f"nothing can be measured: {reasons or 'no bundle was named'}", fix="memedge doctor")
    return chosen, skipped


def _words(names: str | Sequence[str]) -> list[str]:
    parts: Iterable[str] = [names] if isinstance(names, str) else names
    words = [word.strip() for part in parts for word in part.split(",")]
    if not all(words) or not words:
        raise UsageError(f"an empty name in {names!r}; expected names separated by commas")
    return list(dict.fromkeys(words))


def _names(bundles: Sequence[Bundle]) -> list[str]:
    """The bundles' names, told apart by a number where two are the same."""
    names: list[str] = []
    for bundle in bundles:
        name, number = bundle.manifest.name, 2
        while name in names:
            name, number = f"{bundle.manifest.name}#{number}", number + 1
        names.append(name)
    return names


def _engines(
    bundle: Bundle, wanted: Sequence[str], precisions: Sequence[str], options: EngineOptions | None
) -> list[tuple[str, bool]]:
    """(engine, named by the caller) in order, each once."""
    found: dict[str, bool] = {}
    for word in wanted:
        if word == "all":
            for name in backends.names():
                found.setdefault(name, False)
        elif word == "auto":
            for precision in precisions:
                found.setdefault(_auto(bundle, precision, options), False)
        else:
            backends.get(word)
            found[word] = True
    return list(found.items())


def _auto(bundle: Bundle, precision: str, options: EngineOptions | None) -> str:
    """The engine that ``auto`` takes here once every engine was timed."""
    raise NotImplementedError


def _lowerings(bundle: Bundle, engine: str, precisions: Sequence[str]) -> list[str]:
    """The bundle's lowerings that an engine runs and the precisions ask for, the engine's preferred first."""
    backend = backends.get(engine)
    there = [lowering for lowering in backend.lowerings if lowering in bundle.lowerings()]
    if "all" in precisions:
        return there
    found: dict[str, None] = {}
    for precision in precisions:
        if precision == "auto":
            found.update(dict.fromkeys(there[:1]))
        else:
            found.update(dict.fromkeys([low for low in there if PRECISION_OF[low] == precision][:1]))
    return list(found)


def opened(combinations: Sequence[Combination], skipped: list[Skipped]) -> list[tuple[Combination, FixedScorer]]:
    """Open every combination; one that fails joins the skipped ones with its reason.

    Raises:
        EngineError: none of them could be opened.
    """
    ready: list[tuple[Combination, FixedScorer]] = []
    try:
        for combination in combinations:
            try:
                ready.append((combination, combination.open()))
            except MemedgeError as error:
                skipped.append(Skipped(combination.name, f"{combination.engine} {combination.precision}", str(error)))
    except BaseException:
        for _, scorer in ready:
            scorer.close()
        raise
    if not ready:
        raise EngineError(f"nothing can be measured: {'; '.join(s.reason for s in skipped)}", fix="memedge doctor")
    return ready


def info_of(combination: Combination) -> dict[str, Any]:
    """The fields of a Result that name a combination."""
    manifest = combination.bundle.manifest
    return {
        "label": combination.label,
        "bundle": combination.name,
        "model": manifest.provenance.model,
        "untrained": manifest.untrained,
        "bundle_hash": combination.bundle.hash,
        "engine": combination.engine,
        "precision": combination.precision,
        "lowering": combination.lowering,
    }
