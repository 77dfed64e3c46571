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


def _offsets(points: int, radius: int) -> list[tuple[float, float]]:
    """(down, right) of each point, counter-clockwise from the right; rounded so that whole pixels are whole."""
    angles = [2.0 * math.pi * p / points for p in range(points)]
    return [(round(-radius * math.sin(a), 5), round(radius * math.cos(a), 5)) for a in angles]


def _bits(gray: NDArray[np.uint8], points: int, radius: int) -> Iterator[NDArray[np.uint8]]:
    """For each point, whether it is not darker than the centre: 0 or 1, ``[H, W]``."""
    height, width = gray.shape
    margin = radius + 1
    ground = np.pad(gray, margin).astype(np.float32)
    center = np.ascontiguousarray(ground[margin : margin + height, margin : margin + width])
    for down, right in _offsets(points, radius):
        top, left = math.floor(down), math.floor(right)
        part_down, part_right = np.float32(down - top), np.float32(right - left)
        rows = ground[margin + top : margin + top + height + 1, margin + left : margin + left + width + 1]
        # a + part * (b - a): equal levels give that very level, which weights that add up to 1 do not.
        across = rows[:, :-1] + part_right * (rows[:, 1:] - rows[:, :-1]) if part_right else rows[:, :-1]
        value = across[:-1] + part_down * (across[1:] - across[:-1]) if part_down else across[:-1]
        yield (value >= center).view(np.uint8)


def rotation_invariant(gray: NDArray[np.uint8], points: int = 120, radius: int = 15) -> NDArray[np.uint8]:
    """Labels 0 .. points + 1, ``[H, W]``; at most 253 points."""
    ones = np.zeros(gray.shape, np.uint8)
    changes = np.zeros(gray.shape, np.uint8)
    first = before = None
    for bit in _bits(gray, points, radius):
        ones += bit
        if before is None:
            first = bit
        else:
            changes += bit ^ before
        before = bit
    if first is not None and before is not None:
        changes += first ^ before
    return np.where(changes <= 2, ones, np.uint8(points + 1))


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
    code = np.zeros(gray.shape, np.uint8)
    for point, bit in enumerate(_bits(gray, 8, 1)):
        code |= bit << np.uint8(point)
    return _UNIFORM[code]


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
