"""Where pictures are preprocessed: the device seam of an executor. The host's own is here; CUDA's is another file."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import FrameError
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
