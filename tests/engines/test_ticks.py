from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import pytest

from memedge_engines.errors import ExecutorError
from memedge_engines.ticks import tick_of


def picks(times: list[float], durations: list[float], period: float, origin: float = 0.0) -> list[int]:
    """Frame index per tick, as a caller collects them."""
    chosen: list[int] = []
    for index, (pts, duration) in enumerate(zip(times, durations, strict=True)):
        while len(chosen) <= tick_of(pts, duration, index, period, origin):
            chosen.append(index)
    return chosen


@pytest.mark.parametrize(
    "rate", ["1", "2", "5", "7.5", "10", "12.5", "15", "24", "24000/1001", "25", "30000/1001", "50", "60"]
)
@pytest.mark.parametrize("period", ["1", "2", "1/4", "1/2", "1/15"])
def test_constant_rate_gives_round_of_t_times_f(rate: str, period: str) -> None:
    f, p = Fraction(rate), Fraction(period)
    count = int(20 * f)
    times = [float(i / f) for i in range(count)]
    got = picks(times, [float(1 / f)] * count, float(p))
    # Python's round on a Fraction is exact and rounds halves to even: independent of floating point.
    expected = []
    tick = 0
    while round(tick * p * f) < count:
        expected.append(round(tick * p * f))
        tick += 1
    assert got == expected


def test_variable_rate_gives_the_nearest_frame() -> None:
    rng = random.Random(5)
    times = [0.0]
    for _ in range(600):
        times.append(times[-1] + rng.choice([1 / 30, 1 / 15, 1 / 7, rng.uniform(0.01, 1.7)]))
    durations = [b - a for a, b in itertools.pairwise(times)]
    got = picks(times[:-1], durations, 1.0)
    for tick, index in enumerate(got):
        assert abs(times[index] - tick) == pytest.approx(min(abs(t - tick) for t in times), abs=1e-9)


def test_milliseconds_of_a_container_do_not_move_a_pick() -> None:
    for rate in (24, 25, 30, 60):
        times = [round(i * 1000 / rate) / 1000 for i in range(rate * 8)]
        durations = [b - a for a, b in zip(times, [*times[1:], 8.0], strict=True)]
        assert picks(times, durations, 1.0) == [k * rate for k in range(8)]


def test_origin_and_frames_before_it() -> None:
    assert tick_of(0.0, 0.04, 0, 1.0, origin_s=5.0) == -1
    assert tick_of(5.0, 0.04, 125, 1.0, origin_s=5.0) == 0
    assert tick_of(8.01, 0.04, 200, 1.0, origin_s=5.0) == 3


def test_unknown_interval_takes_the_first_frame_at_or_after_the_tick() -> None:
    assert picks([0.0, 0.4, 0.99, 1.0, 1.2, 3.5], [0.0] * 6, 1.0) == [0, 3, 5, 5]


def test_a_slow_source_reaches_several_ticks_at_once() -> None:
    assert picks([0.0, 2.5, 5.0], [2.5] * 3, 1.0) == [round(t * 0.4) for t in range(7)]


def test_a_clock_of_months_keeps_its_ticks() -> None:
    start = 200 * 86400
    got = [tick_of(start + i / 25, 1 / 25, i, 1.0) for i in range(51)]
    assert got[0] == start
    assert got[24] == start
    assert got[25] == start + 1
    assert got[50] == start + 2
    # 12.5 frames a second: the middle of frame 12 lies on the tick, and an even frame takes it.
    assert tick_of(start + 0.96, 0.08, 12, 1.0) == start + 1
    assert tick_of(start + 0.96, 0.08, 13, 1.0) == start


@pytest.mark.parametrize("period", [0.0, -1.0, math.nan, math.inf])
def test_periods_that_mean_nothing_are_refused(period: float) -> None:
    with pytest.raises(ExecutorError, match="expected more than 0"):
        tick_of(0.0, 0.04, 0, period)


def test_times_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ExecutorError, match="finite"):
        tick_of(math.nan, 0.04, 0, 1.0)
