"""Where pictures are preprocessed: the device seam of an executor. The host's own is here; CUDA's is another file."""

from __future__ import annotations

import threading
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import CudaError, FrameError
from .frame import Frame, MemoryKind
from .manifest import Preprocess


class PictureMaker(Protocol):
    """One preprocess contract, carried out on one device."""

    def picture(self, frame: Frame) -> NDArray[np.uint8]:
        """The contract's picture, uint8 ``[h, w, channels]``, before normalisation."""


class Device(Protocol):
    """Makes pictures out of frames that lie where this device can read them."""

    name: str

    def preprocessor(self, contract: Preprocess) -> PictureMaker:
        """The maker for one contract; the executor keeps it."""

    def check(self, frame: Frame) -> None:
        """Raise FrameError for a frame that this device cannot read."""

    def close(self) -> None:
        """Give back what the device and its makers hold; they are not used afterwards."""


class HostDevice:
    """The CPU: reads host and page-locked memory."""

    name = "cpu"

    def preprocessor(self, contract: Preprocess) -> PictureMaker:
        """The fast path of :mod:`memedge_engines.preprocess`."""
        from .preprocess import Preprocessor

        return Preprocessor(contract)

    def check(self, frame: Frame) -> None:
        """Raise FrameError for device memory."""
        if frame.memory is MemoryKind.DEVICE:
            raise FrameError("frame lies in device memory; this engine runs on the CPU and reads host memory")

    def close(self) -> None:
        """Nothing is held."""


class AutoDevice(HostDevice):
    """The CPU; where a source delivers device memory, the GPU's driver is opened with the first such frame."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gpu: Device | None = None

    def gpu(self) -> Device:
        """The device that reads device memory. FrameError where none can be used."""
        from .cuda.device import CudaDevice

        with self._lock:
            if self._gpu is None:
                try:
                    self._gpu = CudaDevice()
                except CudaError as error:
                    text = f"frame lies in device memory, which cannot be read here: {error.message}"
                    raise FrameError(text, fix=error.fix) from None
            return self._gpu

    def preprocessor(self, contract: Preprocess) -> PictureMaker:
        """The fast path for what lies on the host, the kernel for the rest."""
        return _AutoMaker(self, contract, super().preprocessor(contract))

    def check(self, frame: Frame) -> None:
        """Raise FrameError for device memory where no GPU can be used."""
        if frame.memory is MemoryKind.DEVICE:
            self.gpu().check(frame)

    def close(self) -> None:
        """Let the GPU go."""
        if self._gpu is not None:
            self._gpu.close()


class _AutoMaker:
    def __init__(self, device: AutoDevice, contract: Preprocess, host: PictureMaker) -> None:
        self._device = device
        self._contract = contract
        self._host = host
        self._gpu: PictureMaker | None = None

    def picture(self, frame: Frame) -> NDArray[np.uint8]:
        """The contract's picture, uint8 ``[h, w, channels]``."""
        if frame.memory is not MemoryKind.DEVICE:
            return self._host.picture(frame)
        if self._gpu is None:
            self._gpu = self._device.gpu().preprocessor(self._contract)
        return self._gpu.picture(frame)
