"""Tuner: while a run is scoring, time the other engines on this device and go over to the fastest one.

Starts some seconds after the first score, in a thread that stops between two inferences when the run ends. The swap
itself happens between two frames; the winner is remembered in the user's cache by :mod:`memedge_engines.choice`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from memedge_engines import choice

from .console import say, status
from .errors import EngineError
from .replacing import Replacements
from .scorer import FixedScorer, Scorer

START_AFTER_S = 3.0
# Another engine must be this much faster before a run changes engines in mid-stream.
WORTH = 0.95


class Tuner:
    """Tunes the opened scorers of one run, one after the other.

    Args:
        scorers: label to scorer; those with one candidate, or whose engine was remembered, are left alone.
        start_after_s: seconds of scoring before the first timing.
        busy: while it says so, something else is about to change engines: nothing is timed yet.
    """

    def __init__(
        self,
        scorers: Mapping[str, Scorer],
        start_after_s: float = START_AFTER_S,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._scorers = {
            label: scorer
            for label, scorer in scorers.items()
            if not scorer.choice.remembered and len(_candidates(scorer)) > 1
        }
        self._start_after_s = start_after_s
        self._first_s: float | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._busy = busy
        self._ready = Replacements(scorers)

    def between(self, frames: int) -> None:
        """Called by the loop between frames: starts the timing when it is time, and swaps engines that are ready."""
        if not self._scorers:
            return
        now = time.monotonic()
        if self._first_s is None:
            self._first_s = now
        if self._thread is None and now - self._first_s >= self._start_after_s and not self._busy():
            self._thread = threading.Thread(target=self._tune, name="memedge-tuner", daemon=True)
            self._thread.start()
        self._ready.take()

    def _tune(self) -> None:
        for label, scorer in self._scorers.items():
            try:
                self._tune_one(label, scorer)
            except Exception as error:  # whatever a library comes up with, the run goes on with the engine it has
                status(f"memedge: engines were not timed: {' '.join(str(error).split())}")
            if self._stop.is_set():
                return

    def _tune_one(self, label: str, scorer: Scorer) -> None:
        steps = choice.tuning(scorer.bundle, "auto", scorer.wanted_precision, scorer.options)
        timings: list[choice.Timing] = []
        try:
            while not self._stop.is_set():
                try:
                    next(steps)
                except StopIteration as stop:
                    timings = stop.value
                    break
        finally:
            steps.close()
        usable = [t for t in timings if t.median_ms is not None]
        current = next((t for t in usable if t.candidate == scorer.choice.candidate), None)
        if not usable or usable[0] is current:
            return
        best = usable[0]
        faster = current is None or (best.median_ms or 0.0) <= WORTH * (current.median_ms or 0.0)
        if not faster or self._stop.is_set():
            return
        try:
            fresh = FixedScorer(scorer.bundle, best.candidate, scorer.options, say)
        except EngineError:
            return
        before = f" instead of {current.median_ms:.1f} ms on {current.candidate}" if current else ""
        self._ready.offer(label, f"{best.candidate}: {best.median_ms:.1f} ms{before}", fresh)

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait for the timing to end, if it has begun."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def close(self) -> None:
        """End the timing; engines that nobody took are closed. Safe to call twice."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._ready.close()


def _candidates(scorer: Scorer) -> list[choice.Candidate]:
    return choice.candidates(scorer.bundle, "auto", scorer.wanted_precision)
