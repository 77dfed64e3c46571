"""The CPU's preprocessing that is used: compiled code where it is there, else NumPy and Pillow.

The environment variable ``MEMEDGE_PREPROCESS`` forces one: ``native`` or ``numpy``. Both stay within one level of the
reference; their bytes differ by a level here and there.
"""

from __future__ import annotations

import os
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import PreprocessError
from ..frame import Frame
from ..manifest import Crop, Preprocess, Resize
from .fast import NumpyPreprocessor

VARIABLE = "MEMEDGE_PREPROCESS"

_WHOLE = Preprocess(
    color="rgb", resize=Resize(rule="none"), crop=Crop(rule="none"), scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3
)
"""The contract that changes nothing but colour."""


class _Maker(Protocol):
    name: str

    def picture(self, frame: Frame) -> NDArray[np.uint8]: ...


def native_reason() -> tuple[str, str] | None:
    """(why compiled code is not used, what brings it), or none where it is.

    Raises:
        PreprocessError: the variable forces compiled code that is not there, or has another value than the two.
    """
    from ..kernels.host import Absent, kernels

    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", "native", "numpy"):
        raise PreprocessError(f"{VARIABLE}={wanted}; expected native or numpy", fix=f"unset {VARIABLE}")
    if wanted == "numpy":
        return f"{VARIABLE}=numpy", f"unset {VARIABLE}"
    found = kernels()
    if not isinstance(found, Absent):
        return None
    if wanted == "native":
        raise PreprocessError(f"{VARIABLE}=native, but {found.reason}", fix=found.fix)
    return found.reason, found.fix


def _maker(contract: Preprocess) -> _Maker:
    if native_reason() is not None:
        return NumpyPreprocessor(contract)
    from .native import NativePreprocessor

    return NativePreprocessor(contract)


def preprocessing() -> tuple[str, tuple[str, str] | None]:
    """Name of what is used here, and :func:`native_reason`; PreprocessError as there."""
    return _maker(_WHOLE).name, native_reason()


class Preprocessor:
    """Carries out one contract on host frames, by what is there. Thread-safe: scratch memory is per thread.

    Attributes:
        contract: the preprocess contract.
        name: what does the work, as reports print it: ``native (avx2)``, ``numpy+pillow``.

    Raises:
        PreprocessError: see :func:`native_reason`.
    """

    def __init__(self, contract: Preprocess) -> None:
        self.contract = contract
        self._maker = _maker(contract)
        self.name = self._maker.name

    def picture(self, frame: Frame) -> NDArray[np.uint8]:
        """The resized, cropped, upright picture: uint8 ``[h, w, C]``, C-contiguous, owning its memory.

        Raises:
            PreprocessError: the frame lies in device memory, or the geometry is impossible (see :func:`geometry`).
            FrameError: the frame was released.
        """
        return self._maker.picture(frame)


def to_rgb(frame: Frame) -> NDArray[np.uint8]:
    """The whole frame as upright RGB, uint8 ``[H, W, 3]``, C-contiguous, owning its memory.

    Raises:
        PreprocessError: the frame lies in device memory; or see :func:`native_reason`.
        FrameError: the frame was released.
    """
    return Preprocessor(_WHOLE).picture(frame)
