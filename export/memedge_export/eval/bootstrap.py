"""Bootstrap of the three figures: how far they move when other pictures of the same kind had been drawn.

Resamples depend on the seed and the number of pictures alone, so two sets of predictions of the same pictures share
them: their draws can be subtracted one by one, which is the paired bootstrap.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 1000
SEED = 2018
_TAILS = (0.025, 0.975)
# Picked values that are held at once: a few megabytes.
_AT_ONCE = 1 << 18
Interval = tuple[float, float]


@dataclass(frozen=True)
class Draws:
    """The figures of each resample, float64 ``[R]``; nan where a resample has no correlation."""

    spearman: NDArray[np.float64]
    pearson: NDArray[np.float64]
    mse: NDArray[np.float64]

    def __sub__(self, other: Draws) -> Draws:
        """Difference of each resample: both must be of the same pictures, seed and number of resamples."""
        return Draws(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))


def draws(predicted: ArrayLike, actual: ArrayLike, seed: int = SEED, resamples: int = RESAMPLES) -> Draws:
    """Figures of ``predicted`` against ``actual`` on resamples of the pictures, both finite ``[N]``, N at least 1."""
    p, y = np.asarray(predicted, np.float64), np.asarray(actual, np.float64)
    rng = np.random.default_rng(seed)
    # Values are sorted once; a resample's ranks follow from how often it holds each of them.
    groups = [np.unique(values, return_inverse=True)[1].reshape(-1) for values in (p, y)]
    squares = (p - y) ** 2
    found = np.empty((3, resamples))
    rows = max(1, _AT_ONCE // len(p))
    for begin in range(0, resamples, rows):
        chunk = slice(begin, min(begin + rows, resamples))
        pick = rng.integers(0, len(p), (chunk.stop - begin, len(p)))
        found[0, chunk] = correlation(*(_ranks(group[pick]) for group in groups))
        found[1, chunk] = correlation(p[pick], y[pick])
        found[2, chunk] = squares[pick].mean(axis=1)
    return Draws(*found)


def _ranks(groups: NDArray[np.intp]) -> NDArray[np.float64]:
    """Average ranks in each resample, ``[R, N]``, from each member's place among the distinct values."""
    rows, kinds = len(groups), int(groups.max()) + 1
    flat = groups + kinds * np.arange(rows)[:, None]
    counts = np.bincount(flat.reshape(-1), minlength=rows * kinds).reshape(rows, kinds)
    average: NDArray[np.float64] = (np.cumsum(counts, axis=1) - (counts - 1) / 2).reshape(-1)[flat]
    return average


def correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's correlation along the last axis; nan where either side is constant."""
    constant = (np.ptp(x, axis=-1) == 0) | (np.ptp(y, axis=-1) == 0)
    x, y = x - x.mean(axis=-1, keepdims=True), y - y.mean(axis=-1, keepdims=True)
    scale = np.sqrt((x * x).sum(axis=-1)) * np.sqrt((y * y).sum(axis=-1))
    known = ~constant & (scale > 0)
    return np.where(known, (x * y).sum(axis=-1) / np.where(known, scale, 1.0), np.nan)


def interval(values: NDArray[np.float64]) -> Interval | None:
    """95 % percentile interval of the draws that have a value; none where no draw has one."""
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, _TAILS)
    return float(low), float(high)
