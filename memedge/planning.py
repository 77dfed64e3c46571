"""Planner: while a run is scoring, build the TensorRT plan that it lacks and go over to it.

Scoring has begun on whatever engine needs no plan. The plan is built in a child process, opened and checked on golden
frames in a thread here, and takes over between two frames. Whatever goes wrong on the way is said once, and scoring
goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from memedge_engines import choice, golden
from memedge_engines.bundle import Bundle
from memedge_engines.choice import Candidate

from .building import PERCENT, build
from .console import Progress, say
from .errors import BuildCancelled, EngineError
from .replacing import Replacements
from .scorer import FixedScorer, Scorer

# A line each so many per cent of a build that takes minutes.
_STEP_PERCENT = 5


class Planner:
    """Builds plans for the opened scorers of one run, one after the other.

    Args:
        scorers: label to scorer; those that run on TensorRT already are left alone.
    """

    def __init__(self, scorers: Mapping[str, Scorer]) -> None:
        self._scorers = {label: s for label, s in scorers.items() if s.choice.candidate.backend != "tensorrt"}
        self._ready = Replacements(scorers)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def busy(self) -> bool:
        """Whether plans may still be built, or wait to take over."""
        if self._thread is None:
            return bool(self._scorers)
        return self._thread.is_alive() or any(map(self._ready.waiting, self._scorers))

    def between(self, frames: int) -> None:
        """Called by the loop between frames: the first call begins to build, later ones change engines."""
        if not self._scorers:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="memedge-planner", daemon=True)
            self._thread.start()
        self._ready.take()

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait for the building to end, if it has begun."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def close(self) -> None:
        """Stop a build and its child process; engines that nobody took are closed. Safe to call twice."""
        self._stop.set()
        self.wait()
        self._ready.close()

    def _work(self) -> None:
        for label, scorer in self._scorers.items():
            if self._stop.is_set():
                return
            try:
                self._plan(label, scorer)
            except BuildCancelled:
                say(f"{label}: the TensorRT plan was not finished; memedge build '{scorer.bundle.path}' builds it")
            except Exception as error:  # whatever a library comes up with, the run goes on with the engine it has
                text = " ".join(str(error).split())
                say(f"{label}: goes on with {scorer.engine} ({scorer.precision}), without a TensorRT plan: {text}")

    def _plan(self, label: str, scorer: Scorer) -> None:
        wanted = choice.unbuilt(scorer.bundle, "auto", scorer.wanted_precision, scorer.options)
        if wanted is None:
            return
        say(f"{label}: building the TensorRT plan ({wanted.precision}); {scorer.engine} scores meanwhile")
        build_plan(scorer.bundle, wanted, scorer.max_batch, _Lines(f"memedge: {label}: TensorRT plan"), self._stop)
        fresh = FixedScorer(scorer.bundle, wanted, scorer.options, say)
        try:
            check(fresh)
        except BaseException:
            fresh.close()
            raise
        self._ready.offer(label, f"{wanted}, built on this device", fresh)


def build_plan(
    bundle: Bundle, wanted: Candidate, max_batch: int, progress: Progress, stop: threading.Event | None = None
) -> None:
    """Build a candidate's plans and wait for them.

    Raises:
        BuildCancelled: ``stop`` was set.
        EngineError: the build failed.
    """
    from memedge_engines.plans.profile import Profile

    profile = Profile(max_batch=max_batch, opt_batch=max_batch)
    build(bundle, wanted.precision, profile, progress, cancelled=(stop or threading.Event()).is_set)


def check(scorer: Scorer) -> None:
    """Score the golden frames.

    Raises:
        EngineError: scores past the recorded tolerance, or the engine failed.
        BundleError: golden frames that are missing or altered.
    """
    frames = golden.read(scorer.bundle)
    lowering = scorer.choice.candidate.lowering
    scores = [scorer.score(picture).targets for picture in frames.frames]
    bad = [one for one in golden.check_scores(scorer.bundle, frames, lowering, scores) if not one.passed]
    if bad:
        told = ", ".join(f"{one.target} differs by {one.largest:.3g} (tolerance {one.tolerance:g})" for one in bad)
        raise EngineError(f"golden frames give other scores than recorded: {told}", fix="memedge verify")


class _Lines(Progress):
    """A plain line every few per cent, also on a terminal: the live view has its place there."""

    def __init__(self, what: str) -> None:
        super().__init__(what, PERCENT, every_s=0.0)
        self._told = 0

    def advance(self, count: int = 1, note: str = "") -> None:
        """``count`` more per cent are done."""
        if self.done + count < PERCENT and self.done + count - self._told < _STEP_PERCENT:
            self.done += count
            return
        self._told = self.done + count
        super().advance(count, note)
