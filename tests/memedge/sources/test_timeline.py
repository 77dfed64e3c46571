from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from memedge.sources.live import Backoff
from memedge.sources.timeline import FileClock, LiveClock

MS = Fraction(1, 1000)


def stamp_all(stamps: list[int | None]) -> tuple[list[float], list[bool]]:
    clock = FileClock(MS, 0.04)
    pairs = [clock.stamp(s) for s in stamps]
    return [t for t, _ in pairs], [r for _, r in pairs]


def test_exact_times_from_the_first_frame() -> None:
    seconds, repaired = stamp_all([1000, 1040, 1080, 1500])
    assert seconds == pytest.approx([0, 0.04, 0.08, 0.5], abs=1e-12)
    assert not any(repaired)


def test_frames_without_stamps_follow_at_the_nominal_interval() -> None:
    assert stamp_all([None, None, None])[0] == pytest.approx([0, 0.04, 0.08])
    assert stamp_all([0, None, 80])[0] == pytest.approx([0, 0.04, 0.08])


def test_one_duplicate_does_not_push_the_rest() -> None:
    seconds, repaired = stamp_all([0, 40, 40, 80, 120])
    assert seconds == pytest.approx([0, 0.04, 0.06, 0.08, 0.12])
    assert repaired == [False, False, True, False, False]


def test_stuck_stamps_advance_by_the_nominal_interval() -> None:
    seconds, _ = stamp_all([0] * 6)
    assert np.all(np.diff(seconds) > 0)
    assert seconds[-1] == pytest.approx(0.18)


def test_a_joined_recording_goes_on() -> None:
    seconds, repaired = stamp_all([0, 40, 5000, 0, 40, 80])
    assert seconds == pytest.approx([0, 0.04, 5.0, 5.04, 5.08, 5.12])
    assert repaired == [False, False, False, True, False, False]


def test_live_time_is_the_stamps_time_without_jitter() -> None:
    rng = np.random.default_rng(0)
    clock, truth, got = LiveClock(), [], []
    for n in range(2000):
        capture = n / 30
        delay = 0.02 + rng.exponential(0.01)
        truth.append(capture)
        got.append(clock.stamp(500 + capture, 1000 + capture + delay))
    shift = np.array(got) - truth
    assert np.all(np.diff(got) > 0)
    assert np.ptp(shift[200:]) < 0.01
    assert np.std(np.diff(got[200:])) < 0.001


def test_live_time_follows_a_camera_whose_clock_drifts() -> None:
    clock = LiveClock()
    for n in range(0, 36000, 3):  # 20 minutes of a clock that runs 1 % slow
        arrival = 1000 + n / 30
        got = clock.stamp(n / 30 * 0.99, arrival)
    assert arrival - 1000 - got < 0.5


def test_live_time_falls_back_to_arrival() -> None:
    clock = LiveClock()
    assert [clock.stamp(None, 10 + t) for t in (0, 0.1, 0.2)] == pytest.approx([0, 0.1, 0.2])
    stuck = LiveClock()
    assert [stuck.stamp(7.0, 10 + t) for t in (0, 0.1, 0.2)] == pytest.approx([0, 0.1, 0.2])
    jump = LiveClock()
    times = [
        jump.stamp(p, 10 + a) for p, a in ((0, 0), (0.1, 0.1), (9000.2, 0.2), (9000.3, 0.3), (1.0, 0.4), (1.1, 0.5))
    ]
    assert times == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5], abs=1e-6)


def test_live_time_keeps_rising_across_connections() -> None:
    clock = LiveClock()
    first = [clock.stamp(100 + n / 10, 50 + n / 10) for n in range(10)]
    clock.restart()
    second = [clock.stamp(n / 10, 60 + n / 10) for n in range(10)]
    assert np.all(np.diff(first + second) > 0)
    assert second[0] == pytest.approx(10.0)


def test_live_clock_is_bounded_whatever_comes() -> None:
    clock = LiveClock()
    for n in range(20000):  # delays that only grow: nothing leaves the window minimum
        clock.stamp(n * 1e-4, n * 1.0001e-4)
    assert len(clock._delays) <= 4096


def test_backoff_grows_to_a_bound_with_jitter_and_resets() -> None:
    backoff = Backoff(0.5, 30.0, seed=1)
    waits = [backoff.next_s() for _ in range(12)]
    for n, wait in enumerate(waits):
        nominal = min(0.5 * 2**n, 30.0)
        assert 0.75 * nominal <= wait <= 1.25 * nominal
    assert len({round(w / min(0.5 * 2**n, 30), 6) for n, w in enumerate(waits)}) > 6
    backoff.reset()
    assert backoff.next_s() < 0.7
