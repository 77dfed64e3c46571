"""Rank correlation in numpy alone, for a runtime without SciPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Ranks from 1, float64 ``[N]``; ties share their average rank. ``values``: finite, ``[N]``."""
    array = np.asarray(values, np.float64)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    average: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse.reshape(-1)]
    return average


def spearman(a: ArrayLike, b: ArrayLike) -> float | None:
    """Spearman correlation with average ranks for ties; none when either side is constant, shorter than two or not
    finite."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if len(x) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()) or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    p, q = ranks(x), ranks(y)
    p, q = p - p.mean(), q - q.mean()
    return float((p @ q) / np.sqrt((p @ p) * (q @ q)))
