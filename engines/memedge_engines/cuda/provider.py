"""What the real providers share: the primary context's life, bindings of threads, a clean end of the process."""

from __future__ import annotations

import threading
from abc import abstractmethod

from ..errors import CudaError
from . import ending
from .driver import Driver


class Provider(Driver):
    """A driver on a package. Bindings nest: a thread that bound twice unbinds twice.

    A provider that was never released gives its context back when the interpreter ends, after all workers have ended.
    """

    def __init__(self) -> None:
        self._bound = threading.local()
        self._retained = False
        self._lock = threading.Lock()

    @abstractmethod
    def _retain(self, device: int) -> None:
        """Retain the primary context of a device that exists."""

    @abstractmethod
    def _push(self) -> None:
        """Make the retained context current in this thread."""

    @abstractmethod
    def _pop(self) -> None:
        """Take it off this thread's stack."""

    @abstractmethod
    def _release(self) -> None:
        """Give the primary context back."""

    @property
    def retained(self) -> bool:
        """Whether a primary context is retained."""
        return self._retained

    def retain(self, device: int) -> None:
        """Retain the device's primary context."""
        with self._lock:
            if self._retained:
                raise CudaError("this driver object has retained a primary context already", call="retain")
            self._retain(device)
            self._retained = True
            ending.contexts.add(self)

    def bind(self) -> None:
        """Make the retained context current in the calling thread."""
        if not self._retained:
            raise CudaError("bind before retain, or after release", call="bind")
        self._push()
        self._bound.depth = getattr(self._bound, "depth", 0) + 1

    def unbind(self) -> None:
        """Undo ``bind`` in the calling thread."""
        depth = getattr(self._bound, "depth", 0)
        if depth < 1:
            raise CudaError("unbind in a thread that is not bound", call="unbind")
        self._bound.depth = depth - 1
        self._pop()

    def release(self) -> None:
        """Undo the calling thread's bindings and give the primary context back; safe to call twice."""
        with self._lock:
            if not self._retained:
                return
            self._retained = False
            ending.contexts.discard(self)
        try:
            while getattr(self._bound, "depth", 0):
                self.unbind()
        finally:
            self._release()
