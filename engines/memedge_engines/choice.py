"""Which engine runs a bundle here: remembered or first usable at once; measured and remembered when asked to.

``precision="auto"``: int8 where its lowering passed the fidelity gate and the back end runs it, else fp16 on a GPU and
fp32 on a CPU. A lowering passed the gate when the manifest records a tolerance of its golden scores.
"""

from __future__ import annotations

import difflib
import importlib.metadata
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from . import backends, cache, golden, hardware
from .backends.base import Backend, Engine, EngineOptions
from .bundle import Bundle
from .errors import BackendUnavailable, EngineError, PlanMismatch, PlanMissing, UnknownName
from .manifest import LOWERINGS, PRECISION_OF, Node, lowering_of
from .timing import Contestant, rounds

PRECISIONS = ("auto", "fp32", "fp16", "int8")
_KIND = "engines"


@dataclass(frozen=True)
class Candidate:
    """A back end and the lowering that it would run."""

    backend: str
    lowering: str

    @property
    def precision(self) -> str:
        """Precision of the lowering: ``fp32``, ``fp16`` or ``int8``."""
        return PRECISION_OF[self.lowering]

    def __str__(self) -> str:
        return f"{self.backend} {self.precision}"


@dataclass(frozen=True)
class Skipped:
    """A candidate that could not be used, why, and what would mend it."""

    candidate: Candidate
    reason: str
    fix: str | None = None


@dataclass(frozen=True)
class Choice:
    """What runs the bundle. ``engines``: graph node name to its opened engine, which the holder closes."""

    candidate: Candidate
    engines: dict[str, Engine]
    skipped: tuple[Skipped, ...] = ()
    remembered: bool = False


@dataclass(frozen=True)
class Timing:
    """One candidate's time for one frame through all graph nodes, or why it has none.

    ``median_ms`` and ``p90_ms`` in milliseconds over ``runs`` timed runs with a batch of one.
    """

    candidate: Candidate
    median_ms: float | None = None
    p90_ms: float | None = None
    runs: int = 0
    reason: str = ""
    fix: str | None = None

    def line(self) -> str:
        """One line for people."""
        if self.median_ms is None or self.p90_ms is None:
            return f"{self.candidate}: not usable: {self.reason}" + (f" (fix: {self.fix})" if self.fix else "")
        return f"{self.candidate}: median {self.median_ms:.2f} ms, p90 {self.p90_ms:.2f} ms, {self.runs} runs"


def candidates(bundle: Bundle, engine: str = "auto", precision: str = "auto") -> list[Candidate]:
    """What could run the bundle, in the order in which an unmeasured device tries it. Imports no library.

    Raises:
        EngineError: an unknown engine or precision, or one that cannot run any lowering of this bundle.
    """
    check_precision(precision)
    names = backends.automatic() if engine == "auto" else [engine]
    found = [c for name in names for c in _of_backend(bundle, backends.get(name), precision)]
    if found:
        return found
    there = sorted({PRECISION_OF[lowering] for lowering in bundle.lowerings()})
    if precision != "auto" and precision not in there:
        raise EngineError(
            f"bundle '{bundle.manifest.name}' has no {precision} lowering; it has {', '.join(there) or 'none'}",
            fix=f"memedge export --precision {precision}",
        )
    who = "no engine here" if engine == "auto" else f"engine {engine} does not run"
    wanted = "any lowering" if precision == "auto" else f"the {precision} lowering"
    verb = " runs" if engine == "auto" else ""
    raise EngineError(
        f"{who}{verb} {wanted} of bundle '{bundle.manifest.name}', which has {', '.join(there) or 'none'}"
    )


def first(
    bundle: Bundle,
    engine: str = "auto",
    precision: str = "auto",
    options: EngineOptions | None = None,
    accept: Callable[[Mapping[str, Engine]], object] | None = None,
) -> Choice:
    """Open the remembered or first usable candidate; nothing is timed and no other library is imported.

    Args:
        accept: given the opened engines; an EngineError of it makes the candidate an unusable one. It has closed the
            engines then.

    Raises:
        EngineError: unknown names; the engine that was asked for cannot be used; or nothing can.
    """
    wanted = options or EngineOptions()
    order = candidates(bundle, engine, precision)
    known = remembered(bundle, precision, wanted) if engine == "auto" else None
    if known in order:
        order = [known, *(c for c in order if c != known)]
    skipped: list[Skipped] = []
    errors: list[EngineError] = []
    for candidate in order:
        try:
            engines = open_engines(bundle, candidate, wanted)
            if accept is not None:
                accept(engines)
        except EngineError as error:
            skipped.append(Skipped(candidate, bare(candidate, error), error.fix))
            errors.append(error)
            continue
        return Choice(candidate, engines, tuple(skipped), candidate == known)
    if engine != "auto":
        raise errors[0]
    reasons = "; ".join(dict.fromkeys(f"{s.candidate.backend}: {s.reason}" for s in skipped))
    raise EngineError(f"no engine can run bundle '{bundle.manifest.name}' here: {reasons}", fix="memedge doctor")


def open_engines(bundle: Bundle, candidate: Candidate, options: EngineOptions | None = None) -> dict[str, Engine]:
    """Graph node name to its engine, all of one candidate; a node without its lowering runs its best float form.

    Raises:
        BackendUnavailable: its library cannot be used here.
        EngineError: its library refuses a node; those opened before are closed.
    """
    backend = backends.get(candidate.backend)
    if not backend.installed():
        found = backend.availability()
        raise BackendUnavailable(f"engine {backend.name}: {found.reason}", fix=found.fix)
    opened: dict[str, Engine] = {}
    try:
        for node in bundle.manifest.nodes:
            if node.kind == "graph":
                opened[node.name] = _open_node(bundle, node, candidate, backend, options)
    except BaseException:
        for engine in opened.values():
            engine.close()
        raise
    return opened


def _open_node(
    bundle: Bundle, node: Node, candidate: Candidate, backend: Backend, options: EngineOptions | None
) -> Engine:
    lowering = lowering_of(node, candidate.lowering)
    try:
        return backend.open(bundle, node, lowering, options)
    except PlanMissing as error:
        if lowering == candidate.lowering:
            raise
        from .plans.lookup import build_command

        # The build of the candidate's lowering makes the plans of all nodes, also of those that stand in.
        fix = build_command(bundle, candidate.lowering, (options or EngineOptions()).max_batch)
        raise PlanMissing(error.message, log=error.log, fix=fix) from None


def unbuilt(
    bundle: Bundle, engine: str = "auto", precision: str = "auto", options: EngineOptions | None = None
) -> Candidate | None:
    """What could run the bundle once its plan is built here: TensorRT's best candidate, while it has no fitting plan.

    None where TensorRT is not usable or not wanted.
    """
    try:
        best = next((c for c in candidates(bundle, engine, precision) if c.backend == "tensorrt"), None)
    except EngineError:
        return None
    if best is None or not backends.get(best.backend).installed():
        return None
    if not backends.get(best.backend).availability().usable:
        return None
    return None if planned(bundle, best, options) else best


def planned(bundle: Bundle, candidate: Candidate, options: EngineOptions | None = None) -> bool:
    """Whether every graph node has a stored plan that fits this machine; for a candidate of a usable TensorRT."""
    from .plans import library, lookup
    from .plans.machine import Machine

    machine = Machine.here(library.tensorrt())
    for node in bundle.manifest.nodes:
        if node.kind == "graph":
            try:
                lowering = lowering_of(node, candidate.lowering)
                lookup.find(bundle, node, lowering, (options or EngineOptions()).max_batch, machine)
            except (PlanMissing, PlanMismatch):
                return False
    return True


def tune(
    bundle: Bundle,
    engine: str = "auto",
    precision: str = "auto",
    options: EngineOptions | None = None,
    *,
    count: int = 15,
    budget_s: float = 6.0,
    progress: Callable[[str], None] | None = None,
) -> list[Timing]:
    """Time every usable candidate on golden frames, fastest first, and remember the best in the user's cache.

    Args:
        count: timed rounds; fewer (at least 5) when ``budget_s`` seconds of running time are spent.
        progress: told what is being done, in a few words.

    Raises:
        EngineError: unknown names.
        BundleError: golden frames that are missing or altered.
    """
    steps = tuning(bundle, engine, precision, options, count=count, budget_s=budget_s)
    while True:
        try:
            text = next(steps)
        except StopIteration as stop:
            timings: list[Timing] = stop.value
            return timings
        if progress is not None:
            progress(text)


def tuning(
    bundle: Bundle,
    engine: str = "auto",
    precision: str = "auto",
    options: EngineOptions | None = None,
    *,
    count: int = 15,
    budget_s: float = 6.0,
) -> Generator[str, None, list[Timing]]:
    """:func:`tune` in small steps: yields after each engine opened and each single run, returns the timings.

    Closing the generator closes the engines; nothing is remembered then.
    """
    wanted = options or EngineOptions()
    frames = golden.read(bundle)
    running: dict[str, Contestant] = {}
    by_name: dict[str, Candidate] = {}
    failed: list[Timing] = []
    try:
        for group in _by_backend(candidates(bundle, engine, precision)):
            # Of each back end the first lowering that opens: that is what `auto` would run on it.
            for candidate in group:
                yield f"opening {candidate}"
                try:
                    contestant = _enter(bundle, frames, candidate, wanted)
                except EngineError as error:
                    failed.append(Timing(candidate, reason=bare(candidate, error), fix=error.fix))
                    continue
                running[str(candidate)], by_name[str(candidate)] = contestant, candidate
                break
        for current, number in rounds(running, count, budget_s):
            yield f"{current}: warm-up" if number < 0 else f"{current}: run {number + 1}/{count}"
        timed = []
        for name, one in running.items():
            if one.error is None:
                timed.append(Timing(by_name[name], one.median_ms(), one.p90_ms(), len(one.seconds)))
            else:
                failed.append(Timing(by_name[name], reason=bare(by_name[name], one.error), fix=one.error.fix))
    finally:
        for contestant in running.values():
            contestant.close()
    timed.sort(key=lambda t: t.median_ms or 0.0)
    if timed and engine == "auto":
        best = timed[0]
        value = {"backend": best.candidate.backend, "lowering": best.candidate.lowering, "median_ms": best.median_ms}
        cache.store(_KIND, _key(bundle, precision, wanted), {**value, "bundle_name": bundle.manifest.name})
    return [*timed, *failed]


def remembered(bundle: Bundle, precision: str = "auto", options: EngineOptions | None = None) -> Candidate | None:
    """The candidate that was fastest here with these library versions, or none."""
    value = cache.load(_KIND, _key(bundle, precision, options or EngineOptions()))
    if value is None:
        return None
    backend, lowering = value.get("backend"), value.get("lowering")
    known = isinstance(backend, str) and lowering in LOWERINGS
    return Candidate(str(backend), str(lowering)) if known else None


def all_remembered() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(key, value) of everything remembered on this device and others that share the cache, newest first."""
    return cache.entries(_KIND)


def library_versions(names: Iterable[str] | None = None) -> dict[str, str]:
    """Installed packages of all (or these) back ends and their versions, without importing them."""
    found = {}
    for name in backends.names() if names is None else names:
        for distribution in backends.get(name).distributions:
            try:
                found[distribution] = importlib.metadata.version(distribution)
            except importlib.metadata.PackageNotFoundError:
                continue
    return found


def bare(candidate: Candidate, error: EngineError) -> str:
    """An error's message without the engine's name, for lines that begin with it."""
    return error.message.removeprefix(f"engine {candidate.backend}: ")


def _key(bundle: Bundle, precision: str, options: EngineOptions) -> dict[str, Any]:
    key: dict[str, Any] = {
        "bundle": bundle.hash,
        "device": hardware.device_key(),
        "precision": precision,
        "threads": options.threads,
        "bf16": options.bf16,
        "libraries": library_versions(),
    }
    if hardware.nvidia_driver():
        from .plans import store

        # A plan that was built since is a candidate that was never timed.
        key["plans"] = sorted(path.name for path in store.stored(bundle))
    return key


def check_precision(precision: str) -> None:
    """Raise UnknownName for a precision that does not exist."""
    if precision not in PRECISIONS:
        near = difflib.get_close_matches(precision, PRECISIONS, 1)
        hint = f"; did you mean '{near[0]}'?" if near else ";"
        raise UnknownName(f"no precision '{precision}'{hint} there are {', '.join(PRECISIONS)}")


def _of_backend(bundle: Bundle, backend: Backend, precision: str) -> list[Candidate]:
    there = [low for low in backend.lowerings if low in bundle.lowerings()]
    if precision != "auto":
        return [Candidate(backend.name, low) for low in there if PRECISION_OF[low] == precision]
    order = ("int8", "fp16", "fp32") if backend.gpu else ("int8", "fp32")
    passed = bundle.manifest.golden.tolerance
    return [Candidate(backend.name, low) for p in order for low in there if PRECISION_OF[low] == p and low in passed]


def _by_backend(found: Iterable[Candidate]) -> list[list[Candidate]]:
    groups: dict[str, list[Candidate]] = {}
    for candidate in found:
        groups.setdefault(candidate.backend, []).append(candidate)
    return list(groups.values())


def _enter(bundle: Bundle, frames: golden.GoldenFrames, candidate: Candidate, options: EngineOptions) -> Contestant:
    engines = open_engines(bundle, candidate, options)
    try:
        return Contestant(bundle, frames, candidate.lowering, engines)
    except BaseException:
        for engine in engines.values():
            engine.close()
        raise
