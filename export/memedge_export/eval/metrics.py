"""Figures of predictions against human scores: Spearman first, then Pearson and mean squared error, and the difference
of two models' figures, each with a 95 % bootstrap interval."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from memedge.correlation import ranks, spearman

from .bootstrap import RESAMPLES, Draws, Interval, correlation, draws, interval

__all__ = ["RESAMPLES", "Difference", "Result", "difference", "evaluate", "pearson", "quantiles", "ranks", "spearman"]

_FEWEST = 3


class Result(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Figures of one set of predictions.

    Attributes:
        count: pictures with a human score; others were left out.
        spearman: average ranks for ties; none for constant values, fewer than two, or predictions that are not finite.
        mse: mean squared error; nan where nothing was counted or a prediction is not finite.
        spearman_interval, pearson_interval, mse_interval: 95 % bootstrap, 1,000 resamples of the pictures; none for
            fewer than three pictures.
    """

    count: int
    spearman: float | None
    spearman_interval: Interval | None = None
    pearson: float | None = None
    pearson_interval: Interval | None = None
    mse: float
    mse_interval: Interval | None = None


class Difference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The second model's figures minus the first one's, on the same ``count`` pictures; intervals by paired
    bootstrap. A Spearman or Pearson above 0, or an MSE below 0, speaks for the second."""

    count: int
    spearman: float | None
    spearman_interval: Interval | None
    pearson: float | None
    pearson_interval: Interval | None
    mse: float
    mse_interval: Interval | None


def pearson(a: ArrayLike, b: ArrayLike) -> float | None:
    """Pearson correlation; none when either side is constant, shorter than two or not finite."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if len(x) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return None
    value = float(correlation(x, y))
    return None if np.isnan(value) else value


def evaluate(predicted: ArrayLike, actual: ArrayLike) -> Result:
    """All figures of ``predicted`` against ``actual``, both ``[N]``; pictures whose ``actual`` is nan are left out."""
    p, y = _scored(actual, predicted)
    drawn = _draws(p, y)
    rho, r = spearman(p, y), pearson(p, y)
    return Result(
        count=len(y),
        spearman=rho,
        spearman_interval=None if drawn is None or rho is None else interval(drawn.spearman),
        pearson=r,
        pearson_interval=None if drawn is None or r is None else interval(drawn.pearson),
        mse=_mse(p, y),
        mse_interval=None if drawn is None else interval(drawn.mse),
    )


def difference(first: ArrayLike, second: ArrayLike, actual: ArrayLike) -> Difference:
    """Figures of ``second`` minus those of ``first`` against ``actual``, all ``[N]``; pictures whose ``actual`` is nan
    are left out, and each resample draws the same pictures for both."""
    a, b, y = _scored(actual, first, second)
    before, after = _draws(a, y), _draws(b, y)
    drawn = None if before is None or after is None else after - before
    rho, r = _minus(spearman(b, y), spearman(a, y)), _minus(pearson(b, y), pearson(a, y))
    return Difference(
        count=len(y),
        spearman=rho,
        spearman_interval=None if drawn is None or rho is None else interval(drawn.spearman),
        pearson=r,
        pearson_interval=None if drawn is None or r is None else interval(drawn.pearson),
        mse=_mse(b, y) - _mse(a, y),
        mse_interval=None if drawn is None else interval(drawn.mse),
    )


def quantiles(values: ArrayLike, count: int = 101) -> tuple[float, ...]:
    """``count`` equally spaced quantiles, rising, rounded to six places."""
    found = np.quantile(np.asarray(values, np.float64), np.linspace(0, 1, count))
    return tuple(float(v) for v in np.maximum.accumulate(np.round(found, 6)))


def _scored(actual: ArrayLike, *predicted: ArrayLike) -> list[NDArray[np.float64]]:
    """Predictions, then human scores, of the pictures that have a human score."""
    y = np.asarray(actual, np.float64)
    known = ~np.isnan(y)
    return [np.asarray(column, np.float64)[known] for column in (*predicted, y)]


def _draws(p: NDArray[np.float64], y: NDArray[np.float64]) -> Draws | None:
    enough = len(y) >= _FEWEST and bool(np.isfinite(p).all() and np.isfinite(y).all())
    return draws(p, y) if enough else None


def _mse(p: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return float(np.mean((p - y) ** 2)) if len(y) else float("nan")


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b
