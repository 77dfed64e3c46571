"""The synthetic device: the device seam's twin, for tests of anything that moves frames through device memory.

Its memory refuses every host access, work completes late, and every allocation is counted until it is released.
"""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .device import PictureMaker
from .errors import FrameError
from .frame import Frame, MemoryKind, Plane, plane_shapes
from .manifest import Preprocess

_ADDRESSES = itertools.count(1)


class SyntheticMemory:
    """A device allocation of uint8 ``[rows, pitch]``. Reading it from the host raises FrameError."""

    def __init__(self, device: SyntheticDevice, shape: tuple[int, int]) -> None:
        self._device = device
        self._address = next(_ADDRESSES) * 4096
        self.shape = shape

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": "|u1", "data": (self._address, False), "version": 3}

    def __array__(self, *arguments: Any, **keywords: Any) -> NDArray[Any]:
        raise FrameError("device memory was read from the host")

    def __getitem__(self, key: Any) -> Any:
        raise FrameError("device memory was read from the host")


class LateEvent:
    """Completes ``delay_s`` after it was made; waiting earlier blocks."""

    def __init__(self, delay_s: float) -> None:
        self._due = time.monotonic() + delay_s
        self.waited = False

    def wait(self) -> None:
        """Block until complete."""
        self.waited = True
        remaining = self._due - time.monotonic()
        if remaining > 0:
            time.sleep(remaining)


class SyntheticDevice:
    """Device memory simulated in host memory that only this object can read.

    Args:
        delay_s: how late an upload completes. Reading before its event was waited for raises FrameError.

    Attributes:
        live: number of allocations not yet released.
    """

    name = "synthetic"

    def __init__(self, delay_s: float = 0.0) -> None:
        self._delay_s = delay_s
        self._blocks: dict[int, NDArray[np.uint8]] = {}
        self._lock = threading.Lock()

    @property
    def live(self) -> int:
        """Allocations not yet released."""
        return len(self._blocks)

    def upload(self, frame: Frame) -> Frame:
        """A copy of a host frame in device memory; the host frame is released."""
        planes, held = [], []
        for array in frame.host_planes():
            memory = SyntheticMemory(self, (array.shape[0], array.shape[1]))
            address = memory._address
            with self._lock:
                self._blocks[address] = array.copy()
            planes.append(Plane(memory, array.shape[1], MemoryKind.DEVICE))
            held.append(address)
        moved = replace(
            frame,
            planes=planes,
            ready=LateEvent(self._delay_s),
            owner=None,
            on_release=lambda: self._free(held),
            _references=1,
            _lock=threading.Lock(),
        )
        frame.release()
        return moved

    def _free(self, addresses: list[int]) -> None:
        with self._lock:
            for address in addresses:
                if self._blocks.pop(address, None) is None:
                    raise FrameError("device memory freed twice")

    def check(self, frame: Frame) -> None:
        """Raise FrameError for a frame that does not lie here."""
        if frame.memory is MemoryKind.DEVICE and not all(isinstance(p.buffer, SyntheticMemory) for p in frame.planes):
            raise FrameError("frame lies in another device's memory")

    def close(self) -> None:
        """Nothing is held but frames, which their holders release."""

    def preprocessor(self, contract: Preprocess) -> PictureMaker:
        """The contract carried out on this device's memory."""
        return _DeviceMaker(self, contract)

    def read(self, frame: Frame) -> Frame:
        """The frame as its own kernels see it, over this device's memory; FrameError when released or not complete."""
        if frame.released:
            raise FrameError("frame used after its release")
        if isinstance(frame.ready, LateEvent) and not frame.ready.waited:
            raise FrameError("device memory was read before its upload completed")
        arrays = []
        for plane, (rows, row_bytes) in zip(
            frame.planes, plane_shapes(frame.format, frame.width, frame.height), strict=True
        ):
            block = self._blocks.get(plane.buffer._address)
            if block is None:
                raise FrameError("device memory used after it was freed")
            arrays.append(Plane(block[:rows, :row_bytes], row_bytes))
        return replace(frame, planes=arrays, ready=None, on_release=None, _references=1, _lock=threading.Lock())


class _DeviceMaker:
    def __init__(self, device: SyntheticDevice, contract: Preprocess) -> None:
        from .preprocess import Preprocessor

        self._device = device
        self._maker = Preprocessor(contract)

    def picture(self, frame: Frame) -> NDArray[np.uint8]:
        """The contract's picture, uint8 ``[h, w, channels]``."""
        if frame.memory is not MemoryKind.DEVICE:
            return self._maker.picture(frame)
        if frame.ready is not None:
            frame.ready.wait()
        return self._maker.picture(self._device.read(frame))
