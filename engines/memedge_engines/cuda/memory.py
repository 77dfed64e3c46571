"""Buffers that free themselves: device memory and page-locked host memory, 256-byte aligned."""

from __future__ import annotations

import ctypes
from types import TracebackType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import CudaError, EngineError
from .driver import ALIGNMENT, Driver
from .driver_errors import context_lost

_Self = TypeVar("_Self", bound="_Buffer")


class _Buffer:
    """One allocation. A thread that is bound closes it, once nothing queued uses it; closing twice is harmless."""

    def __init__(self, driver: Driver, size: int, address: int) -> None:
        self.driver = driver
        self.size = size
        self._address: int | None = address
        if address % ALIGNMENT:
            self.close()
            raise CudaError(f"{driver.name} gave memory at {address:#x}, which is not aligned to {ALIGNMENT} bytes")

    @property
    def address(self) -> int:
        """Where it begins. EngineError after ``close``."""
        if self._address is None:
            raise EngineError(f"{type(self).__name__} of {self.size} bytes is closed")
        return self._address

    @property
    def closed(self) -> bool:
        """Whether it was freed."""
        return self._address is None

    def close(self) -> None:
        """Free the memory. Where the context is lost, the memory went with it and nothing is raised."""
        address, self._address = self._address, None
        if address is None:
            return
        try:
            self._free(address)
        except CudaError as error:
            if not context_lost(error):
                raise

    def _free(self, address: int) -> None:
        raise NotImplementedError

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        where = "closed" if self._address is None else f"at {self._address:#x}"
        return f"<{type(self).__name__} {self.size} bytes {where}>"


class DeviceBuffer(_Buffer):
    """Device memory of ``size`` bytes. Raises DeviceOutOfMemory."""

    def __init__(self, driver: Driver, size: int) -> None:
        super().__init__(driver, size, driver.device_alloc(size))

    def _free(self, address: int) -> None:
        self.driver.device_free(address)


class PinnedBuffer(_Buffer):
    """Page-locked host memory of ``size`` bytes.

    Args:
        driver: a bound driver.
        size: bytes.
        mapped: the device reads and writes it in place, at ``device_address``.

    Attributes:
        array: the memory as a uint8 array; views of it must not be used after ``close``.
    """

    def __init__(self, driver: Driver, size: int, mapped: bool = False) -> None:
        super().__init__(driver, size, driver.host_alloc(size, mapped))
        self._mapped_at: int | None = None
        self.array: NDArray[np.uint8] = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self.address))
        if mapped:
            try:
                self._mapped_at = driver.host_device_pointer(self.address)
            except CudaError:
                self.close()
                raise

    @property
    def device_address(self) -> int:
        """Where the device finds it. EngineError unless it was made with ``mapped``."""
        if self._mapped_at is None or self.closed:
            raise EngineError(f"{self!r} is not mapped into the device")
        return self._mapped_at

    def _free(self, address: int) -> None:
        # A view that outlives the memory would crash the process when read: later reads find an empty array instead.
        self.array = np.empty(0, np.uint8)
        self.driver.host_free(address)
