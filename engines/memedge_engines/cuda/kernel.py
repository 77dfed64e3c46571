"""The preprocessing kernel, loaded: parameter blocks of a batch, and its launch."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from ..errors import CudaError
from ..kernels import image
from ..kernels.job import Job
from .driver import Driver
from .driver_errors import unless_lost
from .memory import DeviceBuffer, PinnedBuffer


class Kernel:
    """The kernel of one driver. ``close`` it when nothing queued uses it and no graph holds it."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._module: int | None = driver.module_load(image.ptx())
        try:
            self._function = driver.module_function(self._module, image.NAME)
        except CudaError:
            self.close()
            raise

    def launch(self, block: int, size: tuple[int, int], count: int, stream: int) -> None:
        """Queue one launch.

        Args:
            block: device address of ``count`` jobs.
            size: (height, width) of every target.
            count: pictures.
            stream: where to queue.
        """
        height, width = size
        grid = image.grid(width, height, count)
        self._driver.launch(self._function, grid, (image.THREADS, 1, 1), [ctypes.c_uint64(block)], stream)

    def close(self) -> None:
        """Unload it; safe to call twice."""
        module, self._module = self._module, None
        if module is not None:
            unless_lost(lambda: self._driver.module_unload(module))


class JobBlock:
    """Parameters of up to ``most`` pictures, page-locked and on the device, at addresses that stay.

    Args:
        mapped: the device reads the page-locked block in place.
    """

    def __init__(self, driver: Driver, most: int, mapped: bool) -> None:
        self._driver = driver
        size = most * ctypes.sizeof(Job)
        self._host = PinnedBuffer(driver, size, mapped)
        self._device: DeviceBuffer | None = None
        self._jobs = (Job * most).from_address(self._host.address)
        if not mapped:
            try:
                self._device = DeviceBuffer(driver, size)
            except CudaError:
                self._host.close()
                raise

    @property
    def address(self) -> int:
        """Where the kernel reads it."""
        return self._host.device_address if self._device is None else self._device.address

    def write(self, jobs: Sequence[Job]) -> None:
        """Set the parameters of a batch; nothing queued may read the block."""
        for number, job in enumerate(jobs):
            self._jobs[number] = job

    def upload(self, count: int, stream: int) -> None:
        """Queue the copy of the first ``count`` jobs."""
        if self._device is not None:
            size = count * ctypes.sizeof(Job)
            self._driver.copy_to_device(self._device.address, self._host.address, size, stream)

    def close(self) -> None:
        """Free both; nothing queued may use them."""
        if self._device is not None:
            self._device.close()
        self._host.close()
