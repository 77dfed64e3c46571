"""The float reference of the preprocess contract: what every fast path and kernel must meet within one level.

Order: chroma upsampled bilinearly by the stated siting (edges repeated), matrix, clamp, round to 8 bit, rotation, grey
where the contract asks for it (8 bit), resize in float, crop. Resizing is not rounded. Written for clarity, in float64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import PreprocessError
from ..frame import Frame, MemoryKind, PixelFormat
from ..manifest import Preprocess
from .color import GRAY_FIXED_POINT, ROUNDING, gains, siting_offset, subsampling
from .geometry import geometry

Floats = NDArray[np.float64]


def reference_rgb(frame: Frame) -> NDArray[np.uint8]:
    """The frame as upright RGB, uint8 ``[H, W, 3]`` at its displayed size.

    Raises:
        PreprocessError: the frame lies in device memory.
        FrameError: the frame was released.
    """
    planes = host_planes(frame)
    height, width = frame.height, frame.width
    pixel_format = frame.format
    if pixel_format in (PixelFormat.RGB24, PixelFormat.BGR24):
        rgb = planes[0].reshape(height, width, 3)
        rgb = rgb[..., ::-1] if pixel_format is PixelFormat.BGR24 else rgb
    else:
        factors = gains(frame.matrix, frame.color_range)
        if pixel_format is PixelFormat.GRAY8:
            luma = factors.luma * (planes[0].astype(np.float64) - factors.offset)
            rgb = _to_bytes(np.stack([luma] * 3, axis=-1))
        else:
            y, cb, cr = split_planes(planes, pixel_format, width)
            luma = factors.luma * (y.astype(np.float64) - factors.offset)
            blue, red = (_upsampled(c.astype(np.float64) - 128.0, frame) for c in (cb, cr))
            rgb = _to_bytes(
                np.stack(
                    [
                        luma + factors.red_cr * red,
                        luma + factors.green_cb * blue + factors.green_cr * red,
                        luma + factors.blue_cb * blue,
                    ],
                    axis=-1,
                )
            )
    return np.ascontiguousarray(np.rot90(rgb, -frame.rotation // 90))


def reference_picture(frame: Frame, contract: Preprocess) -> NDArray[np.float32]:
    """The resized and cropped picture, float32 ``[h, w, C]`` in levels 0..255, not rounded, in the contract's order.

    Raises:
        PreprocessError: see :func:`geometry`; or the frame lies in device memory.
    """
    rgb = reference_rgb(frame)
    shape = geometry(contract, rgb.shape[1], rgb.shape[0])
    picture = _in_color(rgb, contract.color).astype(np.float64)
    if shape.resizes:
        taps = triangle_taps if contract.resize.filter == "triangle" else bilinear_taps
        across = taps(shape.source_w, shape.resized_w)[shape.left : shape.left + shape.out_w]
        down = taps(shape.source_h, shape.resized_h)[shape.top : shape.top + shape.out_h]
        channels = [down @ (picture[..., c] @ across.T) for c in range(picture.shape[2])]
        return np.stack(channels, axis=-1).astype(np.float32)
    cut = picture[shape.top : shape.top + shape.out_h, shape.left : shape.left + shape.out_w]
    return cut.astype(np.float32)


def reference_tensor(frame: Frame, contract: Preprocess) -> NDArray[np.float32]:
    """The normalised picture, float32 ``[1, C, h, w]``: (level * scale - mean) / std for each channel."""
    levels = reference_picture(frame, contract).astype(np.float64)
    tensor = (levels * contract.scale - np.array(contract.mean)) / np.array(contract.std)
    return np.ascontiguousarray(tensor.transpose(2, 0, 1)[None].astype(np.float32))


def triangle_taps(source: int, target: int) -> Floats:
    """Weights ``[target, source]`` of the antialiased triangle filter: Pillow's BILINEAR, before its fixed point."""
    scale = source / target
    stretch = max(scale, 1.0)
    weights = np.zeros((target, source))
    for index in range(target):
        center = (index + 0.5) * scale
        first = max(int(center - stretch + 0.5), 0)
        last = min(int(center + stretch + 0.5), source)
        row = np.maximum(1.0 - np.abs((np.arange(first, last) - center + 0.5) / stretch), 0.0)
        weights[index, first:last] = row / row.sum()
    return weights


def bilinear_taps(source: int, target: int) -> Floats:
    """Weights ``[target, source]`` of plain half-pixel bilinear interpolation: two taps, not antialiased."""
    position = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0.0, source - 1.0)
    return _two_taps(position, source)


def _two_taps(position: Floats, source: int) -> Floats:
    """Weights ``[len(position), source]`` of linear interpolation at ``position``, which lies in 0..source-1."""
    rows = np.arange(len(position))
    low = np.floor(position).astype(np.intp)
    high = np.minimum(low + 1, source - 1)
    weights = np.zeros((len(position), source))
    np.add.at(weights, (rows, low), 1.0 - (position - low))
    np.add.at(weights, (rows, high), position - low)
    return weights


def _upsampled(chroma: Floats, frame: Frame) -> Floats:
    """A chroma plane at luma size, bilinear by the frame's siting."""
    across, down = subsampling(frame.format)
    x_offset, y_offset = siting_offset(frame.siting)
    if across == 2:
        chroma = _doubled(chroma.T, frame.width, x_offset).T
    if down == 2:
        chroma = _doubled(chroma, frame.height, y_offset)
    return chroma


def _doubled(samples: Floats, size: int, offset: float) -> Floats:
    """Rows of ``samples`` interpolated at luma rows 0..size-1, where sample i lies at luma row 2 i + offset."""
    position = np.clip((np.arange(size) - offset) / 2.0, 0.0, len(samples) - 1.0)
    low = np.floor(position).astype(np.intp)
    high = np.minimum(low + 1, len(samples) - 1)
    part = (position - low)[:, None]
    doubled: Floats = samples[low] * (1.0 - part) + samples[high] * part
    return doubled


def _to_bytes(levels: Floats) -> NDArray[np.uint8]:
    """Clamp to 0..255 and round halves up."""
    return np.floor(np.clip(levels, 0.0, 255.0) + ROUNDING).astype(np.uint8)


def _in_color(rgb: NDArray[np.uint8], color: str) -> NDArray[np.uint8]:
    """uint8 ``[H, W, C]`` in the contract's channel order; grey is rounded to 8 bit."""
    if color == "rgb":
        return rgb
    if color == "bgr":
        return rgb[..., ::-1]
    weighted: NDArray[np.int64] = rgb.astype(np.int64) @ np.array(GRAY_FIXED_POINT, dtype=np.int64)
    return ((weighted + 0x8000) >> 16).astype(np.uint8)[..., None]


def host_planes(frame: Frame) -> list[NDArray[np.uint8]]:
    """The planes of a host frame; PreprocessError for a device frame."""
    if frame.memory is MemoryKind.DEVICE:
        raise PreprocessError(
            "the frame lies in device memory and this is a host path; expected host or pinned planes",
            fix="use a CUDA engine, or a source that delivers host frames",
        )
    return frame.host_planes()


def split_planes(
    planes: list[NDArray[np.uint8]], pixel_format: PixelFormat, width: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Y, Cb, Cr as 2-D views (with strides) of any YUV format."""
    if pixel_format is PixelFormat.NV12:
        return planes[0], planes[1][:, 0::2], planes[1][:, 1::2]
    if pixel_format is PixelFormat.YUYV422:
        packed = planes[0]
        return packed[:, 0::2][:, :width], packed[:, 1::4], packed[:, 3::4]
    return planes[0], planes[1], planes[2]
