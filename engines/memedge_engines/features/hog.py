"""Histogram of oriented gradients (Dalal and Triggs 2005) as M3-S takes it: 256x256 RGB to 34,596 numbers.

Gradients are central differences of each channel, 0 at the border; the strongest channel counts. 9 orientations over
180 degrees, cells of 8x8 pixels, blocks of 2x2 cells at every cell, L2-Hys (L2, clipped at 0.2, L2 again).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from ..extractors import Values
from ..manifest import Node
from .declared import feature, output, picture

DIM = 34_596
_ORIENTATIONS = 9
_CELL = 8
_EPSILON_SQUARED = 1e-10


def cells(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Histograms of the cells, ``[H // 8, W // 8, 9]``: sums of gradient magnitude per orientation, hard-binned."""
    levels = rgb.astype(np.float32)
    down, right = np.zeros_like(levels), np.zeros_like(levels)
    down[1:-1] = levels[2:] - levels[:-2]
    right[:, 1:-1] = levels[:, 2:] - levels[:, :-2]
    squared = down * down + right * right
    strongest = squared.argmax(2)[..., None]
    down, right, squared = (np.take_along_axis(a, strongest, 2)[..., 0] for a in (down, right, squared))
    # Differences of levels are whole numbers: doubles place each of their angles on its side of a bin's edge.
    degrees = np.rad2deg(np.arctan2(down.astype(np.float64), right)) % 180.0
    bins = np.minimum((degrees / (180.0 / _ORIENTATIONS)).astype(np.int64), _ORIENTATIONS - 1)
    rows, columns = rgb.shape[0] // _CELL, rgb.shape[1] // _CELL
    height, width = rows * _CELL, columns * _CELL
    cell = (np.arange(height) // _CELL)[:, None] * columns + np.arange(width) // _CELL
    places = cell * _ORIENTATIONS + bins[:height, :width]
    sums = np.bincount(
        places.ravel(), np.sqrt(squared[:height, :width]).ravel(), minlength=rows * columns * _ORIENTATIONS
    )
    return (sums.reshape(rows, columns, _ORIENTATIONS) / (_CELL * _CELL)).astype(np.float32)


def hog_vector(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Blocks in reading order, each 2x2 cells of 9: float32 ``[(H // 8 - 1) * (W // 8 - 1) * 36]``; 16x16 at least."""
    histograms = cells(rgb)
    height, width = (side - 1 for side in histograms.shape[:2])
    corners = [histograms[i : height + i, j : width + j] for i in (0, 1) for j in (0, 1)]
    blocks = np.stack(corners, 2).reshape(-1, 4 * _ORIENTATIONS).astype(np.float64)
    for clip in (0.2, np.inf):
        blocks = np.minimum(blocks / np.sqrt((blocks * blocks).sum(1, keepdims=True) + _EPSILON_SQUARED), clip)
    return blocks.reshape(-1).astype(np.float32)


@feature("hog", DIM)
def hog(values: Values, node: Node) -> dict[str, NDArray[np.float32]]:
    """An RGB picture of 256x256 to its blocks."""
    rgb = picture(values, node, 3)
    if rgb.shape[:2] != (256, 256):
        raise EngineError(
            f"node '{node.name}': hog got {rgb.shape[1]}x{rgb.shape[0]}; expected 256x256 (preprocess resize exact)"
        )
    return output(node, hog_vector(rgb))
