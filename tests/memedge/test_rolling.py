from __future__ import annotations

import random
import statistics

import msgspec
import numpy as np
import pytest

from memedge.errors import EngineError, UsageError
from memedge.rolling import MAX_ENTRIES, Rolling, percentile
from memedge_engines.manifest import Quantiles


def brute(samples: list[tuple[float, float]], t: float, w: float, aggregate: str) -> float | None:
    """Recomputed from the whole history: half-open (t - w, t]."""
    inside = [(s, v) for s, v in samples if t - w + 2e-9 < s <= t]
    if not inside:
        return None
    values = [v for _, v in inside]
    if aggregate == "mean":
        return statistics.fmean(values)
    if aggregate == "median":
        return statistics.median(values)
    if aggregate == "last":
        return values[-1]
    weights = [np.exp(-(t - s) / (w / 3)) for s, _ in inside]
    return float(np.average(values, weights=weights))


@pytest.mark.parametrize("aggregate", ["mean", "median", "exponential", "last"])
@pytest.mark.parametrize("steps", ["constant", "variable"])
def test_value_is_that_of_the_whole_history(aggregate: str, steps: str) -> None:
    rng = random.Random(7)
    rolling, samples, t = Rolling(2.0, aggregate), [], 0.0
    for i in range(600):
        score = rng.random()
        rolling.add(t, score, 1 / 25)
        samples.append((t, score))
        expected = brute(samples, t, 2.0, aggregate)
        assert rolling.value(t) == pytest.approx(expected, abs=1e-12)
        t = (i + 1) / 25 if steps == "constant" else t + rng.choice([1 / 30, 1 / 15, 0.3, 2.5])


def test_the_window_is_half_open() -> None:
    rolling = Rolling(1.0)
    rolling.add(0.0, 1.0)
    rolling.add(0.5, 0.0)
    assert rolling.value(0.99) == 0.5
    assert rolling.value(1.0) == 0.0
    assert rolling.value(1.5) is None


def test_partial_windows_are_not_complete() -> None:
    rolling = Rolling(2.0)
    complete = []
    for i in range(100):
        rolling.add(i / 25, 0.5, 1 / 25)
        complete.append(rolling.complete(i / 25, 1 / 25))
    assert complete.index(True) == 49  # 50 frames of 1/25 s are 2 s
    assert all(complete[49:])
    assert rolling.coverage(99 / 25) == pytest.approx(1.0)


def test_coverage_grows_with_the_window() -> None:
    rolling = Rolling(4.0)
    for i in range(50):
        rolling.add(i / 25, 0.5, 1 / 25)
    assert rolling.coverage(49 / 25) == pytest.approx(0.5)


def test_a_live_gap_counts_against_coverage() -> None:
    rolling = Rolling(4.0)
    for i in range(125):
        rolling.add(i / 25, 0.5, 1 / 25)
    last = 124 / 25
    assert rolling.coverage(last + 0.08) == pytest.approx(1.0), "two intervals are no gap yet"
    stalled = rolling.coverage(last + 2.0)
    assert stalled == pytest.approx((2.0 + 0.04) / 4, abs=0.011)
    assert not rolling.complete(last + 2.0)
    assert rolling.staleness_s(last + 2.0) == pytest.approx(2.0)
    rolling.add(last + 2.0, 0.5, 1 / 25)
    assert rolling.coverage(last + 2.0) == pytest.approx((2.0 + 0.04) / 4, abs=0.011)
    for i in range(1, 100):
        rolling.add(last + 2.0 + i / 25, 0.5, 1 / 25)
    assert rolling.coverage(last + 2.0 + 99 / 25) == pytest.approx(1.0, abs=0.011)


def test_a_variable_rate_file_has_no_gaps() -> None:
    rng = random.Random(2)
    rolling, t = Rolling(3.0), 0.0
    for _ in range(300):
        step = rng.choice([1 / 30, 1 / 15, 0.4])
        rolling.add(t, 0.5, step)
        t += step
        if t > 4:
            assert rolling.coverage(t - step) == pytest.approx(1.0)


def test_a_rate_below_the_frame_rate_is_no_gap() -> None:
    rolling = Rolling(7.0)
    for i in range(25 * 20):
        rolling.add(i / 25, 0.5 if i % 25 == 0 else None, 1 / 25)
        if i >= 25 * 8:
            assert rolling.coverage(i / 25) > 0.99
            assert rolling.complete(i / 25)
    assert rolling.value(19.96) == 0.5


def test_a_device_slower_than_its_camera_is_no_gap() -> None:
    rolling = Rolling(5.0)
    for i in range(60):
        rolling.add(i / 4, 0.5, 1 / 30)
    assert rolling.complete(59 / 4)


def test_frames_left_out_count_against_coverage() -> None:
    rolling = Rolling(4.0)
    for i in range(250):
        rolling.add(i / 25, None if i >= 175 else 0.5, 1 / 25)
    assert rolling.coverage(249 / 25) == pytest.approx(1 / 4, abs=0.03)
    assert not rolling.complete(249 / 25)


def test_a_long_gap_empties_the_window() -> None:
    rolling = Rolling(2.0)
    rolling.add(0.0, 0.4, 0.04)
    rolling.add(86_400.0, 0.9, 0.04)
    assert rolling.value(86_400.0) == 0.9
    assert not rolling.complete(86_400.0)


@pytest.mark.parametrize("aggregate", ["mean", "median", "exponential"])
def test_a_fast_source_stays_bounded_and_near(aggregate: str) -> None:
    rng = np.random.default_rng(0)
    rolling, samples = Rolling(1.0, aggregate), []
    rate, count = 40_000, 100_000  # 40,000 scores a window, five times what is kept
    for i, value in enumerate(rng.random(count) * 0.2 + 0.3 + 0.2 * np.sin(np.arange(count) / 4000)):
        rolling.add(i / rate, float(value))
        samples.append((i / rate, float(value)))
    t = (count - 1) / rate
    assert len(rolling) <= MAX_ENTRIES + 1
    error = 0.01 if aggregate == "median" else 1e-4
    assert rolling.value(t) == pytest.approx(brute(samples, t, 1.0, aggregate), abs=error)


def test_a_thousand_frames_a_second_are_exact() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(9000)
    rolling = Rolling(7.0)
    for i, value in enumerate(values):
        rolling.add(i / 1000, float(value))
    assert rolling.value(8.999) == pytest.approx(values[-7000:].mean(), abs=1e-13)


def test_months_do_not_drift() -> None:
    rolling = Rolling(7.0)
    start = 200 * 86_400.0
    rolling.add(0.0, 1.0, 0.04)
    for i in range(2000):
        rolling.add(start + i / 25, 0.1, 1 / 25)
    assert rolling.value(start + 1999 / 25) == pytest.approx(0.1, abs=1e-16)
    assert len(rolling) == 175


def test_state_goes_through_json() -> None:
    rng = random.Random(1)
    first = Rolling(3.0, "median")
    for i in range(120):
        first.add(i / 25, rng.random() if i % 3 else None, 1 / 25)
    second = Rolling(3.0, "median")
    second.restore(msgspec.json.decode(msgspec.json.encode(first.state())))
    for i in range(120, 260):
        score = rng.random()
        for rolling in (first, second):
            rolling.add(i / 25, score, 1 / 25)
        t = i / 25
        assert first.value(t) == second.value(t)
        assert first.coverage(t) == second.coverage(t)
        assert first.complete(t) == second.complete(t)
    with pytest.raises(UsageError, match="expected mean"):
        Rolling(3.0).restore(first.state())


def test_reset_and_a_clock_that_starts_anew() -> None:
    rolling = Rolling(2.0)
    for i in range(100):
        rolling.add(i / 25, 0.9, 1 / 25)
    rolling.add(0.0, 0.1, 1 / 25)
    assert rolling.value(0.0) == 0.1
    assert not rolling.complete(0.0, 1 / 25)
    rolling.reset()
    assert rolling.value(0.0) is None
    assert rolling.staleness_s(0.0) is None
    assert rolling.coverage(0.0) == 0.0


def test_percentile_inverts_numpy_quantiles() -> None:
    rng = np.random.default_rng(4)
    data = rng.beta(5, 3, 5000)
    values = np.quantile(data, np.linspace(0, 1, 101))
    table = Quantiles(dataset="made", values=tuple(values.tolist()))
    for q in (0, 3.3, 25, 50, 77.7, 100):
        score = float(np.interp(q / 100, np.linspace(0, 1, 101), values))
        assert percentile(table, score) == pytest.approx(q, abs=1e-9)
    assert percentile(table, -1.0) == 0.0
    assert percentile(table, 2.0) == 100.0
    assert percentile(None, 0.5) is None
    assert percentile(table, None) is None
    flat = Quantiles(dataset="made", values=(0.1, 0.4, 0.4, 0.4, 0.9))
    assert percentile(flat, 0.4) == 50.0


def test_bad_input() -> None:
    with pytest.raises(UsageError, match="more than 0"):
        Rolling(0.0)
    with pytest.raises(UsageError, match="unknown aggregation"):
        Rolling(1.0, "mode")
    for time_s, score in ((0.0, float("nan")), (float("inf"), 0.5)):
        with pytest.raises(EngineError, match="finite"):
            Rolling(1.0).add(time_s, score)


def test_coverage_ends_when_the_newest_score_leaves_the_window() -> None:
    rolling = Rolling(0.7)
    for i in range(8):
        rolling.add(i / 8, 0.5, 1 / 8)
    for i in range(8, 40):  # frames that are left out
        rolling.add(i / 8, None, 1 / 8)
        time_s = i / 8
        # Scored frames cover up to 1 s; two intervals late is not yet a gap.
        inside = max(0.0, min(0.7, 1.125 - (time_s - 0.7)))
        assert rolling.coverage(time_s, 1 / 8) <= inside / 0.7 + 1e-9
    assert rolling.coverage(39 / 8, 1 / 8) == 0
    assert rolling.value(39 / 8) is None
