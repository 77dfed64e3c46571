"""Where the detail of a picture lies: wavelets, edges and local texture, for ``aes-lite``."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .colors import Floats

_LEVELS = 3
_EDGE = 25.5
_BLOCK = 8
_TEXTURE_BINS = 32
_KEPT = 0.9


def haar(channel: Floats) -> list[Floats]:
    """Details of three levels of the orthonormal Haar transform, finest first: means of |LH|, |HL| and |HH|.

    Sides are cut to even numbers at each level; what is too small for a level gives an empty array.
    """
    found = []
    for _ in range(_LEVELS):
        height, width = (side - side % 2 for side in channel.shape)
        a, b = channel[0:height:2, 0:width:2], channel[0:height:2, 1:width:2]
        c, d = channel[1:height:2, 0:width:2], channel[1:height:2, 1:width:2]
        across, down, both = np.abs(a - b + c - d), np.abs(a + b - c - d), np.abs(a - b - c + d)
        found.append(((across + down + both) / np.float32(6.0)).astype(np.float32))
        channel = (a + b + c + d) / np.float32(2.0)
    return found


def depth_of_field(detail: Floats) -> float:
    """Part of the coarsest details that lies in the middle half of both sides; 0 where there are none."""
    total = float(detail.sum())
    if total <= 0:
        return 0.0
    rows, columns = (slice(side // 4, side - side // 4) for side in detail.shape)
    return float(detail[rows, columns].sum()) / total


def edges(gray: Floats) -> tuple[float, float, float]:
    """Variance of the Laplacian (4 neighbours), part of the pixels whose gradient is above a tenth of the levels, and
    area of the box that holds 90 % of the Laplacian's magnitude, as a part of the picture.

    The border is left out; a picture without inner pixels has none of the three, one without edges a whole box.
    """
    if min(gray.shape) < 3:
        return 0.0, 0.0, 1.0
    inner = gray[1:-1, 1:-1]
    laplacian = gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:] - 4 * inner
    gradient = np.hypot(gray[2:, 1:-1] - gray[:-2, 1:-1], gray[1:-1, 2:] - gray[1:-1, :-2]) / 2
    energy = np.abs(laplacian)
    area = _box(energy.sum(1)) * _box(energy.sum(0))
    return float(laplacian.var()), float((gradient > _EDGE).mean()), area


def _box(profile: Floats) -> float:
    """Part of a side that holds the square root of 90 % of its energy, as much left out at either end."""
    total = float(profile.sum(dtype=np.float64))
    if total <= 1e-3 * profile.size:
        return 1.0
    reached = np.cumsum(profile, dtype=np.float64) / total
    outside = (1.0 - math.sqrt(_KEPT)) / 2
    first, last = np.searchsorted(reached, (outside, 1.0 - outside))
    return float(min(last, profile.size - 1) - first + 1) / profile.size


def local_texture(gray: Floats) -> tuple[float, float, float]:
    """Mean and standard deviation of the standard deviations in squares of 8x8 (grey 0..1), and their entropy in bits
    over 32 bins of 0..0.5; a side below 8 is one square long."""
    block = [min(_BLOCK, side) for side in gray.shape]
    height, width = (side - side % b for side, b in zip(gray.shape, block, strict=True))
    squares = gray[:height, :width].reshape(height // block[0], block[0], width // block[1], block[1])
    deviations: NDArray[np.float32] = squares.std((1, 3))
    bins = np.bincount(
        np.minimum((deviations * (2 * _TEXTURE_BINS)).astype(np.int64), _TEXTURE_BINS - 1).ravel(),
        minlength=_TEXTURE_BINS,
    )
    parts = bins[bins > 0] / deviations.size
    return float(deviations.mean()), float(deviations.std()), abs(float((parts * np.log2(parts)).sum()))
