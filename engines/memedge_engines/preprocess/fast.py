"""The CPU fast path without a compiler: NumPy for colour, Pillow for the resize; within one level of the reference.

Why not FFmpeg's swscale for colour: through PyAV it cannot be told the chroma siting (it takes what the decoder left on
the frame: left for H.264, centre where nothing is said, as for VP9), PyAV 14 cannot pass it the accurate flags, it is
off by 8 levels and more at odd widths, and with limited range it wraps between 0 and 255 on extreme samples. With the
accurate flags it takes about as long for a whole 1080p picture as NumPy (10 ms against 9), which converts only the part
that is needed. The tests use swscale as an independent check where it is right.

Only the part of the picture that the crop needs is converted and resized. A rotated frame is resized as it is stored
and turned afterwards, when it is small. The colour planes go to Pillow one by one, which saves interleaving them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..frame import Frame, PixelFormat
from ..manifest import Preprocess
from .color import GRAY_FIXED_POINT
from .geometry import Geometry, geometry
from .reference import host_planes
from .resize import plan_cut, resize_packed, resize_plain, resize_triangle
from .yuv import Region, gray_plane, rgb_planes

Bytes = NDArray[np.uint8]

_PACKED = (PixelFormat.RGB24, PixelFormat.BGR24)


class NumpyPreprocessor:
    """Carries out one contract on host frames. Thread-safe: all state is per thread.

    Attributes:
        contract: the preprocess contract.
        name: what does the work, as reports print it.
    """

    name = "numpy+pillow"

    def __init__(self, contract: Preprocess) -> None:
        self.contract = contract

    def geometry(self, frame: Frame) -> Geometry:
        """Sizes and offsets for this frame; PreprocessError where the contract cannot be carried out."""
        return geometry(self.contract, *frame.display_size)

    def picture(self, frame: Frame) -> Bytes:
        """The resized, cropped, upright picture: uint8 ``[h, w, C]``, C-contiguous, owning its memory.

        Raises:
            PreprocessError: the frame lies in device memory, or the geometry is impossible (see :func:`geometry`).
            FrameError: the frame was released.
        """
        shape = self.geometry(frame)
        if frame.format in _PACKED and shape.resizes:
            return self._packed_picture(frame, shape)
        stored = shape.unrotated(frame.rotation)
        color, triangle = self.contract.color, self.contract.resize.filter == "triangle"
        cut = plan_cut(stored)
        planes = _color_planes(frame, cut.region, color, stored.resizes and not (triangle and stored.averages))
        if not stored.resizes:
            result = np.stack(planes, axis=-1)
        else:
            result = (resize_triangle if triangle else resize_plain)(planes, cut, stored)
        return _owned(np.rot90(result, -frame.rotation // 90))

    def _packed_picture(self, frame: Frame, shape: Geometry) -> Bytes:
        """An RGB24 or BGR24 frame, resized: turned first, so that the bytes are Pillow's on the upright picture."""
        cut = plan_cut(shape)
        x0, y0, x1, y1 = cut.region
        packed = host_planes(frame)[0].reshape(frame.height, frame.width, 3)
        upright = np.rot90(packed, -frame.rotation // 90)[y0:y1]
        color, reversed_ = self.contract.color, frame.format is PixelFormat.BGR24
        if self.contract.resize.filter == "triangle" and color != "gray":
            rows = np.ascontiguousarray(upright).reshape(y1 - y0, -1)
            return _owned(resize_packed(rows, "RGB" if reversed_ == (color == "bgr") else "BGR", cut, shape))
        planes = _in_color(_channels(upright[:, x0:x1], reversed_), color)
        triangle = self.contract.resize.filter == "triangle"
        return (resize_triangle if triangle else resize_plain)(planes, cut, shape)


def _color_planes(frame: Frame, region: Region, color: str, exact: bool) -> Sequence[Bytes]:
    """The channels of ``region`` in the order of ``color``, uint8 ``[h, w]`` each, in stored orientation."""
    x0, y0, x1, y1 = region
    if frame.format is PixelFormat.GRAY8:
        plane = gray_plane(frame, region)
        return [plane] * (1 if color == "gray" else 3)
    if frame.format.is_yuv:
        return _in_color(list(rgb_planes(frame, region, exact=exact)), color)
    packed = host_planes(frame)[0].reshape(frame.height, frame.width, 3)[y0:y1, x0:x1]
    return _in_color(_channels(packed, frame.format is PixelFormat.BGR24), color)


def _channels(packed: Bytes, reversed_: bool) -> list[Bytes]:
    """R, G, B views of packed RGB, or of BGR when ``reversed_``."""
    return [packed[..., c] for c in ((2, 1, 0) if reversed_ else (0, 1, 2))]


def _in_color(rgb: list[Bytes], color: str) -> list[Bytes]:
    """R, G, B planes in the contract's order, or made grey."""
    if color == "gray":
        return [_gray(rgb)]
    return rgb if color == "rgb" else rgb[::-1]


def _owned(array: Bytes) -> Bytes:
    """The array itself if it is contiguous and owns its memory, else a copy."""
    return array if array.flags.c_contiguous and array.flags.owndata else array.copy(order="C")


def _gray(planes: Sequence[Bytes]) -> Bytes:
    """round(.299 R + .587 G + .114 B) in Pillow's integers."""
    total = np.full(planes[0].shape, 0x8000, np.uint32)
    for plane, weight in zip(planes, GRAY_FIXED_POINT, strict=True):
        # The dtype in so many words: NumPy 1 would multiply in 16 bit.
        total += np.multiply(plane, weight, dtype=np.uint32)
    return (total >> np.uint32(16)).astype(np.uint8)
