"""Figures and their intervals, against SciPy and a plain bootstrap."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray

from memedge_export.eval import metrics
from memedge_export.eval.bootstrap import draws, interval
from memedge_export.quant.fidelity import drop_interval


def correlated(rng: np.random.Generator, count: int, rho: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A sample of two standard normal variables whose Pearson correlation is ``rho``."""
    a, noise = rng.normal(size=(2, count))
    return a, rho * a + math.sqrt(1 - rho * rho) * noise


@pytest.mark.parametrize("seed", range(5))
def test_correlations_are_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 12, 60) / 7, rng.normal(size=60)
    assert metrics.spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic)
    assert metrics.pearson(a, b) == pytest.approx(scipy.stats.pearsonr(a, b).statistic)
    assert np.array_equal(metrics.ranks(a), scipy.stats.rankdata(a))


@pytest.mark.parametrize("levels", [3, 1000])
def test_each_resample_has_scipys_figures(levels: int) -> None:
    """Ties of the values, and those that drawing a picture twice makes."""
    rng = np.random.default_rng(1)
    p, y = rng.integers(0, levels, 40) / levels, rng.integers(0, levels, 40) / levels
    found = draws(p, y, seed=9, resamples=25)
    again = np.random.default_rng(9)
    for number in range(25):
        pick = again.integers(0, 40, 40)
        assert found.spearman[number] == pytest.approx(scipy.stats.spearmanr(p[pick], y[pick]).statistic)
        assert found.pearson[number] == pytest.approx(scipy.stats.pearsonr(p[pick], y[pick]).statistic)
        assert found.mse[number] == pytest.approx(np.mean((p[pick] - y[pick]) ** 2))


def test_interval_is_that_of_scipys_bootstrap() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=200)
    b = a + rng.normal(size=200) * 2
    result = metrics.evaluate(a, b)
    reference = scipy.stats.bootstrap(
        (a, b), lambda x, y: scipy.stats.pearsonr(x, y).statistic, paired=True, vectorized=False,
        n_resamples=1000, method="percentile", rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    assert result.pearson_interval == pytest.approx((reference.low, reference.high), abs=0.02)
    assert result.mse == pytest.approx(np.mean((a - b) ** 2))
    assert result == metrics.evaluate(a, b)


def test_intervals_cover_the_population_as_often_as_they_say() -> None:
    """Of 100 samples of 80 pictures, 95 intervals in the mean; four deviations of that are 9."""
    rho = 0.5
    truth = (6 / math.pi * math.asin(rho / 2), rho, 2 - 2 * rho)
    hits = np.zeros(3)
    rng = np.random.default_rng(3)
    for number in range(100):
        found = draws(*correlated(rng, 80, rho), seed=number, resamples=200)
        for place, values in enumerate((found.spearman, found.pearson, found.mse)):
            low, high = interval(values)
            hits[place] += low <= truth[place] <= high
    assert (hits >= 86).all(), hits
    assert (hits <= 99).any(), hits


def test_what_has_no_correlation() -> None:
    line = np.linspace(0, 1, 20)
    constant = metrics.evaluate(np.full(20, 0.5), line)
    assert (constant.spearman, constant.spearman_interval, constant.pearson, constant.pearson_interval) == (None,) * 4
    assert constant.mse_interval is not None
    for count in (0, 1, 2):
        few = metrics.evaluate(line[:count], line[:count])
        assert (few.count, few.spearman_interval, few.mse_interval) == (count, None, None)
        assert few.spearman == (1.0 if count == 2 else None) or few.spearman == pytest.approx(1.0)
        assert math.isnan(few.mse) == (count == 0)


def test_missing_human_scores_are_left_out_and_broken_predictions_are_not() -> None:
    rng = np.random.default_rng(4)
    p, y = correlated(rng, 50, 0.4)
    holes = y.copy()
    holes[::5] = np.nan
    known = np.isfinite(holes)
    assert metrics.evaluate(p, holes) == metrics.evaluate(p[known], y[known])
    broken = p.copy()
    broken[3] = np.nan
    result = metrics.evaluate(broken, y)
    assert (result.count, result.spearman, result.pearson, result.mse_interval) == (50, None, None, None)
    assert math.isnan(result.mse)


def test_paired_difference_is_that_of_the_same_resamples() -> None:
    rng = np.random.default_rng(5)
    y = rng.normal(size=120)
    good, bad = y + rng.normal(size=120), y + 4 * rng.normal(size=120)
    found = metrics.difference(bad, good, y)
    assert found.spearman == pytest.approx(
        scipy.stats.spearmanr(good, y).statistic - scipy.stats.spearmanr(bad, y).statistic
    )
    low, high = found.spearman_interval
    assert 0 < low < found.spearman < high
    assert found.mse_interval[1] < 0
    back = metrics.difference(good, bad, y)
    assert back.spearman_interval == pytest.approx((-high, -low))
    again, differences = np.random.default_rng(2018), []
    for _ in range(1000):
        pick = again.integers(0, 120, 120)
        differences.append(np.corrcoef(good[pick], y[pick])[0, 1] - np.corrcoef(bad[pick], y[pick])[0, 1])
    assert found.pearson_interval == pytest.approx(np.quantile(differences, [0.025, 0.975]))
    # Far narrower than two intervals that know nothing of each other.
    near = metrics.difference(good, good + 0.01 * rng.normal(size=120), y)
    own = metrics.evaluate(good, y).spearman_interval
    assert near.spearman_interval[1] - near.spearman_interval[0] < 0.1 * (own[1] - own[0])
    assert metrics.difference(good, good, y).spearman_interval == (0, 0)


def test_the_gate_uses_the_same_paired_bootstrap() -> None:
    rng = np.random.default_rng(6)
    y = rng.normal(size=60)
    a, b = y + rng.normal(size=60), y + 2 * rng.normal(size=60)
    low, high = metrics.difference(a, b, y).spearman_interval
    assert drop_interval(a, b, y, seed=2018) == pytest.approx((-high, -low))


def test_quantiles_rise_and_reach_both_ends() -> None:
    values = np.random.default_rng(0).normal(size=500)
    found = metrics.quantiles(values)
    assert len(found) == 101
    assert list(found) == sorted(found)
    assert (found[0], found[50], found[100]) == pytest.approx((values.min(), np.median(values), values.max()), abs=1e-6)
