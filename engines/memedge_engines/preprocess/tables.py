"""Fixed-point tables that the compiled CPU path and the CUDA kernel share; ``kernels/pixels.h`` says what they mean.

Weights of one result add up to exactly ``1 << WEIGHT_BITS``; they are rounded cumulatively, so that the rounding error
of any run of taps stays below one unit whatever their number.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..frame import ColorMatrix, ColorRange, Frame
from ..manifest import InputStorage, Preprocess
from .color import gains, siting_offset, subsampling
from .geometry import Geometry
from .tensor import level_tables

LUMA_BITS = 30
CHROMA_BITS = 29
SUM_BITS = 21
WEIGHT_BITS = 14
BETWEEN_BITS = 7


@dataclass(frozen=True)
class AxisTable:
    """Taps of the results that the crop keeps along one axis.

    ``first``: int32 ``[count]``, the source position of tap 0; ``weights``: int16 ``[count, taps]``. Both read-only.
    """

    first: NDArray[np.int32]
    weights: NDArray[np.int16]

    @property
    def source_range(self) -> tuple[int, int]:
        """Source positions (from, to) that the results depend on."""
        return int(self.first.min()), int(self.first.max()) + self.weights.shape[1]


@dataclass(frozen=True)
class ColorTable:
    """Integer gains of a matrix and range, in the order of ``me_color``."""

    base: int
    luma: int
    red_cr: int
    green_cb: int
    green_cr: int
    blue_cb: int


@lru_cache(maxsize=64)
def axis_table(source: int, resized: int, first: int, count: int, filter_name: str) -> AxisTable:
    """Taps of results ``first`` to ``first + count`` of a resize from ``source`` to ``resized`` samples.

    ``filter_name``: ``triangle`` (antialiased, Pillow's BILINEAR) or ``bilinear`` (two taps, half-pixel centres). With
    ``source == resized`` each result is its source sample.
    """
    index = np.arange(first, first + count)
    if source == resized:
        return _frozen(index.astype(np.int32), np.full((count, 1), 1 << WEIGHT_BITS, np.int16))
    scale = source / resized
    if filter_name == "triangle":
        stretch = max(scale, 1.0)
        center = (index + 0.5) * scale
        low = np.maximum((center - stretch + 0.5).astype(np.int64), 0)
        high = np.minimum((center + stretch + 0.5).astype(np.int64), source)
        taps = int((high - low).max())
        position = low[:, None] + np.arange(taps)
        weights = np.maximum(1.0 - np.abs((position - center[:, None] + 0.5) / stretch), 0.0)
        weights[position >= high[:, None]] = 0.0
        weights /= weights.sum(axis=1, keepdims=True)
    else:
        at = np.clip((index + 0.5) * scale - 0.5, 0.0, source - 1.0)
        low = np.minimum(np.floor(at).astype(np.int64), max(source - 2, 0))
        taps = min(2, source)
        part = at - low
        weights = np.stack([1.0 - part, part], axis=1)[:, :taps]
        if taps == 1:
            weights[:] = 1.0
    rounded = np.rint(np.cumsum(weights, axis=1) * (1 << WEIGHT_BITS))
    rounded[:, -1] = 1 << WEIGHT_BITS
    fixed = np.diff(rounded, axis=1, prepend=0.0).astype(np.int16)
    # A row of taps that would reach past the end begins earlier, with zeros in front.
    over = np.maximum(low + taps - source, 0)
    for row in np.flatnonzero(over):
        fixed[row] = np.roll(fixed[row], over[row])
    return _frozen((low - over).astype(np.int32), fixed)


def _frozen(first: NDArray[np.int32], weights: NDArray[np.int16]) -> AxisTable:
    first.flags.writeable = False
    weights.flags.writeable = False
    return AxisTable(first, weights)


def axes(shape: Geometry, filter_name: str) -> tuple[AxisTable, AxisTable]:
    """(x, y) tables of a geometry in stored orientation (:meth:`Geometry.unrotated`)."""
    return (
        axis_table(shape.source_w, shape.resized_w, shape.left, shape.out_w, filter_name),
        axis_table(shape.source_h, shape.resized_h, shape.top, shape.out_h, filter_name),
    )


@lru_cache(maxsize=16)
def color_table(matrix: ColorMatrix, color_range: ColorRange) -> ColorTable:
    """The integer gains of a matrix and range.

    ``base`` has one unit more than half a level: products are cut off, not rounded, and what they lose must not take an
    exact half with it.
    """
    exact = gains(matrix, color_range)
    one = float(1 << CHROMA_BITS)
    return ColorTable(
        base=(1 << (SUM_BITS - 1)) + 1 - round(exact.luma * exact.offset * (1 << SUM_BITS)),
        luma=round(exact.luma * (1 << LUMA_BITS)),
        red_cr=round(exact.red_cr * one),
        green_cb=round(exact.green_cb * one),
        green_cr=round(exact.green_cr * one),
        blue_cb=round(exact.blue_cb * one),
    )


def chroma_steps(frame: Frame) -> tuple[int, int, int, int]:
    """``sub_x, sub_y, half_x, half_y`` of ``me_job`` for a frame."""
    sub_x, sub_y = subsampling(frame.format)
    offset_x, offset_y = siting_offset(frame.siting)
    return sub_x, sub_y, int(sub_x == 2 and offset_x == 0.5), int(sub_y == 2 and offset_y == 0.5)


def value_table(contract: Preprocess, storage: InputStorage | None) -> NDArray[Any]:
    """``[channels, 256]``: what the tensor holds for each level, in the dtype of the node's input.

    float32 values are :func:`to_tensor`'s; float16 and int8 / uint8 (with the graph's own scale) are those rounded as
    the host executor rounds them.
    """
    table = level_tables(contract)
    if storage is None or storage.dtype == "float32":
        return table
    dtype: DTypeLike = storage.dtype
    if storage.dtype in ("int8", "uint8") and storage.scale:
        limits = np.iinfo(storage.dtype)
        whole: NDArray[Any] = np.clip(np.rint(table / storage.scale), limits.min, limits.max).astype(dtype)
        return whole
    return table.astype(dtype)
