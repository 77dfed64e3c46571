"""Copies of the fake driver, and its watch over page-locked memory that the host touches too early."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .fake_memory import Block, FakeDriverMisuse, Memory
from .fake_work import Operation

_UNREAD = 0x5B


def to_device(space: Memory, target: int, source: int, size: int, captured: bool, watch: bool) -> Operation:
    """Host to device; ordinary host memory is taken over at once, as CUDA stages it."""
    block, at = space.device_block(target, _size(size), "copy_to_device")
    host = space.host_block(source, size, "copy_to_device")
    goal = block.data[at : at + size]
    if host is None:
        if captured:
            raise FakeDriverMisuse("copy_to_device from memory that is not page-locked during capture")
        staged = np.frombuffer(ctypes.string_at(source, size), np.uint8)
        return Operation("copy_to_device", lambda: np.copyto(goal, staged), (block,))
    pinned, start = host
    given = pinned.data[start : start + size]

    def prepare() -> Callable[[], None]:
        seen = given.copy() if watch and _free(pinned, start, size) else None
        span = _occupy(pinned, start, size)

        def run() -> None:
            pinned.busy.remove(span)
            if seen is not None and not np.array_equal(seen, given):
                raise FakeDriverMisuse(f"{pinned} was written while a copy to the device was queued")
            np.copyto(goal, given)

        return run

    return Operation("copy_to_device", None if captured else prepare(), (block, pinned), prepare)


def to_host(space: Memory, target: int, source: int, size: int, captured: bool, watch: bool) -> tuple[Operation, bool]:
    """Device to host, and whether the target is ordinary memory, for which CUDA waits."""
    block, at = space.device_block(source, _size(size), "copy_to_host")
    host = space.host_block(target, size, "copy_to_host")
    given = block.data[at : at + size]
    if host is None:
        if captured:
            raise FakeDriverMisuse("copy_to_host to memory that is not page-locked during capture")
        return Operation("copy_to_host", lambda: _write(target, given), (block,)), True
    pinned, start = host
    goal = pinned.data[start : start + size]

    def prepare() -> Callable[[], None]:
        watched = watch and _free(pinned, start, size)
        span = _occupy(pinned, start, size)
        if watched:
            goal[:] = _UNREAD

        def run() -> None:
            pinned.busy.remove(span)
            if watched and not bool((goal == _UNREAD).all()):
                raise FakeDriverMisuse(f"{pinned} was written while a copy from the device was queued")
            np.copyto(goal, given)

        return run

    return Operation("copy_to_host", None if captured else prepare(), (block, pinned), prepare), False


def within_device(space: Memory, target: int, source: int, size: int) -> Operation:
    """Device to device; ranges that overlap are undefined in CUDA and refused."""
    to, at = space.device_block(target, _size(size), "copy_on_device")
    origin, start = space.device_block(source, size, "copy_on_device")
    if to is origin and abs(at - start) < size:
        raise FakeDriverMisuse("copy_on_device: source and target overlap")
    goal, given = to.data[at : at + size], origin.data[start : start + size]
    return Operation("copy_on_device", lambda: np.copyto(goal, given), (to, origin))


def _size(size: int) -> int:
    if size < 1:
        raise FakeDriverMisuse(f"a copy of {size} bytes")
    return size


def _free(block: Block, start: int, size: int) -> bool:
    """Whether no queued copy uses the range: only then does the host alone decide what lies there."""
    return not block.device_address and all(end <= start or begin >= start + size for begin, end in block.busy)


def _occupy(block: Block, start: int, size: int) -> tuple[int, int]:
    span = (start, start + size)
    block.busy.append(span)
    return span


def _write(target: int, given: NDArray[np.uint8]) -> None:
    ctypes.memmove(target, given.tobytes(), given.nbytes)
