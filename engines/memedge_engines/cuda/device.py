"""The GPU's device seam for the host's executor: pictures out of frames in device memory."""

from __future__ import annotations

from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..device import PictureMaker
from ..errors import FrameError
from ..frame import Frame, MemoryKind
from ..manifest import InputStorage, Preprocess
from . import shared
from .driver_errors import unless_lost
from .memory import DeviceBuffer, PinnedBuffer
from .pictures import PicturesToTensor
from .worker import Worker

# Levels as they are: what the kernel writes is the picture itself.
_LEVELS = InputStorage(dtype="uint8", scale=1.0)


class CudaDevice:
    """Preprocesses frames in device memory where they lie and copies the small picture to the host."""

    name = "cuda"

    def __init__(self) -> None:
        self._worker = shared.hold()
        self._makers: list[_CudaMaker] = []

    def preprocessor(self, contract: Preprocess) -> PictureMaker:
        """The maker for one contract."""
        maker = _CudaMaker(self._worker, contract)
        self._makers.append(maker)
        return maker

    def check(self, frame: Frame) -> None:
        """Raise FrameError for a device plane that tells no address."""
        check_planes(frame)

    def close(self) -> None:
        """Free what the makers hold."""
        try:
            while self._makers:
                self._makers.pop().close()
        finally:
            shared.let_go(self._worker)


def check_planes(frame: Frame) -> None:
    """Raise FrameError for a device plane that tells no address."""
    for number, plane in enumerate(frame.planes):
        if plane.memory is MemoryKind.DEVICE and not hasattr(plane.buffer, "__cuda_array_interface__"):
            raise FrameError(
                f"plane {number} is a {type(plane.buffer).__name__} in device memory; expected a "
                "__cuda_array_interface__"
            )


class _CudaMaker:
    """One contract; what it needs on the device is made for the first frame that lies there."""

    def __init__(self, worker: Worker, contract: Preprocess) -> None:
        self._worker = worker
        channels = contract.channels
        self._contract = msgspec.structs.replace(
            contract, scale=1.0, mean=(0.0,) * channels, std=(1.0,) * channels, layout="nchw"
        )
        self._maker: PicturesToTensor | None = None
        self._stream = 0
        self._device: DeviceBuffer | None = None
        self._pinned: PinnedBuffer | None = None

    def picture(self, frame: Frame) -> NDArray[np.uint8]:
        """The contract's picture, uint8 ``[h, w, channels]``."""
        return self._worker.call(lambda: self._on_device(frame))

    def _on_device(self, frame: Frame) -> NDArray[np.uint8]:
        driver = self._worker.driver
        if self._maker is None:
            self._maker = PicturesToTensor(driver, self._contract, _LEVELS, max_batch=1, slots=1)
            self._stream = driver.stream_create()
        shape = self._maker.picture_shape(frame)
        size = int(np.prod(shape))
        if self._device is None or self._pinned is None or self._device.size < size:
            self._free_buffers()
            self._device, self._pinned = DeviceBuffer(driver, size), PinnedBuffer(driver, size)
        try:
            self._maker.enqueue(0, [frame], self._device.address, self._stream)
            driver.copy_to_host(self._pinned.address, self._device.address, size, self._stream)
        finally:
            driver.stream_synchronize(self._stream)
        planar = self._pinned.array[:size].reshape(shape)
        return np.ascontiguousarray(planar.transpose(1, 2, 0))

    def _free_buffers(self) -> None:
        for buffer in (self._device, self._pinned):
            if buffer is not None:
                buffer.close()
        self._device = self._pinned = None

    def close(self) -> None:
        """Free everything."""

        def free() -> None:
            self._free_buffers()
            if self._maker is not None:
                self._maker.close()
                self._maker = None
                unless_lost(partial(self._worker.driver.stream_destroy, self._stream))

        self._worker.call(free)
