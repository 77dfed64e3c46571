"""The CPU fast path without a compiler: NumPy for colour, Pillow for the resize; within one level of the reference.

Why not FFmpeg's swscale for colour: through PyAV it cannot be told the chroma siting (it takes what the decoder left on
the frame: left for H.264, centre where nothing is said, as for VP9), it is off by 8 levels and more at odd widths, and
with limited range it wraps between 0 and 255 on extreme samples. With the accurate flags it takes 10 ms for a 1080p
picture, NumPy 7 to 8 ms, and less for a part. The tests use swscale as an independent check where it is right.

Only the part of the picture that the crop needs is converted and resized. A rotated frame is resized as it is stored
and turned afterwards, when it is small. The colour planes go to Pillow one by one, which saves interleaving them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..frame import Frame, PixelFormat
from ..manifest import Preprocess
from .color import GRAY_FIXED_POINT
from .geometry import Geometry, geometry
from .reference import host_planes
from .resize import needed_region, resize_packed, resize_plain, resize_triangle
from .yuv import Region, gray_plane, rgb_planes, whole

Bytes = NDArray[np.uint8]

_PACKED = (PixelFormat.RGB24, PixelFormat.BGR24)


class Preprocessor:
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
        shape = self.geometry(frame).unrotated(frame.rotation)
        color, filter_name = self.contract.color, self.contract.resize.filter
        region = needed_region(shape, filter_name)
        if shape.resizes and filter_name == "triangle" and color != "gray" and frame.format in _PACKED:
            order = "RGB" if (frame.format is PixelFormat.RGB24) == (color == "rgb") else "BGR"
            result = resize_packed(host_planes(frame)[0][region[1] : region[3]], order, region[1], shape)
        else:
            exact = shape.resizes and not (filter_name == "triangle" and shape.averages)
            planes = _color_planes(frame, region, color, exact)
            if not shape.resizes:
                result = np.stack(planes, axis=-1)
            else:
                resize = resize_triangle if filter_name == "triangle" else resize_plain
                result = resize(planes, region, shape)
        turned = np.rot90(result, -frame.rotation // 90)
        return turned.copy() if turned.base is not None or not turned.flags.c_contiguous else turned


def to_rgb(frame: Frame) -> Bytes:
    """The whole frame as upright RGB, uint8 ``[H, W, 3]``, C-contiguous, owning its memory.

    Raises:
        PreprocessError: the frame lies in device memory.
        FrameError: the frame was released.
    """
    planes = _color_planes(frame, whole(frame), "rgb", False)
    turned = [np.rot90(plane, -frame.rotation // 90) for plane in planes]
    result = np.empty((*turned[0].shape, 3), np.uint8)
    for channel, plane in enumerate(turned):
        result[..., channel] = plane
    return result


def _color_planes(frame: Frame, region: Region, color: str, exact: bool) -> Sequence[Bytes]:
    """The channels of ``region`` in the order of ``color``, uint8 ``[h, w]`` each, in stored orientation."""
    x0, y0, x1, y1 = region
    if frame.format is PixelFormat.GRAY8:
        plane = gray_plane(frame, region)
        return [plane] * (1 if color == "gray" else 3)
    planes: Any
    if frame.format.is_yuv:
        planes = rgb_planes(frame, region, exact=exact)
    else:
        packed = host_planes(frame)[0][y0:y1].reshape(y1 - y0, frame.width, 3)[:, x0:x1]
        planes = [packed[..., c] for c in ((2, 1, 0) if frame.format is PixelFormat.BGR24 else (0, 1, 2))]
    if color == "gray":
        return [_gray(planes)]
    return [planes[0], planes[1], planes[2]] if color == "rgb" else [planes[2], planes[1], planes[0]]


def _gray(planes: Sequence[Bytes]) -> Bytes:
    """round(.299 R + .587 G + .114 B) in Pillow's integers."""
    total = np.full(planes[0].shape, 0x8000, np.uint32)
    for plane, weight in zip(planes, GRAY_FIXED_POINT, strict=True):
        total += plane * np.uint32(weight)
    return (total >> np.uint32(16)).astype(np.uint8)
