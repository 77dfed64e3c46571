"""Correlations and their bootstrap interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from memedge.correlation import ranks, spearman

__all__ = ["RESAMPLES", "Result", "evaluate", "pearson", "quantiles", "ranks", "spearman"]

RESAMPLES = 1000
_SEED = 2018


@dataclass(frozen=True)
class Result:
    """Figures of one set of predictions.

    ``spearman_interval``: 95 % bootstrap interval, 1,000 resamples of the pictures. A correlation of constant values
        is none.
    """

    count: int
    spearman: float | None
    spearman_interval: tuple[float, float] | None
    pearson: float | None
    mse: float


def pearson(a: ArrayLike, b: ArrayLike) -> float | None:
    """Pearson correlation; none when either side is constant or shorter than two."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    x, y = x - x.mean(), y - y.mean()
    return float((x @ y) / np.sqrt((x @ x) * (y @ y)))


def evaluate(predicted: ArrayLike, actual: ArrayLike) -> Result:
    """All figures of ``predicted`` against ``actual``, both ``[N]``."""
    p, y = np.asarray(predicted, np.float64), np.asarray(actual, np.float64)
    rng = np.random.default_rng(_SEED)
    drawn = []
    for _ in range(RESAMPLES if len(p) > 2 else 0):
        pick = rng.integers(0, len(p), len(p))
        value = spearman(p[pick], y[pick])
        if value is not None:
            drawn.append(value)
    whole = spearman(p, y)
    interval = None
    if drawn and whole is not None:
        low, high = np.quantile(drawn, [0.025, 0.975])
        interval = (float(low), float(high))
    return Result(len(p), whole, interval, pearson(p, y), float(np.mean((p - y) ** 2)) if len(p) else float("nan"))


def quantiles(values: ArrayLike, count: int = 101) -> tuple[float, ...]:
    """``count`` equally spaced quantiles, rising, rounded to six places."""
    found = np.quantile(np.asarray(values, np.float64), np.linspace(0, 1, count))
    return tuple(float(v) for v in np.maximum.accumulate(np.round(found, 6)))
