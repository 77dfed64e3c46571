"""Which bundles, engines and lowerings a measurement compares, and how one of them is opened."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from memedge_engines import backends, choice
from memedge_engines.backends.base import EngineOptions
from memedge_engines.bundle import Bundle
from memedge_engines.choice import Candidate
from memedge_engines.manifest import PRECISION_OF

from ..errors import EngineError, MemedgeError, UsageError
from ..scorer import FixedScorer
from .report import Skipped

PRECISIONS = ("auto", "all", "fp32", "fp16", "int8")
Tell = Callable[[str], None]


@dataclass
class Combination:
    """One bundle on one engine with one lowering.

    Attributes:
        name: what readings and tables call the bundle.
        precision: what the engine computes in, as it says itself once opened.
        open_ms: how long opening took, once opened.
    """

    bundle: Bundle
    name: str
    candidate: Candidate
    options: EngineOptions = field(default_factory=EngineOptions)
    precision: str = ""
    open_ms: float = 0.0

    def __post_init__(self) -> None:
        self.precision = self.precision or self.candidate.precision

    @property
    def engine(self) -> str:
        """The back end's name."""
        return self.candidate.backend

    @property
    def lowering(self) -> str:
        """The file of each node that runs."""
        return self.candidate.lowering

    @property
    def label(self) -> str:
        """``name, engine precision``; the lowering where the precision does not tell it."""
        detail = " (trt-int8)" if self.lowering == "trt-int8" else ""
        return f"{self.name}, {self.engine} {self.precision}{detail}"

    def open(self) -> FixedScorer:
        """Open it; EngineError or BackendUnavailable where that is not possible."""
        begin = time.perf_counter()
        scorer = FixedScorer(self.bundle, self.candidate, self.options)
        self.open_ms = (time.perf_counter() - begin) * 1e3
        self.precision = scorer.precision or self.precision
        return scorer

    def fields(self) -> dict[str, Any]:
        """The fields of a Result that name this combination."""
        manifest = self.bundle.manifest
        return {
            "label": self.label,
            "bundle": self.name,
            "model": manifest.provenance.model,
            "untrained": manifest.untrained,
            "bundle_hash": self.bundle.hash,
            "engine": self.engine,
            "precision": self.precision,
            "lowering": self.lowering,
        }


@dataclass
class Plan:
    """What to measure, what of it cannot be, and what ``auto`` takes for each bundle where that was found out."""

    combinations: list[Combination] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    auto: dict[str, str] = field(default_factory=dict)


def plan(
    bundles: Sequence[Bundle],
    engines: str | Sequence[str] = "auto",
    precisions: str | Sequence[str] = "auto",
    options: EngineOptions | None = None,
    tell: Tell = lambda text: None,
) -> Plan:
    """What to measure.

    Args:
        bundles: opened bundles.
        engines: ``auto`` (every usable engine is timed, the fastest is measured and remembered), ``all`` (timed and
            remembered likewise, all are measured), or names, also separated by commas.
        precisions: ``auto``, ``all``, or names, also separated by commas.
        tell: told what is being done.

    Raises:
        UsageError: an unknown precision.
        EngineError: an unknown engine, one named that cannot be used here, or nothing that could be measured.
    """
    wanted_engines, wanted = _words(engines), _words(precisions)
    for word in wanted:
        if word not in PRECISIONS:
            raise UsageError(f"precision '{word}'; expected one of {', '.join(PRECISIONS)}")
    opened = options or EngineOptions()
    made = Plan()
    for bundle, name in zip(bundles, _names(bundles), strict=True):
        found: dict[Candidate, None] = {}
        for word in wanted_engines:
            if word == "auto":
                found.update(dict.fromkeys(_auto(bundle, name, wanted, opened, made, tell)))
            elif word == "all":
                if {"auto", "all"} & set(wanted):
                    _auto(bundle, name, ["auto"], opened, made, tell)
                for engine in backends.names():
                    found.update(dict.fromkeys(_of_engine(bundle, name, engine, wanted, made.skipped)))
            else:
                candidates = _of_engine(bundle, name, word, wanted, None)
                found.update(dict.fromkeys(candidates))
        made.combinations += [Combination(bundle, name, candidate, opened) for candidate in found]
    if not made.combinations:
        raise _nothing(made.skipped)
    return made


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


def _auto(
    bundle: Bundle, name: str, precisions: Sequence[str], options: EngineOptions, made: Plan, tell: Tell
) -> list[Candidate]:
    """For each precision the engine that ``auto`` takes here once every engine was timed."""
    wanted: dict[str, None] = {}
    for precision in precisions:
        wanted.update(dict.fromkeys(_precisions_of(bundle) if precision == "all" else [precision]))
    found = []
    for precision in wanted:
        tell(f"{name}: timing every engine")
        timings = choice.tune(bundle, "auto", precision, options)
        usable = [timing for timing in timings if timing.median_ms is not None]
        if usable:
            found.append(usable[0].candidate)
            if precision == "auto":
                made.auto[name] = str(usable[0].candidate)
        else:
            reasons = "; ".join(f"{timing.candidate}: {timing.reason}" for timing in timings)
            made.skipped.append(Skipped(name, f"auto {precision}", reasons or "no engine runs it"))
    return found


def _precisions_of(bundle: Bundle) -> list[str]:
    return list(dict.fromkeys(PRECISION_OF[lowering] for lowering in bundle.lowerings()))


def _of_engine(
    bundle: Bundle, name: str, engine: str, precisions: Sequence[str], skipped: list[Skipped] | None
) -> list[Candidate]:
    """What one engine runs of the wanted precisions. ``skipped`` none: it was named, what it cannot do is an error."""
    backend = backends.get(engine)
    found = backend.availability()
    if not found.usable:
        if skipped is None:
            raise EngineError(f"engine {engine}: {found.reason}", fix=found.fix)
        skipped.append(Skipped(name, engine, f"{found.reason}{f' (fix: {found.fix})' if found.fix else ''}"))
        return []
    if "all" in precisions:
        there = [Candidate(engine, low) for low in backend.lowerings if low in bundle.lowerings()]
        if there:
            return there
        precisions = ["auto"]
    chosen: dict[Candidate, None] = {}
    for precision in precisions:
        try:
            chosen[choice.candidates(bundle, engine, precision)[0]] = None
        except EngineError as error:
            if skipped is None:
                raise
            skipped.append(Skipped(name, f"{engine} {precision}", str(error)))
    return list(chosen)


def _nothing(skipped: Sequence[Skipped]) -> EngineError:
    reasons = "; ".join(f"{s.engine}: {s.reason}" for s in skipped) or "no bundle was named"
    # A reason that names its own fix is mended by that.
    return EngineError(f"nothing can be measured: {reasons}", fix=None if "(fix: " in reasons else "memedge doctor")


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
        raise _nothing(skipped)
    return ready
