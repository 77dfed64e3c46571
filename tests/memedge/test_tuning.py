"""The tuner of a run: times the other engines, changes over between frames, remembers; a library Scorer never does."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

import memedge
from helpers_bundle import make_frame_bundle, picture
from helpers_cli import inside, jsonl
from memedge import tuning
from memedge.lane import LaneOptions
from memedge.loop import Loop, LoopOptions
from memedge.scorer import Scorer
from memedge.sources.synthetic import Shot, SyntheticSource
from memedge.tuning import Tuner
from memedge_engines import choice
from memedge_engines.backends.base import Engine, EngineOptions
from memedge_engines.bundle import Bundle
from memedge_engines.choice import Candidate, Timing
from memedge_engines.errors import EngineError

HERE, THERE = Candidate("onnxruntime", "fp32"), Candidate("synthetic", "fp32")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_frame_bundle(tmp_path_factory.mktemp("tuning") / "b", lowerings=("fp32", "cpu"))


@pytest.fixture(autouse=True)
def _forget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


class Stopwatch:
    """Stands for :func:`choice.tuning`: its timings are given, its steps are counted, and it can be held."""

    def __init__(self, *timings: Timing) -> None:
        self.timings = list(timings)
        self.asked: list[tuple[Any, ...]] = []
        self.go = threading.Event()
        self.closed = threading.Event()
        self.go.set()

    def __call__(self, *arguments: Any) -> Generator[str, None, list[Timing]]:
        self.asked.append(arguments)
        try:
            for number in range(3):
                self.go.wait(10)
                yield f"step {number}"
            return self.timings
        finally:
            self.closed.set()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    """Engines that are opened while the test runs, the scorer's own first."""
    engines: list[Engine] = []
    real = choice.open_engines

    def counting(bundle: Bundle, candidate: Candidate, options: EngineOptions | None = None) -> dict[str, Engine]:
        made = real(bundle, candidate, options)
        engines.extend(made.values())
        return made

    monkeypatch.setattr(choice, "open_engines", counting)
    return engines


def candidates_here(monkeypatch: pytest.MonkeyPatch, watch: Any) -> None:
    monkeypatch.setattr(choice, "candidates", lambda *_: [HERE, THERE])
    monkeypatch.setattr(choice, "tuning", watch)


def closed(engine: Engine) -> bool:
    return bool(engine._closed)


def test_a_faster_engine_takes_over_between_two_frames(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, opened: list[Engine], capfd: pytest.CaptureFixture[str]
) -> None:
    with Scorer(bundle, "onnxruntime", "fp32", threads=1) as scorer:
        watch = Stopwatch(Timing(THERE, 1.0, 1.2, 15), Timing(HERE, 4.0, 4.4, 15))
        candidates_here(monkeypatch, watch)
        tuner = Tuner({"tiny": scorer}, start_after_s=0)
        source = SyntheticSource([Shot(i / 10, picture(i)) for i in range(12)])
        readings = []

        def between(frames: int) -> None:
            tuner.between(frames)
            tuner.wait(10)

        loop = Loop(source, {"tiny": scorer}, options=LoopOptions(LaneOptions()), between=between)
        for reading in loop.readings():
            readings.append(reading)
        tuner.close()
        assert scorer.engine == "synthetic"
        assert [closed(engine) for engine in opened] == [True, False]
    engines = [reading.engine for reading in readings]
    assert engines[0] == "onnxruntime"
    assert engines[-1] == "synthetic"
    assert engines == sorted(engines)  # one change, no way back
    assert len(readings) == 12
    assert source.outstanding == 0
    assert closed(opened[1])  # with its scorer
    err = capfd.readouterr().err
    assert "tiny goes on with synthetic fp32: 1.0 ms instead of 4.0 ms on onnxruntime fp32" in err
    # It was asked about the precision that the scorer was asked for.
    assert [arguments[1:3] for arguments in watch.asked] == [("auto", "fp32")]


@pytest.mark.parametrize(
    "timings",
    [
        (Timing(HERE, 4.0, 4.4, 15), Timing(THERE, 5.0, 5.5, 15)),  # this one is the fastest
        (Timing(THERE, 3.9, 4.4, 15), Timing(HERE, 4.0, 4.1, 15)),  # too little to be worth a change
        (Timing(THERE, reason="not installed"),),
        (),
    ],
)
def test_no_change_without_a_reason(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, opened: list[Engine], timings: tuple[Timing, ...]
) -> None:
    with Scorer(bundle, "onnxruntime", "fp32", threads=1) as scorer:
        candidates_here(monkeypatch, Stopwatch(*timings))
        tuner = Tuner({"tiny": scorer}, start_after_s=0)
        tuner.between(1)
        tuner.wait(10)
        tuner.between(2)
        tuner.close()
        assert scorer.engine == "onnxruntime"
        assert [closed(engine) for engine in opened] == [False]


def test_closing_in_the_middle_ends_the_timing(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with Scorer(bundle, "onnxruntime", "fp32", threads=1) as scorer:
        watch = Stopwatch(Timing(THERE, 1.0, 1.2, 15))
        watch.go.clear()
        candidates_here(monkeypatch, watch)
        tuner = Tuner({"tiny": scorer}, start_after_s=0)
        tuner.between(1)
        threading.Timer(0.1, watch.go.set).start()
        tuner.close()
        assert watch.closed.is_set()
        tuner.close()
        assert scorer.engine == "onnxruntime"
        assert 0 <= scorer.score(picture(1)).value <= 1


def test_an_engine_that_nobody_took_is_closed(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, opened: list[Engine]
) -> None:
    with Scorer(bundle, "onnxruntime", "fp32", threads=1) as scorer:
        watch = Stopwatch(Timing(THERE, 1.0, 1.2, 15), Timing(HERE, 4.0, 4.4, 15))
        watch.go.clear()
        candidates_here(monkeypatch, watch)
        tuner = Tuner({"tiny": scorer}, start_after_s=0)
        tuner.between(1)
        watch.go.set()
        tuner.wait(10)  # ready, and the run ends before the next frame
        assert len(opened) == 2
        tuner.close()
        assert [closed(engine) for engine in opened] == [False, True]
        assert scorer.engine == "onnxruntime"
        assert 0 <= scorer.score(picture(1)).value <= 1


@pytest.mark.parametrize("error", [EngineError("no device\nat all"), RuntimeError("driver fell over")])
def test_a_failing_timing_never_ends_the_run(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: Exception
) -> None:
    def failing(*_: Any) -> Generator[str, None, list[Timing]]:
        yield "opening"
        raise error

    with Scorer(bundle, "onnxruntime", "fp32", threads=1) as scorer:
        candidates_here(monkeypatch, failing)
        tuner = Tuner({"tiny": scorer}, start_after_s=0)
        tuner.between(1)
        tuner.wait(10)
        tuner.close()
        assert 0 <= scorer.score(picture(1)).value <= 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("memedge: engines were not timed: ")


def test_it_starts_after_the_first_scores_and_once(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(tuning.time, "monotonic", lambda: clock[0])
    with Scorer(bundle, "onnxruntime", "fp32", threads=1) as scorer:
        watch = Stopwatch(Timing(HERE, 4.0, 4.4, 15))
        candidates_here(monkeypatch, watch)
        tuner = Tuner({"tiny": scorer}, start_after_s=3)
        for clock[0] in (100.0, 101.0, 102.9):
            tuner.between(1)
        assert watch.asked == []
        for clock[0] in (103.0, 104.0, 500.0):
            tuner.between(1)
            tuner.wait(10)
        assert len(watch.asked) == 1
        tuner.close()


def test_what_is_remembered_or_has_no_rival_is_left_alone(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("timed")

    monkeypatch.setattr(choice, "tuning", never)
    with Scorer(bundle, "onnxruntime", "fp32", threads=1) as scorer:
        monkeypatch.setattr(choice, "candidates", lambda *_: [HERE])
        tuner = Tuner({"tiny": scorer}, start_after_s=0)
        tuner.between(1)
        tuner.close()


def test_real_engines_are_timed_and_the_best_is_remembered(bundle: Bundle) -> None:
    if len(choice.candidates(bundle)) < 2:
        pytest.skip("one engine on this machine")
    with Scorer(bundle, threads=1) as scorer:
        assert not scorer.choice.remembered
        tuner = Tuner({"tiny": scorer}, start_after_s=0)
        tuner.between(1)
        tuner.wait(60)
        tuner.between(2)
        tuner.close()
        engine = scorer.engine
        assert 0 <= scorer.score(picture(1)).value <= 1
    known = choice.remembered(bundle, "auto", EngineOptions(threads=1))
    assert known is not None
    with Scorer(bundle, threads=1) as again:
        assert again.choice.remembered
        assert again.engine == known.backend
        assert Tuner({"tiny": again})._scorers == {}
    assert engine in {c.backend for c in choice.candidates(bundle)}


def test_a_library_scorer_never_tunes(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("timed")

    monkeypatch.setattr(choice, "tuning", never)
    monkeypatch.setattr(choice, "tune", never)
    monkeypatch.setattr(tuning, "START_AFTER_S", 0.0)
    with memedge.load(bundle.path) as scorer:
        engine = scorer.engine
        for i in range(5):
            scorer.score(picture(i))
        with memedge.stream("test://?size=64x48&fps=20&seconds=1", scorer) as stream:
            assert {reading.engine for reading in stream} == {engine}
        time.sleep(0.05)
        assert "memedge-tuner" not in {thread.name for thread in threading.enumerate()}
    assert choice.remembered(bundle) is None


def test_a_run_tunes_unless_told_otherwise(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    made: list[Any] = []

    class Spy(Tuner):
        def __init__(self, scorers: Any, **more: Any) -> None:
            super().__init__(scorers, start_after_s=0, **more)
            made.append(self)

    monkeypatch.setattr("memedge.running.Tuner", Spy)
    words = ["run", "--source", "test://?size=64x48&fps=20&seconds=1", "--bundle", str(bundle.path), "-q"]
    for extra in (["--no-tune"], ["--engine", "onnxruntime"]):
        assert inside(capfd, *words, *extra).code == 0
    assert made == []
    done = inside(capfd, *words, "--jsonl", str(tmp_path / "r.jsonl"))
    assert done.code == 0
    assert len(made) == 1
    readings, (summary,) = jsonl(tmp_path / "r.jsonl")
    assert summary["frames_scored"] == len(readings) == 20
    assert {r["precision"] for r in readings} <= {"int8", "fp32"}
    assert made[0]._thread is None or not made[0]._thread.is_alive()


def test_a_precision_that_was_asked_for_is_kept(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    waits = Tuner.between

    def patient(self: Tuner, frames: int) -> None:
        self._start_after_s = 0
        waits(self, frames)
        self.wait(60)

    monkeypatch.setattr(Tuner, "between", patient)
    words = ["run", "--source", "test://?size=64x48&fps=20&seconds=1", "--bundle", str(bundle.path), "-q"]
    done = inside(capfd, *words, "--precision", "fp32", "--jsonl", str(tmp_path / "r.jsonl"))
    assert done.code == 0
    readings, _ = jsonl(tmp_path / "r.jsonl")
    assert {r["precision"] for r in readings} == {"fp32"}
