"""Device memory for the pictures of one source, used again and again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from memedge_engines.cuda.driver import Driver

from ..errors import SourceError

_MOST_BLOCKS = 16  # the loop and its queue hold ten frames at most
_WAIT_S = 10.0
_POLL_S = 0.2


@dataclass(frozen=True)
class DeviceArray:
    """Rows of bytes in device memory, as the CUDA array interface tells them (version 3, complete: no stream)."""

    address: int
    shape: tuple[int, int]
    pitch: int

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3,
            "typestr": "|u1",
            "shape": self.shape,
            "strides": (self.pitch, 1),
            "data": (self.address, True),
        }


class DevicePool:
    """Device memory for a few pictures, used again and again, and the stream that fills it.

    Retains the device's primary context; gives it back when it is closed and the last block has come home. Blocks
    come home from any thread.

    Args:
        driver: not yet retained.
        closing: ends the wait for a block.
    """

    def __init__(self, driver: Driver, closing: threading.Event) -> None:
        self._driver = driver
        self._closing = closing
        self._changed = threading.Condition()
        self._free: list[int] = []
        self._size = 0
        self._count = 0
        self._closed = False
        driver.retain(0)
        with self.bound():
            self.stream = driver.stream_create()

    @contextmanager
    def bound(self) -> Iterator[None]:
        """While the block runs, the context is current in this thread."""
        self._driver.bind()
        try:
            yield
        finally:
            self._driver.unbind()

    def take(self, size: int, label: str) -> int:
        """A block of ``size`` bytes, the same for all. Waits while all are held.

        Raises:
            SourceError: another size than the first block's, or nobody gives a block back.
        """
        with self._changed:
            self._size = self._size or size
            if size != self._size:
                raise SourceError(f"{label}: pictures change their size in the middle", fix="--decoder pyav")
            deadline = time.monotonic() + _WAIT_S
            while not self._free and self._count >= _MOST_BLOCKS:
                if self._closing.is_set() or time.monotonic() >= deadline:
                    raise SourceError(f"{label}: {self._count} frames are held; expected some to be released")
                self._changed.wait(_POLL_S)
            if self._free:
                return self._free.pop()
            block = self._driver.device_alloc(size)
            self._count += 1
            return block

    def copy(self, target: int, source: int, size: int) -> None:
        """Queue a copy inside the device."""
        self._driver.copy_on_device(target, source, size, self.stream)

    def finish(self) -> None:
        """Wait for what was queued: then the decoder may overwrite its surface."""
        self._driver.stream_synchronize(self.stream)

    def give_back(self, block: int) -> None:
        """A block that nobody reads any more."""
        with self._changed:
            if not self._closed:
                self._free.append(block)
                self._changed.notify_all()
                return
            self._drop([block])

    def close(self) -> None:
        """Free what is at home; safe to call twice."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            with self.bound():
                self._driver.stream_destroy(self.stream)
            free, self._free = self._free, []
            self._drop(free)

    def _drop(self, blocks: list[int]) -> None:
        with self.bound():
            for block in blocks:
                self._driver.device_free(block)
        self._count -= len(blocks)
        if not self._count:
            self._driver.release()
