from __future__ import annotations

import math
import random

import pytest

from memedge.errors import EngineError, UsageError
from memedge.moments import CELLS_PER_GAP, Moments


def offline(frames: list[tuple[float, float]], count: int, gap: float) -> list[tuple[float, float]]:
    """The definition, over the whole history."""
    cells: dict[int, tuple[float, float]] = {}
    for t, score in frames:
        cell = math.floor(t / (gap / CELLS_PER_GAP))
        if cell not in cells or score > cells[cell][1]:
            cells[cell] = (t, score)
    left = list(cells.values())
    chosen: list[tuple[float, float]] = []
    while left and len(chosen) < count:
        best = min(left, key=lambda f: (-f[1], f[0]))
        chosen.append(best)
        left = [f for f in left if abs(f[0] - best[0]) >= gap]
    return chosen


def series(kind: str, seed: int, length: int) -> list[float]:
    rng = random.Random(seed)
    if kind == "random":
        return [rng.random() for _ in range(length)]
    if kind == "ties":
        return [rng.choice([0.2, 0.5, 0.8]) for _ in range(length)]
    if kind == "rising":
        return [i / length for i in range(length)]
    if kind == "falling":
        return [1 - i / length for i in range(length)]
    if kind == "waves":
        return [0.5 + 0.4 * math.sin(i / 9 + seed) * math.cos(i / 41) for i in range(length)]
    walk, scores = 0.5, []
    for _ in range(length):
        walk = min(1.0, max(0.0, walk + rng.uniform(-0.05, 0.05)))
        scores.append(walk)
    return scores


@pytest.mark.parametrize("kind", ["random", "ties", "rising", "falling", "waves", "walk"])
@pytest.mark.parametrize(("count", "gap"), [(1, 1.0), (3, 0.7), (5, 2.0)])
def test_online_equals_the_definition_at_every_frame(kind: str, count: int, gap: float) -> None:
    for seed in range(3):
        rng = random.Random(seed)
        moments, frames, t = Moments(count, gap), [], 0.0
        for number, score in enumerate(series(kind, seed, 300)):
            frames.append((t, score))
            moments.offer(t, score)
            if number % 7 == 0 or number > 290:
                assert [(m.time_s, m.score) for m in moments.best()] == offline(frames, count, gap)
            t += 1 / 12 if kind != "walk" else rng.uniform(0.01, 0.4)


def test_a_long_rise_stays_small_and_keeps_its_pictures() -> None:
    sealed = []
    moments = Moments(5, 2.0, seal=lambda payload: sealed.append(payload) or ("sealed", payload))
    most = 0
    for i in range(4000):
        moments.offer(i / 25, i / 4000, take=lambda i=i: i)
        most = max(most, len(moments))
    assert most <= 60
    best = moments.best()
    assert [m.time_s for m in best] == sorted((m.time_s for m in best), reverse=True)
    for m in best:
        number = m.payload[1] if isinstance(m.payload, tuple) else m.payload
        assert number == round(m.time_s * 25)


@pytest.mark.parametrize("kind", ["random", "ties", "walk", "falling"])
def test_every_chosen_moment_has_its_picture(kind: str) -> None:
    moments = Moments(4, 1.0, seal=lambda payload: payload)
    for i, score in enumerate(series(kind, 5, 1500)):
        moments.offer(i / 25, score, take=lambda i=i: i)
        assert [m.payload for m in moments.best()] == [round(m.time_s * 25) for m in moments.best()]


def test_pictures_are_rarely_taken_once_the_good_moments_are_known() -> None:
    taken = []
    moments = Moments(3, 1.0)
    rng = random.Random(0)
    for i in range(5000):
        score = 0.9 + i / 1000 if i < 100 else rng.random() * 0.5
        moments.offer(i / 25, score, take=lambda i=i: taken.append(i))
    late = [i for i in taken if i > 2500]
    assert len(late) < 60


def test_moments_are_apart_and_sorted() -> None:
    moments = Moments(5, 2.0)
    for i in range(1000):
        moments.offer(i / 25, 0.5 + 0.3 * math.sin(i / 30))
    best = moments.best()
    assert len(best) == 5
    assert [m.score for m in best] == sorted((m.score for m in best), reverse=True)
    times = sorted(m.time_s for m in best)
    assert all(b - a >= 2.0 for a, b in zip(times, times[1:]))  # noqa: B905, RUF007


def test_a_clock_that_goes_back_is_ignored() -> None:
    moments = Moments(2, 1.0)
    moments.offer(10.0, 0.5)
    assert not moments.offer(2.0, 0.9)
    assert [m.time_s for m in moments.best()] == [10.0]


def test_bad_input() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        Moments(0)
    with pytest.raises(UsageError, match="more than 0"):
        Moments(3, 0.0)
    with pytest.raises(EngineError, match="finite"):
        Moments().offer(0.0, float("nan"))
