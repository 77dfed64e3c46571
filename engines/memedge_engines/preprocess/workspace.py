"""Scratch arrays kept between frames, one set a thread: allocating megabytes anew costs more than the arithmetic."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

KEPT_BYTES = 32 << 20
"""Arrays above this size are made anew each time, so that one huge photograph does not hold memory for ever."""


class Workspace(threading.local):
    """Named flat buffers of the calling thread; each grows to its largest use up to :data:`KEPT_BYTES`."""

    def __init__(self) -> None:
        self._buffers: dict[str, NDArray[np.uint8]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """An uninitialised array; valid until the same thread asks for ``name`` again."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if size > KEPT_BYTES:
            return np.empty(shape, dtype)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = np.empty(size, np.uint8)
        array: NDArray[Any] = buffer[:size].view(dtype).reshape(shape)
        return array
