"""Memory of the fake driver: host arrays behind addresses that no host access can follow.

Device addresses lie where x86-64 and Arm have no user memory, so that reading one on the host faults instead of
passing. Page-locked memory is real host memory between two guard zones; its device address, where it is mapped, is
another number than its host address, although real drivers often give the same.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .driver import ALIGNMENT

_BASE = 0x5DE0_0000_0000_0000
_MAPPED_BASE = 0x5DE8_0000_0000_0000
_END = 0x5DF0_0000_0000_0000
_GUARD = 256
_FILL = 0xA5
_CANARY = 0xC7
_REMEMBERED = 4096
_REMEMBERED_BYTES = 64 << 20


class FakeDriverMisuse(AssertionError):
    """What CUDA forbids or leaves undefined was done. Not a :class:`CudaError`: no handler may eat it."""


def creation_site() -> str:
    """``file.py:12`` of the innermost caller outside the fake and the thin wrappers over memory."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").rpartition(".")[2] in _OWN_MODULES:
        frame = frame.f_back
    return f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"


_OWN_MODULES = {"fake", "fake_memory", "fake_work", "fake_modules", "fake_state", "fake_copies", "memory", "contextlib"}


class FakeHandle:
    """What a handle stands for. ``pending`` queued operations need it, ``held`` graph executables do."""

    def __init__(self, kind: str, site: str) -> None:
        self.kind = kind
        self.site = site
        self.pending = 0
        self.held = 0

    def __str__(self) -> str:
        return f"{self.kind} (from {self.site})"


@dataclass(eq=False)
class Block:
    """One allocation. ``pending`` and ``held`` as for handles; ``busy``: ranges of a host block that copies wait on."""

    address: int
    size: int
    data: NDArray[np.uint8]
    host: bool
    site: str
    device_address: int = 0
    pending: int = 0
    held: int = 0
    busy: list[tuple[int, int]] = field(default_factory=list)
    _whole: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))

    def intact(self) -> bool:
        """Whether nothing was written beside the memory."""
        return bool((self._whole[:_GUARD] == _CANARY).all() and (self._whole[_GUARD + self.size :] == _CANARY).all())

    def __str__(self) -> str:
        kind = "page-locked" if self.host else "device"
        return f"{kind} memory {self.address:#x} ({self.size} bytes, from {self.site})"


def _room(size: int) -> int:
    return (size + _GUARD + 511) // 512 * 512


class Memory:
    """All allocations of one fake device."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        # Odd multiples of 256, with gaps: code that relies on more than it was promised is found out.
        self._next = _BASE + ALIGNMENT
        self._next_mapped = _MAPPED_BASE + ALIGNMENT
        self._device: dict[int, Block] = {}
        self._host: dict[int, Block] = {}
        self._mapped: dict[int, Block] = {}
        self._freed: OrderedDict[int, Block] = OrderedDict()
        self._freed_bytes = 0

    def alloc_device(self, size: int) -> Block | None:
        """A block aligned to 256 bytes and to no more, filled with rubbish; none where the capacity is used up."""
        if self.used + size > self.capacity:
            return None
        address = self._next
        self._next += _room(size)
        block = Block(address, size, np.full(size, _FILL, np.uint8), False, creation_site(), address)
        self._device[address] = block
        self.used += size
        return block

    def alloc_host(self, size: int, mapped: bool) -> Block:
        """Host memory, 256-byte aligned, between guard zones."""
        raw = np.full(size + 2 * _GUARD + ALIGNMENT, _CANARY, np.uint8)
        start = -(raw.ctypes.data + _GUARD) % ALIGNMENT
        whole = raw[start : start + size + 2 * _GUARD]
        data = whole[_GUARD : _GUARD + size]
        data[:] = _FILL
        block = Block(data.ctypes.data, size, data, True, creation_site(), _whole=whole)
        if mapped:
            block.device_address = self._next_mapped
            self._next_mapped += _room(size)
            self._mapped[block.device_address] = block
        self._host[block.address] = block
        return block

    def free(self, address: int, host: bool) -> None:
        """Forget a block; refuses what is not the start of one, what is in use and what was written beyond its ends."""
        kind = "page-locked" if host else "device"
        blocks = self._host if host else self._device
        block = blocks.get(address)
        if block is None:
            if (freed := self._freed.get(address)) is not None and freed.host == host:
                raise FakeDriverMisuse(f"{freed} is freed twice")
            raise FakeDriverMisuse(f"{address:#x} is freed as {kind} memory, but no such allocation begins there")
        if block.pending:
            raise FakeDriverMisuse(f"{block} is freed while queued work uses it")
        if block.held:
            raise FakeDriverMisuse(f"{block} is freed while a graph executable uses it")
        if host and not block.intact():
            raise FakeDriverMisuse(f"something was written beside {block}")
        del blocks[address]
        if block.device_address in self._mapped:
            del self._mapped[block.device_address]
        if not host:
            self.used -= block.size
        self._remember(block)

    def _remember(self, block: Block) -> None:
        """Keep a freed block's address, and a host block's memory too, so that nothing else can come to lie there."""
        if not block.host:
            block.data = np.empty(0, np.uint8)
        self._freed[block.address] = block
        self._freed_bytes += block.data.nbytes
        while len(self._freed) > _REMEMBERED or self._freed_bytes > _REMEMBERED_BYTES:
            self._freed_bytes -= self._freed.popitem(last=False)[1].data.nbytes

    def device_block(self, address: int, size: int, what: str) -> tuple[Block, int]:
        """The device or mapped block that holds the bytes, and the offset in it."""
        block = self.block_of(address)
        if block is not None:
            if address + size > block.device_address + block.size:
                raise FakeDriverMisuse(f"{what}: {size} bytes at {address:#x} reach beyond {block}")
            return block, address - block.device_address
        for block in self._freed.values():
            if block.device_address and block.device_address <= address < block.device_address + block.size:
                raise FakeDriverMisuse(f"{what}: {address:#x} is used after free, in {block}")
        raise FakeDriverMisuse(f"{what}: {address:#x} is no device memory")

    def host_block(self, address: int, size: int, what: str) -> tuple[Block, int] | None:
        """The page-locked block that holds the bytes; none where the address is other host memory."""
        if _BASE <= address < _END:
            raise FakeDriverMisuse(f"{what}: the device address {address:#x} is given where host memory is wanted")
        for block in self._host.values():
            if block.address <= address < block.address + block.size:
                if address + size > block.address + block.size:
                    raise FakeDriverMisuse(f"{what}: {size} bytes at {address:#x} reach beyond {block}")
                return block, address - block.address
        for block in self._freed.values():
            if block.host and block.address <= address < block.address + block.size:
                raise FakeDriverMisuse(f"{what}: {address:#x} is used after free, in {block}")
        return None

    def block_of(self, address: int) -> Block | None:
        """The device or mapped block that an address points into; none for any other number."""
        if not _BASE <= address < _END:
            return None
        for block in (*self._device.values(), *self._mapped.values()):
            if block.device_address <= address < block.device_address + block.size:
                return block
        return None

    def live(self) -> list[Block]:
        """Blocks not freed."""
        return [*self._device.values(), *self._host.values()]
