from __future__ import annotations

import threading

import pytest

from memedge_engines.plans.progress import Phases, Watch


def test_nested_phases_make_one_rising_fraction() -> None:
    phases = Phases()
    assert phases.fraction == 0.0
    phases.start("build", None, 4)
    phases.step("build", 0)
    assert phases.fraction == 0.25
    phases.start("graph", "build", 2)
    phases.start("tactics", "graph", 10)
    phases.step("tactics", 4)
    assert phases.fraction == pytest.approx((1 + (0.5) / 2) / 4)
    phases.step("tactics", 1)  # late, from another thread
    phases.finish("tactics")
    # What a finished child brought stays until its parent counts it.
    assert phases.fraction == pytest.approx((1 + 0.25) / 4)
    phases.step("graph", 1)
    phases.step("build", 3)
    assert phases.fraction == 1.0
    phases.finish("graph")
    phases.finish("build")
    assert phases.fraction == 1.0


def test_odd_phases_are_survived() -> None:
    phases = Phases()
    phases.step("never started", 3)
    phases.finish("never started")
    assert phases.fraction == 1.0  # nothing is open: whatever was is over
    phases = Phases()
    phases.start("zero", None, 0)
    phases.start("own parent", "own parent", 2)
    phases.start("a", "b", 2)
    phases.start("b", "a", 2)
    phases.step("zero", 10)
    assert phases.fraction == 1.0
    phases = Phases()
    phases.start("root", None, 2)
    for number in range(1000):
        phases.start(f"{number}", f"{number - 1}" if number else "root", 2)
    assert 0.0 <= phases.fraction <= 1.0


def test_callbacks_from_many_threads() -> None:
    seen: list[float] = []
    watch = Watch(lambda fraction, _: seen.append(fraction))
    watch.start("build", None, 400)

    def work(offset: int) -> None:
        for step in range(100):
            assert watch.step("build", offset + step)

    threads = [threading.Thread(target=work, args=(k * 100,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_the_first_exception_is_kept_and_stops() -> None:
    def fall(fraction: float, text: str) -> None:
        raise ValueError(text)

    watch = Watch(fall)
    watch.start("first", None, 2)
    assert not watch.step("second", 0)
    assert watch.cancelled
    assert str(watch.error) == "first"
