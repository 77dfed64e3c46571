"""Resizing of 8-bit planes: the antialiased triangle filter by Pillow, plain bilinear by NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .geometry import Geometry
from .yuv import Region

Bytes = NDArray[np.uint8]


def needed_region(shape: Geometry, filter_name: str) -> Region:
    """The source pixels that the crop depends on; the whole picture where cutting it could change a tap.

    Pillow keeps a box in single precision, which moves taps by up to 1e-4 pixels: nothing where many pixels are
    averaged, but elsewhere Pillow's own two roundings may use up the one level that is allowed.
    """
    if not shape.resizes:
        return shape.left, shape.top, shape.left + shape.out_w, shape.top + shape.out_h
    x_scale, y_scale = shape.source_w / shape.resized_w, shape.source_h / shape.resized_h
    if filter_name == "triangle" and not shape.averages:
        return 0, 0, shape.source_w, shape.source_h
    x0, y0, x1, y1 = shape.source_box()
    # One filter support on either side, and one pixel more for rounding; a cut at the picture's edge changes nothing.
    left, right = _widened(x0, x1, max(x_scale, 1.0), shape.source_w)
    top, bottom = _widened(y0, y1, max(y_scale, 1.0), shape.source_h)
    return left, top, right, bottom


def _widened(start: float, stop: float, support: float, side: int) -> tuple[int, int]:
    """Whole pixels with the filter's support around start..stop, from even to even where the side allows."""
    first = max(int(start - support) - 1, 0) & ~1
    return first, min((int(stop + support) + 3) & ~1, side)


def resize_triangle(planes: Sequence[Bytes], region: Region, shape: Geometry) -> Bytes:
    """Planes of ``region`` to uint8 ``[out_h, out_w, C]`` with Pillow's antialiased BILINEAR."""
    from PIL import Image

    height, width = planes[0].shape
    cut = (width, height) != (shape.source_w, shape.source_h)
    if cut:
        x0, y0, x1, y1 = shape.source_box()
        box = (x0 - region[0], y0 - region[1], x1 - region[0], y1 - region[1])
        size, offset = (shape.out_w, shape.out_h), (0, 0)
    else:
        box = (0.0, 0.0, float(width), float(height))
        size, offset = (shape.resized_w, shape.resized_h), (shape.left, shape.top)
    result = np.empty((shape.out_h, shape.out_w, len(planes)), np.uint8)
    done: dict[int, Bytes] = {}
    for channel, plane in enumerate(planes):
        if id(plane) not in done:
            rows = np.ascontiguousarray(plane)
            image = Image.frombuffer("L", (width, height), rows, "raw", "L", 0, 1)
            done[id(plane)] = np.asarray(image.resize(size, Image.Resampling.BILINEAR, box))
        left, top = offset
        result[..., channel] = done[id(plane)][top : top + shape.out_h, left : left + shape.out_w]
    return result


def resize_packed(rows: Bytes, order: str, first_row: int, shape: Geometry) -> Bytes:
    """Whole packed rows, uint8 ``[h, w * 3]`` from ``first_row`` on, to uint8 ``[out_h, out_w, 3]``, triangle filter.

    ``order`` is Pillow's raw mode (``RGB`` or ``BGR``) that reads the rows in the channel order wanted.
    """
    from PIL import Image

    size = (shape.source_w, rows.shape[0])
    image = Image.frombuffer("RGB", size, np.ascontiguousarray(rows), "raw", order, 0, 1)
    if size[1] == shape.source_h and not shape.averages:
        whole = np.asarray(image.resize((shape.resized_w, shape.resized_h), Image.Resampling.BILINEAR))
        return whole[shape.top : shape.top + shape.out_h, shape.left : shape.left + shape.out_w]
    x0, y0, x1, y1 = shape.source_box()
    box = (x0, y0 - first_row, x1, y1 - first_row)
    return np.asarray(image.resize((shape.out_w, shape.out_h), Image.Resampling.BILINEAR, box))


def resize_plain(planes: Sequence[Bytes], region: Region, shape: Geometry) -> Bytes:
    """Planes of ``region`` to uint8 ``[out_h, out_w, C]``: half-pixel bilinear with two taps, not antialiased."""
    columns = _taps(shape.source_w, shape.resized_w, shape.left, shape.out_w, region[0])
    rows = _taps(shape.source_h, shape.resized_h, shape.top, shape.out_h, region[1])
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
