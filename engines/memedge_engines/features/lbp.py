"""Uniform local binary patterns (He and Wang 1990; Ojala et al. 2002) of grey pictures, as normalised histograms.

``lbp122``: 120 neighbours on a circle of radius 15; the label is the number of neighbours not darker than the centre
where they change at most twice around the circle, else 121. ``lbp59``: 8 neighbours at radius 1; each of the 58
uniform patterns is a label of its own, all others share the last. Neighbours between pixels are interpolated
bilinearly; outside the picture is black, as in scikit-image. Points on a flat ground equal it exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..extractors import Values
from ..manifest import Node
from .declared import feature, output, picture

Floats = NDArray[np.float32]

_STRIP = 96
"""Rows worked on at a time: what they need stays in the processor's cache."""


def _offsets(points: int, radius: int) -> list[tuple[float, float]]:
    """(down, right) of each point, counter-clockwise from the right; rounded so that whole pixels are whole."""
    angles = [2.0 * math.pi * p / points for p in range(points)]
    return [(round(-radius * math.sin(a), 5), round(radius * math.cos(a), 5)) for a in angles]


def _strips(gray: NDArray[np.uint8], radius: int) -> Iterator[tuple[slice, Floats]]:
    """Rows of the picture, and their levels with a black margin of ``radius + 1`` around them."""
    margin = radius + 1
    ground = np.pad(gray, margin).astype(np.float32)
    for top in range(0, gray.shape[0], _STRIP):
        bottom = min(top + _STRIP, gray.shape[0])
        yield slice(top, bottom), ground[top : bottom + 2 * margin]


def _bits(ground: Floats, points: int, radius: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(point, whether it is not darker than the centre: 0 or 1) in the order 0, 1, P - 1, 2, P - 2 ... P / 2.

    Points on one column share the interpolation along the rows.
    """
    margin = radius + 1
    height, width = (side - 2 * margin for side in ground.shape)
    center = ground[margin : margin + height, margin : margin + width]
    slopes = ground[:, 1:] - ground[:, :-1]
    across = np.empty((ground.shape[0], width), np.float32)
    value = np.empty((height, width), np.float32)
    offsets = _offsets(points, radius)
    for first in range(points // 2 + 1):
        right = offsets[first][1]
        left = math.floor(right)
        columns = slice(margin + left, margin + left + width)
        # a + part * (b - a): equal levels give that very level, which weights that add up to 1 do not.
        np.multiply(slopes[:, columns], np.float32(right - left), out=across)
        across += ground[:, columns]
        for point in sorted({first, (points - first) % points}):
            down = offsets[point][0]
            top = margin + math.floor(down)
            above = across[top : top + height]
            np.subtract(across[top + 1 : top + 1 + height], above, out=value)
            value *= np.float32(down - math.floor(down))
            value += above
            yield point, (value >= center).view(np.uint8)


def rotation_invariant(gray: NDArray[np.uint8], points: int = 120, radius: int = 15) -> NDArray[np.uint8]:
    """Labels 0 .. points + 1, ``[H, W]``; ``points`` is even and at most 252."""
    labels = np.empty(gray.shape, np.uint8)
    for rows, ground in _strips(gray, radius):
        ones, changes = np.zeros((2, *labels[rows].shape), np.uint8)
        half = points // 2
        # Both halves of the circle, up from point 0 and down from it, each with its last bit.
        last: list[NDArray[np.uint8]] = []
        for point, bit in _bits(ground, points, radius):
            ones += bit
            if point == 0:
                last = [bit, bit]
            for side in (0, 1):
                if point == half or (point != 0 and side == (point > half)):
                    changes += bit ^ last[side]
                    last[side] = bit
        labels[rows] = np.where(changes <= 2, ones, np.uint8(points + 1))
    return labels


def _uniform_labels() -> NDArray[np.uint8]:
    """Pattern of 8 bits (point 0 lowest) to its label: 0 none, then by number of ones and by turn, 57 all, 58 others.

    The turn is how many points the first of the ones lies clockwise of point 0, as scikit-image counts.
    """
    table = np.full(256, 58, np.uint8)
    table[0], table[255] = 0, 57
    for ones in range(1, 8):
        for turn in range(8):
            code = sum(1 << ((8 - turn + i) % 8) for i in range(ones))
            table[code] = 1 + (ones - 1) * 8 + turn
    return table


_UNIFORM = _uniform_labels()


def uniform(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels 0 .. 58 of 8 neighbours at radius 1, ``[H, W]``."""
    labels = np.empty(gray.shape, np.uint8)
    for rows, ground in _strips(gray, 1):
        code = np.zeros_like(labels[rows])
        for point, bit in _bits(ground, 8, 1):
            code |= bit << np.uint8(point)
        labels[rows] = _UNIFORM[code]
    return labels


def _histogram(labels: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
    return (np.bincount(labels.ravel(), minlength=count) / labels.size).astype(np.float32)


@feature("lbp122", 122)
def lbp122(values: Values, node: Node) -> dict[str, NDArray[np.float32]]:
    """A grey picture to the histogram of 122 labels."""
    return output(node, _histogram(rotation_invariant(picture(values, node, 1)), 122))


@feature("lbp59", 59)
def lbp59(values: Values, node: Node) -> dict[str, NDArray[np.float32]]:
    """A grey picture to the histogram of 59 labels."""
    return output(node, _histogram(uniform(picture(values, node, 1)), 59))
