"""From statistics to ranges: ``minmax``, ``percentile`` and ``entropy``.

``percentile`` and ``entropy`` find a threshold t for |x|, as symmetric int8 needs it, and the range is [-t, t] cut to
what was seen; the rest saturates.

- ``percentile``: the least border of a bin such that the stated share of all values has a smaller magnitude.
- ``entropy``: the threshold at which 128 levels of magnitude lose least information, by Kullback-Leibler divergence
  between the clipped histogram and its quantised form (S. Migacz, 8-bit inference with TensorRT, GTC 2017). As in
  NVIDIA's own PyTorch toolkit the bin at zero counts as its neighbour, because the many exact zeros after a ReLU would
  otherwise pull every threshold down.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memedge.errors import UsageError

from .calib_statistics import HALF, TensorStatistics
from .ranges import METHODS

LEVELS = 128
# Thresholds are tried every 8 bins, at most 0.8 % of the largest magnitude apart.
_STRIDE = 8


def range_of(found: TensorStatistics, method: str, percentile: float = 99.99) -> tuple[float, float]:
    """(low, high) of one tensor; (0, 0) for one that was zero throughout.

    Raises:
        UsageError: an unknown method, or a percentile outside 50..100.
    """
    if method not in METHODS:
        raise UsageError(f"--calib-method {method}; expected one of auto, {', '.join(METHODS)}")
    if not 50 <= percentile <= 100:
        raise UsageError(f"percentile {percentile:g}; expected 50..100")
    if not found.elements:
        return 0.0, 0.0
    if method == "minmax" or found.counts is None or found.magnitude == 0.0:
        return found.low, found.high
    histogram = found.magnitudes()
    bins = percentile_bins(histogram, percentile) if method == "percentile" else entropy_bins(histogram)
    threshold = bins * found.width
    low, high = max(found.low, -threshold), min(found.high, threshold)
    # A tensor that never comes near zero: the threshold, which is at most its largest magnitude, still lies inside.
    return min(low, high), max(low, high)


def percentile_bins(histogram: NDArray[np.int64], percentile: float) -> int:
    """Number of bins from zero that hold at least ``percentile`` % of all counts."""
    total = np.cumsum(histogram)
    wanted = percentile / 100 * float(total[-1])
    return min(int(np.searchsorted(total, wanted, side="left")) + 1, HALF)


def entropy_bins(histogram: NDArray[np.int64]) -> int:
    """Number of bins from zero whose quantised form diverges least from the histogram clipped there."""
    counts = histogram.astype(np.float64)
    counts[0] = counts[1]
    used = int(np.flatnonzero(histogram)[-1]) + 1
    if used <= LEVELS or not counts.any():
        return used
    tried = [*range(LEVELS, used, _STRIDE), used]
    total = counts.sum()
    divergences = [_divergence(counts[:size], total) for size in tried]
    return tried[int(np.argmin(divergences))]


def _divergence(inside: NDArray[np.float64], total: float) -> float:
    """KL divergence of ``inside``, the rest clipped into its last bin, from its form in 128 levels; inf where none."""
    size = inside.size
    reference = inside.copy()
    reference[-1] += total - inside.sum()
    level = np.arange(size) * LEVELS // size
    filled = inside > 0
    sums = np.bincount(level, inside, LEVELS)
    spread = np.bincount(level, filled, LEVELS)
    quantised = np.where(filled, sums[level] / np.maximum(spread[level], 1), 0.0)
    mass = quantised.sum()
    some = reference > 0
    if mass <= 0 or not quantised[some].all():
        return float("inf")
    p, q = reference[some] / total, quantised[some] / mass
    return float((p * np.log(p / q)).sum())
