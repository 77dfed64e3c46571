"""Tables of the kernel in device memory: taps of a few geometries, one table of values."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.job import AxisFields
from ..preprocess.tables import AxisTable
from .driver import ALIGNMENT, Driver
from .driver_errors import unless_lost
from .memory import DeviceBuffer


class DeviceArray:
    """An array copied to the device. The copy is complete when the constructor returns."""

    def __init__(self, driver: Driver, stream: int, array: NDArray[Any]) -> None:
        self.buffer = DeviceBuffer(driver, max(array.nbytes, 1))
        try:
            driver.copy_to_device(self.buffer.address, array.ctypes.data, array.nbytes, stream)
            driver.stream_synchronize(stream)
        except BaseException:
            unless_lost(lambda: driver.stream_synchronize(stream))  # the copy may be queued
            self.buffer.close()
            raise

    def close(self) -> None:
        """Free it; nothing queued may use it."""
        self.buffer.close()


class DeviceAxis:
    """One :class:`AxisTable` on the device; ``users`` slots have its address in their parameter blocks."""

    def __init__(self, driver: Driver, stream: int, table: AxisTable) -> None:
        first, weights = table.first, table.weights
        begin = -(-first.nbytes // ALIGNMENT) * ALIGNMENT
        packed = np.zeros(begin + weights.nbytes, np.uint8)
        packed[: first.nbytes] = first.view(np.uint8)
        packed[begin:] = weights.reshape(-1).view(np.uint8)
        self._array = DeviceArray(driver, stream, packed)
        address = self._array.buffer.address
        self.table = table
        self.fields = AxisFields(address, address + begin, *weights.shape)
        self.users = 0

    def close(self) -> None:
        """Free it; nothing queued may use it."""
        self._array.close()


class DeviceAxes:
    """The axes last used, at most :data:`KEPT` that no slot uses at present.

    An axis is freed only when no parameter block has its address: captured launches read addresses from there.
    """

    KEPT = 32

    def __init__(self, driver: Driver, stream: int) -> None:
        self._driver = driver
        self._stream = stream
        self._held: OrderedDict[int, DeviceAxis] = OrderedDict()

    def take(self, table: AxisTable) -> DeviceAxis:
        """The axis of a table, copied to the device if need be; ``give_back`` it when its address is out of use."""
        key = id(table)  # tables are cached by what they are made of; the axis holds its own, so that the key stays its
        axis = self._held.get(key)
        if axis is None:
            axis = self._held[key] = DeviceAxis(self._driver, self._stream, table)
        self._held.move_to_end(key)
        axis.users += 1
        return axis

    def give_back(self, axis: DeviceAxis) -> None:
        """One user less."""
        axis.users -= 1
        idle = [key for key, held in self._held.items() if not held.users]
        for key in idle[: max(len(idle) - self.KEPT, 0)]:
            self._held.pop(key).close()

    def close(self) -> None:
        """Free all."""
        while self._held:
            self._held.popitem()[1].close()
