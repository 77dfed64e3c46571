"""What callers forgot is closed when the interpreter ends: first what uses a device, then the threads that work there,
then the contexts."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable
from typing import Protocol


class _Closes(Protocol):
    def close(self) -> None: ...


class _Releases(Protocol):
    def release(self) -> None: ...


users: weakref.WeakSet[_Closes] = weakref.WeakSet()
workers: weakref.WeakSet[_Closes] = weakref.WeakSet()
contexts: weakref.WeakSet[_Releases] = weakref.WeakSet()


def close_forgotten() -> None:
    """Close users and workers, then release contexts. Errors are swallowed: the process ends, its memory with it."""
    for user in list(users):
        users.discard(user)
        _quietly(user.close)
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
