from __future__ import annotations

import numpy as np
import pytest

from memedge.stats import MAX_REASONS, Drops, LatencyStats, RateMeter


@pytest.mark.parametrize("kind", ["lognormal", "uniform", "bimodal", "constant"])
def test_percentiles_are_within_one_percent_of_numpys(kind: str) -> None:
    rng = np.random.default_rng(3)
    values = {
        "lognormal": rng.lognormal(1, 1.5, 20_001),
        "uniform": rng.uniform(0.001, 40, 20_000),
        "bimodal": np.concatenate([rng.normal(5, 0.1, 9000), rng.normal(80, 3, 1001)]),
        "constant": np.full(50, 3.7),
    }[kind]
    stats = LatencyStats()
    for value in values:
        stats.add(float(value))
    for q in (1, 50, 90, 99, 99.9):
        assert stats.percentile(q) == pytest.approx(np.percentile(values, q), rel=0.0101)
    assert stats.percentile(100) == stats.max == values.max()
    assert stats.mean == pytest.approx(values.mean())
    assert stats.count == len(values)
    found = stats.latency()
    assert (found.p50, found.p90, found.p99, found.max) == tuple(stats.percentile(q) for q in (50, 90, 99, 100))


def test_few_values_interpolate_as_numpy() -> None:
    stats = LatencyStats()
    for value in (1.0, 2.0, 10.0):
        stats.add(value)
    for q in (25, 50, 75, 90):
        assert stats.percentile(q) == pytest.approx(np.percentile([1, 2, 10], q), rel=0.0101)


def test_size_does_not_grow_with_time() -> None:
    stats = LatencyStats()
    rng = np.random.default_rng(0)
    for value in 10 ** rng.uniform(-6, 12, 30_000):
        stats.add(float(value))
    assert len(stats._counts) <= 1499
    assert stats.percentile(99.99) <= stats.max


def test_odd_values_are_taken_as_zero() -> None:
    stats = LatencyStats()
    assert stats.percentile(50) == stats.mean == 0.0
    for value in (-1.0, float("nan"), float("inf"), 0.0):
        stats.add(value)
    assert stats.percentile(99) == 0.0
    assert stats.max == 0.0


def test_merge_equals_all_in_one() -> None:
    rng = np.random.default_rng(0)
    one, other, both = LatencyStats(), LatencyStats(), LatencyStats()
    for i, value in enumerate(rng.lognormal(0, 1, 2000)):
        (one if i % 3 else other).add(float(value))
        both.add(float(value))
    one.merge(other)
    assert [one.percentile(q) for q in (50, 90, 99)] == [both.percentile(q) for q in (50, 90, 99)]
    assert (one.count, one.max) == (both.count, both.max)


def test_rate_meter() -> None:
    meter = RateMeter(window_s=2.0)
    assert meter.per_second == 0.0
    for i in range(100):
        meter.tick(i / 25)
    assert meter.rate(99 / 25) == pytest.approx(25.0)
    assert meter.rate(99 / 25 + 1.0) < 20.0
    assert meter.rate(99 / 25 + 3.0) == 0.0
    for i in range(10_000):
        meter.tick(10 + i / 1000)
    assert meter.rate(10 + 9.999) == pytest.approx(1000.0, rel=1e-6)
    assert len(meter._times) <= 256
    assert meter.count == 10_100


def test_drops_are_bounded() -> None:
    drops = Drops()
    drops.add("busy", 3)
    for i in range(200):
        drops.add(f"reason {i}")
    assert len(drops.as_dict()) <= MAX_REASONS + 1
    assert drops.total == 203
    assert drops.as_dict()["busy"] == 3
    assert drops.as_dict()["other"] > 0
