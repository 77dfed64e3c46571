from __future__ import annotations

import random
import statistics
from fractions import Fraction

import numpy as np
import pytest

import memedge.sampling as sampling_module
from memedge.errors import EngineError, UsageError
from memedge.sampling import Ticks, VideoScore, sampling_period


def play(score: VideoScore, rate: Fraction, count: int, values: list[float]) -> None:
    for i in range(count):
        score.offer(i, float(i / rate), float(1 / rate), values[i])


def indices_by_the_paper(preset: str, rate: Fraction, count: int) -> list[int]:
    """Frame numbers by the published rule, with exact arithmetic: round(t f), clipped to N - 1."""
    if preset == "K3":
        return [0, count // 3, 2 * count // 3]
    if preset == "F1":
        return [0]
    if preset in ("all", "HMP3", "C16", "C45"):
        return list(range(count))
    step = {"S7": Fraction(1), "S28": Fraction(1, 4), "S4": Fraction(2)}[preset]
    duration = count / rate
    picks, t = [], Fraction(0)
    while t < duration:
        picks.append(min(round(t * rate), count - 1))
        t += step
    return picks


@pytest.mark.parametrize("preset", ["S7", "S28", "S4", "K3", "F1", "all", "C16"])
@pytest.mark.parametrize(
    ("rate", "count"), [("24", 168), ("30", 200), ("30000/1001", 211), ("12.5", 90), ("2/5", 3), ("1", 7)]
)
@pytest.mark.parametrize("aggregate", ["mean", "median"])
def test_video_score_is_the_published_one(preset: str, rate: str, count: int, aggregate: str) -> None:
    rng = random.Random(count)
    values = [rng.random() for _ in range(count)]
    f = Fraction(rate)
    score = VideoScore(preset, aggregate)
    play(score, f, count, values)
    picked = [values[i] for i in indices_by_the_paper(preset, f, count)]
    expected = statistics.fmean(picked) if aggregate == "mean" else statistics.median(picked)
    assert score.finish(float(count / f)) == pytest.approx(expected, abs=1e-12)
    assert score.finish(float(count / f)) == pytest.approx(expected, abs=1e-12), "finish changes nothing"
    assert score.exact
    assert score.missed == 0


def test_the_papers_own_frame_numbers() -> None:
    assert indices_by_the_paper("S4", Fraction(24), 168) == [0, 48, 96, 144]
    assert indices_by_the_paper("K3", Fraction(24), 168) == [0, 56, 112]
    assert indices_by_the_paper("S28", Fraction(24), 168) == list(range(0, 168, 6))


@pytest.mark.parametrize("preset", ["S7", "S28", "S4", "K3", "F1"])
def test_scoring_only_what_is_needed_gives_the_same_score(preset: str) -> None:
    rng = random.Random(3)
    count, rate = 175, Fraction(25)
    values = [rng.random() for _ in range(count)]
    whole, sparse = VideoScore(preset), VideoScore(preset, frames=count)
    play(whole, rate, count, values)
    asked = 0
    for i in range(count):
        pts, step = float(i / rate), float(1 / rate)
        needed = sparse.needs(i, pts, step)
        asked += needed
        sparse.offer(i, pts, step, values[i] if needed else None)
    assert asked == len(set(indices_by_the_paper(preset, rate, count)))
    assert sparse.finish(7.0) == whole.finish(7.0)
    assert sparse.missed == 0


def test_needs_asks_for_every_frame_while_the_number_is_unknown() -> None:
    score = VideoScore("K3")
    assert all(score.needs(i, i / 25, 1 / 25) for i in range(50))


def test_frame_times_in_milliseconds_do_not_add_a_tick_at_the_end() -> None:
    times = [round(i * 1000 / 24) / 1000 for i in range(168)]
    score = VideoScore("S7")
    for i, t in enumerate(times):
        score.offer(i, t, (times[i + 1] - t) if i < 167 else 0.042, float(i))
    assert score.finish(times[-1] + 0.0425) == pytest.approx(np.mean([0, 24, 48, 72, 96, 120, 144]))


def test_a_part_of_a_file_starts_at_its_first_frame() -> None:
    score = VideoScore("S7")
    for i in range(125, 200):
        score.offer(i, i / 25, 1 / 25, float(i))
    assert score.finish(8.0) == pytest.approx((125 + 150 + 175) / 3)


def test_frames_without_a_score_are_missed_not_replaced() -> None:
    score = VideoScore("S7")
    for i in range(100):
        score.offer(i, i / 25, 1 / 25, None if 20 <= i < 60 else float(i))
    assert score.finish(4.0) == pytest.approx((0 + 75) / 2)
    assert score.missed == 2


def test_key_frames_that_were_not_scored_are_reported() -> None:
    score = VideoScore("K3", frames=120)
    for i in range(120):
        score.offer(i, i / 25, 1 / 25, float(i) if i % 7 == 0 else None)
    assert score.finish(4.8) == pytest.approx((0 + 42 + 77) / 3)
    assert not score.exact


def test_nothing_scored_gives_none() -> None:
    for preset in ("S7", "K3", "F1", "all"):
        score = VideoScore(preset)
        assert score.finish(0.0) is None
        score.offer(0, 0.0, 0.04, None)
        assert score.finish(0.04) is None


def test_memory_is_bounded_and_key_frames_stay_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling_module, "KEPT_SCORES", 256)
    score = VideoScore("K3")
    for i in range(10_000):
        score.offer(i, i / 25, 1 / 25, i / 10_000)
        assert len(score._kept[0]) <= 256
    assert score.finish(400.0) == pytest.approx((0 + 1 / 3 + 2 / 3) / 3, abs=0.01)


def test_median_of_very_many_picks_is_within_its_stated_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling_module, "_EXACT_PICKS", 500)
    rng = np.random.default_rng(1)
    values = rng.beta(4, 3, 20_001)
    score = VideoScore("all", "median")
    for i, value in enumerate(values):
        score.offer(i, i / 25, 1 / 25, float(value))
    assert score.finish(1e3) == pytest.approx(float(np.median(values)), abs=1 / 131_072 + 1e-9)


def test_last_and_exponential() -> None:
    last, fading = VideoScore("S7", "last"), VideoScore("S7", "exponential", window_s=6.0)
    for i in range(250):
        for score in (last, fading):
            score.offer(i, i / 25, 1 / 25, i / 250)
    assert last.finish(10.0) == 225 / 250
    ticks = np.arange(10)
    weights = np.exp((ticks - 9) / 2.0)
    assert fading.finish(10.0) == pytest.approx(float(np.average(ticks * 25 / 250, weights=weights)))


def test_mean_of_many_picks_does_not_drift() -> None:
    score = VideoScore("all")
    for i in range(300_000):
        score.offer(i, i / 25, 1 / 25, 0.1)
    assert score.finish(12_000.0) == pytest.approx(0.1, abs=1e-16)


def test_ticks_state_goes_through_plain_data() -> None:
    first, second = Ticks(0.5), Ticks(9.0)
    due = [first.due(i / 30, 1 / 30, i) for i in range(40)]
    second.restore(first.state())
    assert [first.due(i / 30, 1 / 30, i) for i in range(40, 90)] == [
        second.due(i / 30, 1 / 30, i) for i in range(40, 90)
    ]
    assert due.count(True) == 3
    assert not first.peek(89 / 30, 1 / 30, 89)
    assert first.peek(3.0, 1 / 30, 90)


def test_periods_of_the_presets() -> None:
    assert [sampling_period(s) for s in ("S7", "S28", "S4", "K3", "all")] == [1.0, 0.25, 2.0, None, None]


def test_bad_input() -> None:
    with pytest.raises(UsageError, match="S9"):
        VideoScore("S9")
    with pytest.raises(UsageError, match="mode"):
        VideoScore("S7", "mode")
    with pytest.raises(UsageError, match="more than 0"):
        Ticks(0.0)
    with pytest.raises(EngineError, match="finite"):
        VideoScore("S7").offer(0, 0.0, 0.04, float("nan"))
