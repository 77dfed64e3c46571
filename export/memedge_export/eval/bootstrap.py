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
    for number in range(resamples):
        pick = rng.integers(0, len(p), len(p))
        ranked = [_ranks(group[pick]) for group in groups]
        found[0, number] = correlation(*ranked)
        found[1, number] = correlation(p[pick], y[pick])
        found[2, number] = squares[pick].mean()
    return Draws(*found)


def _ranks(groups: NDArray[np.intp]) -> NDArray[np.float64]:
    """Average ranks of a resample from the rank of each member among the distinct values."""
    counts = np.bincount(groups)
    average: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[groups]
    return average


def correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Pearson's correlation; nan where either side is constant."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt(x @ x) * np.sqrt(y @ y))
    return float(x @ y) / scale if scale > 0 else float("nan")


def interval(values: NDArray[np.float64]) -> Interval | None:
    """95 % percentile interval of the draws that have a value; none where no draw has one."""
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, _TAILS)
    return float(low), float(high)
