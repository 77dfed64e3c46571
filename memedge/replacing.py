"""Scorers made ready in other threads, that take over between two frames of a run."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from .console import status
from .errors import MemedgeError
from .scorer import Scorer


class Replacements:
    """What is ready to take over, at most one for each scorer of a run. Thread-safe.

    Args:
        scorers: label to the scorer that goes on with what is offered.
    """

    def __init__(self, scorers: Mapping[str, Scorer]) -> None:
        self._scorers = dict(scorers)
        self._ready: dict[str, tuple[str, Scorer]] = {}
        self._lock = threading.Lock()
        self._closed = False

    def offer(self, label: str, text: str, scorer: Scorer) -> None:
        """Let ``scorer`` take over at the next :meth:`take`; ``text`` says what it is. Owned here from now on."""
        with self._lock:
            unwanted = scorer
            if not self._closed:
                before = self._ready.get(label)
                self._ready[label] = (text, scorer)
                if before is None:
                    return
                unwanted = before[1]
        unwanted.close()

    def waiting(self, label: str) -> bool:
        """Whether something was offered that nobody took yet."""
        with self._lock:
            return label in self._ready

    def take(self) -> None:
        """Between two frames: everything that is ready takes over, with one line each."""
        with self._lock:
            ready, self._ready = self._ready, {}
        for label, (text, scorer) in ready.items():
            try:
                self._scorers[label].replace(scorer)
            except MemedgeError as error:
                scorer.close()
                status(f"memedge: {label} goes on as it is: {error}")
            else:
                status(f"memedge: {label} goes on with {text}")

    def close(self) -> None:
        """Close what nobody took. Safe to call twice."""
        with self._lock:
            self._closed = True
            ready, self._ready = self._ready, {}
        for _, scorer in ready.values():
            scorer.close()
