"""YUV and grey frames to RGB planes in NumPy: any format, size, matrix, range and siting, any part of the picture.

Arithmetic is float32, which differs from the float reference only next to a half (about one sample in a million, by one
level), or float64 (``exact``), which gives its very bytes, for resizes that would not average such samples out.
What makes it quick: the matrix is applied at chroma resolution, before upsampling (both are linear); even and odd
columns are worked on as two half-width planes, so that nothing is gathered or interleaved (a uint16 holds two
neighbours); and blocks of rows stay in the cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..frame import Frame, PixelFormat
from .color import ROUNDING, YuvGains, gains, siting_offset, subsampling
from .reference import host_planes, split_planes
from .workspace import Workspace

BLOCK_ROWS = 64
"""Luma rows worked on at a time; even, since chroma rows come in pairs."""

Region = tuple[int, int, int, int]
"""(x0, y0, x1, y1) in stored pixels, ends not included."""

Bytes = NDArray[np.uint8]
Floats = NDArray[np.floating[Any]]
Words = NDArray[np.uint16]
Limits = tuple[NDArray[np.int16], NDArray[np.int16]]

Dtype = type[np.float32] | type[np.float64]

_workspace = Workspace()
_LOW_FIRST = np.little_endian


def gray_plane(frame: Frame, region: Region) -> Bytes:
    """A GRAY8 frame's levels at full range, uint8 ``[h, w]``; a view of the frame when nothing is to be changed."""
    x0, y0, x1, y1 = region
    plane = host_planes(frame)[0][y0:y1, x0:x1]
    factors = gains(frame.matrix, frame.color_range)
    if factors.luma == 1.0:
        return plane
    levels = (np.arange(256) - factors.offset) * factors.luma
    table: Bytes = np.floor(np.clip(levels, 0.0, 255.0) + ROUNDING).astype(np.uint8)
    return np.take(table, plane)


def rgb_planes(frame: Frame, region: Region, *, exact: bool) -> Bytes:
    """Part of a YUV frame as uint8 ``[3, h, w]`` (R, G, B), in stored orientation; ``exact`` computes in float64.

    The array is the calling thread's scratch: valid until its next call.

    Raises:
        PreprocessError: the frame lies in device memory.
    """
    x0, y0, x1, y1 = region
    left, top = x0 & ~1, y0 & ~1
    across, down = subsampling(frame.format)
    luma, cb, cr = split_planes(host_planes(frame), frame.format, frame.width)
    factors = gains(frame.matrix, frame.color_range)
    dtype: Dtype = np.float64 if exact else np.float32
    pairs = (x1 - left + 1) // 2
    result = _workspace.array("rgb", (3, y1 - top, pairs * 2), np.uint8)
    result16 = result.view(np.uint16)
    # Whole arrays, because NumPy takes a scalar bound ten times as long.
    low = _workspace.array("low", (BLOCK_ROWS, pairs), np.int16)
    high = _workspace.array("high", (BLOCK_ROWS, pairs), np.int16)
    low.fill(0)
    high.fill(255)
    x_offset, y_offset = siting_offset(frame.siting)
    for first in range(top, y1, BLOCK_ROWS):
        rows = min(BLOCK_ROWS, y1 - first)
        evens, odds = _luma_pairs(luma[first : first + rows, left:x1], pairs, factors, dtype)
        terms = _chroma_terms(cb, cr, frame.format, left, pairs, first, rows, factors, dtype)
        for channel in range(3):
            term = terms[channel]
            if down == 2:
                term = _double_rows(term, rows, y_offset)
            if across == 2:
                even_term, odd_term = _double_columns(term, x_offset)
            else:
                even_term, odd_term = term[:, 0::2], term[:, 1::2]
            target = result16[channel, first - top : first - top + rows]
            _store(evens, even_term, odds, odd_term, (low, high), target)
    return result[:, y0 - top :, x0 - left : x1 - left]


def _luma_pairs(luma: Bytes, pairs: int, factors: YuvGains, dtype: Dtype) -> tuple[Floats, Floats]:
    """luma gain * (Y - offset) + 0.5 of the even and the odd columns, ``[rows, pairs]`` each.

    The half is for rounding: the result is truncated in the end.
    """
    rows, width = luma.shape
    bytes_ = _workspace.array("luma bytes", (rows, pairs * 2), np.uint8)
    bytes_[:, :width] = luma
    if width < pairs * 2:
        bytes_[:, width] = luma[:, -1]
    both = bytes_.view(np.uint16)
    half = _workspace.array("half", (rows, pairs), np.uint16)
    shift = ROUNDING - factors.luma * factors.offset
    sides = []
    for name, low in (("luma even", _LOW_FIRST), ("luma odd", not _LOW_FIRST)):
        np.bitwise_and(both, np.uint16(255), out=half) if low else np.right_shift(both, np.uint16(8), out=half)
        side = _workspace.array(name, (rows, pairs), dtype)
        np.multiply(half, factors.luma, out=side, dtype=dtype)
        np.add(side, shift, out=side)
        sides.append(side)
    return sides[0], sides[1]


def _chroma_terms(
    cb: Bytes,
    cr: Bytes,
    pixel_format: PixelFormat,
    left: int,
    pairs: int,
    first: int,
    rows: int,
    factors: YuvGains,
    dtype: Dtype,
) -> list[Floats]:
    """What Cb and Cr add to R, G and B at chroma resolution, for a block of luma rows.

    Along a subsampled axis one more sample on each side, repeated at the picture's edge, so that neighbours exist.
    """
    across, down = subsampling(pixel_format)
    start = first // down
    count = (rows + down - 1) // down
    row_ids = (start - 1, start + count + 1) if down == 2 else (start, start + count)
    column_ids = (left // 2 - 1, left // 2 + pairs + 1) if across == 2 else (left, left + 2 * pairs)
    blue = _padded("blue", cb, row_ids, column_ids, dtype)
    red = _padded("red", cr, row_ids, column_ids, dtype)
    green = _workspace.array("green", blue.shape, dtype)
    spare = _workspace.array("spare", blue.shape, dtype)
    np.multiply(blue, factors.green_cb, out=green)
    np.multiply(red, factors.green_cr, out=spare)
    np.add(green, spare, out=green)
    np.multiply(red, factors.red_cr, out=red)
    np.multiply(blue, factors.blue_cb, out=blue)
    return [red, green, blue]


def _padded(name: str, plane: Bytes, row_ids: tuple[int, int], column_ids: tuple[int, int], dtype: Dtype) -> Floats:
    """``plane - 128`` as float for the given ranges of rows and columns; those outside repeat the edge."""
    (r0, r1), (c0, c1) = row_ids, column_ids
    height, width = plane.shape
    above, below = max(-r0, 0), max(r1 - height, 0)
    before, after = max(-c0, 0), max(c1 - width, 0)
    block = _workspace.array(name, (r1 - r0, c1 - c0), dtype)
    inner = block[above : r1 - r0 - below, before : c1 - c0 - after]
    np.subtract(plane[r0 + above : r1 - below, c0 + before : c1 - after], 128.0, out=inner, dtype=dtype)
    lines = slice(above, r1 - r0 - below)
    block[lines, :before] = block[lines, before : before + 1]
    block[lines, c1 - c0 - after :] = block[lines, c1 - c0 - after - 1 : c1 - c0 - after]
    block[:above] = block[above]
    block[r1 - r0 - below :] = block[r1 - r0 - below - 1]
    return block


def _double_rows(term: Floats, rows: int, offset: float) -> Floats:
    """Chroma rows (one more on each side) interpolated at ``rows`` luma rows, of which the first is even."""
    count = term.shape[0] - 2
    result = _workspace.array("rows", (count, 2, term.shape[1]), term.dtype)
    _interpolate(term[:-2], term[1:-1], term[2:], offset, result[:, 0], result[:, 1])
    return result.reshape(2 * count, -1)[:rows]


def _double_columns(term: Floats, offset: float) -> tuple[Floats, Floats]:
    """Chroma columns (one more on each side) interpolated at the even and at the odd luma columns."""
    middle = term[:, 1:-1]
    odd = _workspace.array("columns odd", middle.shape, term.dtype)
    even = middle if offset == 0.0 else _workspace.array("columns even", middle.shape, term.dtype)
    _interpolate(term[:, :-2], middle, term[:, 2:], offset, even, odd)
    return even, odd


def _interpolate(before: Floats, here: Floats, after: Floats, offset: float, even: Floats, odd: Floats) -> None:
    """Linear interpolation at both luma positions of each chroma sample, which lies ``offset`` after the even one."""
    if offset == 0.0:
        if even is not here:
            np.copyto(even, here)
        np.add(here, after, out=odd)
        np.multiply(odd, 0.5, out=odd)
        return
    quarter = _workspace.array("quarter", here.shape, here.dtype)
    main = _workspace.array("main", here.shape, here.dtype)
    np.multiply(here, 0.75, out=main)
    np.multiply(before, 0.25, out=quarter)
    np.add(main, quarter, out=even)
    np.multiply(after, 0.25, out=quarter)
    np.add(main, quarter, out=odd)


def _store(evens: Floats, even_term: Floats, odds: Floats, odd_term: Floats, limits: Limits, target: Words) -> None:
    """Add, truncate and clamp both columns into one uint16 ``target`` ``[rows, pairs]``."""
    rows = evens.shape[0]
    total = _workspace.array("total", evens.shape, evens.dtype)
    half = _workspace.array("half", evens.shape, np.uint16)
    low, high = limits
    for first, luma, term in ((True, evens, even_term), (False, odds, odd_term)):
        levels = (target if first else half).view(np.int16)
        np.add(luma, term, out=total)
        np.copyto(levels, total, casting="unsafe")
        np.maximum(levels, low[:rows], out=levels)
        np.minimum(levels, high[:rows], out=levels)
        if first != _LOW_FIRST:
            np.left_shift(levels.view(np.uint16), np.uint16(8), out=levels.view(np.uint16))
    np.bitwise_or(target, half, out=target)
