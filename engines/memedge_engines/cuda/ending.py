"""What callers forgot is closed when the interpreter ends: first the threads that work, then the contexts."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable
from typing import Protocol


class _Closes(Protocol):
    def close(self) -> None: ...


class _Releases(Protocol):
    def release(self) -> None: ...


workers: weakref.WeakSet[_Closes] = weakref.WeakSet()
contexts: weakref.WeakSet[_Releases] = weakref.WeakSet()


def close_forgotten() -> None:
    """Close workers, then release contexts. Errors are swallowed: the process ends, and its memory goes with it."""
    for worker in list(workers):
        workers.discard(worker)
        _quietly(worker.close)
    for context in list(contexts):
        contexts.discard(context)
        _quietly(context.release)


def _quietly(end: Callable[[], None]) -> None:
    try:
        end()
    except Exception:  # nobody is left to act on it
        return


atexit.register(close_forgotten)
