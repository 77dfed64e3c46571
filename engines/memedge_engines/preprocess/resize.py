"""Resizing of 8-bit planes: the antialiased triangle filter by Pillow, plain bilinear by NumPy.

Only what the crop needs is converted and resized.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .geometry import Geometry
from .yuv import Region

Bytes = NDArray[np.uint8]

_BOX_STEPS = 256
"""Pillow keeps a box in single precision: 24 bits, so sides below 65536 may start at multiples of 1/256 exactly."""


@dataclass(frozen=True)
class Cut:
    """The part of a resize that is carried out.

    Attributes:
        region: source pixels that it depends on, (x0, y0, x1, y1).
        box: source rectangle, counted from the region's corner, that becomes ``size``.
        size: (width, height) of that result.
        left, top: where the crop starts in it.
    """

    region: Region
    box: tuple[float, float, float, float]
    size: tuple[int, int]
    left: int
    top: int


def plan_cut(shape: Geometry) -> Cut:
    """The smallest part of the resize that gives the very bytes of resizing everything and cropping then.

    A box that single precision cannot hold moves the taps and with them ties, which costs up to two levels on flat
    pictures. So the part starts and ends where both the source and the resized grid have an exact coordinate.
    """
    if not shape.resizes:
        left, top, right, bottom = shape.left, shape.top, shape.left + shape.out_w, shape.top + shape.out_h
        return Cut((left, top, right, bottom), (0.0, 0.0, 0.0, 0.0), (shape.out_w, shape.out_h), 0, 0)
    x = _axis(shape.source_w, shape.resized_w, shape.left, shape.out_w)
    y = _axis(shape.source_h, shape.resized_h, shape.top, shape.out_h)
    return Cut(
        region=(x.region[0], y.region[0], x.region[1], y.region[1]),
        box=(x.box[0], y.box[0], x.box[1], y.box[1]),
        size=(x.count, y.count),
        left=x.first,
        top=y.first,
    )


@dataclass(frozen=True)
class _Axis:
    """One axis of a :class:`Cut`: source range, box in it, results, and the crop's first one among them."""

    region: tuple[int, int]
    box: tuple[float, float]
    count: int
    first: int


def _axis(source: int, resized: int, first: int, count: int) -> _Axis:
    grid = resized // math.gcd(resized, source * _BOX_STEPS)
    start = first // grid * grid
    stop = min(-(-(first + count) // grid) * grid, resized)
    scale = source / resized
    box = start * source / resized, stop * source / resized
    # The filter's support on either side and a pixel more; even offsets: colour conversion works on whole pairs.
    margin = max(scale, 1.0) + 1.0
    low = max(math.floor(box[0] - margin), 0) & ~1
    high = min((math.ceil(box[1] + margin) + 1) & ~1, source)
    return _Axis((low, high), (box[0] - low, box[1] - low), stop - start, first - start)


def resize_triangle(planes: Sequence[Bytes], cut: Cut, shape: Geometry) -> Bytes:
    """Planes of the cut's region to uint8 ``[out_h, out_w, C]`` with Pillow's antialiased BILINEAR."""
    from PIL import Image

    height, width = planes[0].shape
    result = np.empty((shape.out_h, shape.out_w, len(planes)), np.uint8)
    done: dict[int, Bytes] = {}
    for channel, plane in enumerate(planes):
        if id(plane) not in done:  # a grey picture has one plane, three times
            image = Image.frombuffer("L", (width, height), np.ascontiguousarray(plane), "raw", "L", 0, 1)
            resized = np.asarray(image.resize(cut.size, Image.Resampling.BILINEAR, cut.box))
            done[id(plane)] = resized[cut.top : cut.top + shape.out_h, cut.left : cut.left + shape.out_w]
        result[..., channel] = done[id(plane)]
    return result


def resize_packed(rows: Bytes, order: str, cut: Cut, shape: Geometry) -> Bytes:
    """Packed rows of the cut's region, whole from left to right, uint8 ``[h, width * 3]``, with the triangle filter.

    ``order`` is Pillow's raw mode (``RGB`` or ``BGR``) that reads the rows in the channel order wanted.
    """
    from PIL import Image

    size = (shape.source_w, rows.shape[0])
    image = Image.frombuffer("RGB", size, np.ascontiguousarray(rows), "raw", order, 0, 1)
    x0, y0, x1, y1 = cut.box
    box = (x0 + cut.region[0], y0, x1 + cut.region[0], y1)
    resized = np.asarray(image.resize(cut.size, Image.Resampling.BILINEAR, box))
    return resized[cut.top : cut.top + shape.out_h, cut.left : cut.left + shape.out_w]


def resize_plain(planes: Sequence[Bytes], cut: Cut, shape: Geometry) -> Bytes:
    """Planes of the cut's region to uint8 ``[out_h, out_w, C]``: half-pixel bilinear, two taps, not antialiased."""
    columns = _taps(shape.source_w, shape.resized_w, shape.left, shape.out_w, cut.region[0])
    rows = _taps(shape.source_h, shape.resized_h, shape.top, shape.out_h, cut.region[1])
    result = np.empty((shape.out_h, shape.out_w, len(planes)), np.uint8)
    for channel, plane in enumerate(planes):
        upper, lower = (_across(plane[index], columns) for index in rows[:2])
        mixed = upper + (lower - upper) * rows[2][:, None]
        result[..., channel] = mixed + np.float32(0.5)
    return result


Taps = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]


def _taps(source: int, target: int, first: int, count: int, origin: int) -> Taps:
    """Left and right neighbour (counted from ``origin``) and weight of the right one for results first..first+count."""
    position = np.clip((np.arange(first, first + count) + 0.5) * (source / target) - 0.5, 0.0, source - 1.0)
    low = np.floor(position).astype(np.intp)
    return low - origin, np.minimum(low + 1, source - 1) - origin, (position - low).astype(np.float32)


def _across(lines: Bytes, columns: Taps) -> NDArray[np.float32]:
    """Rows interpolated at the columns' taps, float32."""
    left = lines[:, columns[0]].astype(np.float32)
    return left + (lines[:, columns[1]] - left) * columns[2]
