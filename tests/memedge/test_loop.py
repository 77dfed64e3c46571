"""The loop: files lose nothing, live sources keep the newest, several bundles, sinks that fail, engines that change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import memedge
from helpers_bundle import VARIANTS, picture, reference_outputs
from memedge.errors import MemedgeError, SinkError, SourceError, UsageError
from memedge.lane import LaneOptions
from memedge.loop import Loop, LoopOptions
from memedge.mailbox import Reader
from memedge.reading import Reading
from memedge.scorer import FixedScorer, Scorer
from memedge.sinks.base import Picture, Sink, SinkContext, Summary
from memedge.sources.base import Source, SourceInfo
from memedge_engines.bundle import Bundle
from memedge_engines.frame import Frame


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    root = tmp_path_factory.mktemp("bundles")
    return {name: make(root / name) for name, make in VARIANTS.items()}


class Scripted(Source):
    """Frames from a function; every one is counted until it is released."""

    def __init__(
        self,
        count: int,
        fps: float = 10.0,
        live: bool = False,
        pace_s: float = 0.0,
        make: Callable[[int], np.ndarray] = picture,
        fail_after: int | None = None,
    ) -> None:
        self.count, self.fps, self.live, self.pace_s, self.make, self.fail_after = (
            count,
            fps,
            live,
            pace_s,
            make,
            fail_after,
        )
        self.delivered = self.released = 0
        self.closed = threading.Event()

    def open(self) -> SourceInfo:
        return SourceInfo("scripted", "synthetic", self.live, 64, 48, self.fps)

    def _gone(self) -> None:
        self.released += 1

    def frames(self) -> Iterator[Frame]:
        for index in range(self.count):
            if self.closed.is_set():
                return
            if self.pace_s:
                time.sleep(self.pace_s)
            if self.fail_after is not None and index >= self.fail_after:
                raise SourceError("the file broke off")
            self.delivered += 1
            yield Frame.from_rgb(
                self.make(index),
                pts_s=index / self.fps,
                duration_s=1 / self.fps,
                index=index,
                arrival_ns=time.monotonic_ns(),
                on_release=self._gone,
            )

    def close(self) -> None:
        self.closed.set()


class Kept(Sink):
    """Keeps what it is given; fails at a given reading."""

    def __init__(self, pictures: bool = False, fail_at: int | None = None, slow_s: float = 0.0) -> None:
        self.needs_pictures, self.fail_at, self.slow_s = pictures, fail_at, slow_s
        self.context: SinkContext | None = None
        self.readings: list[Reading] = []
        self.sizes: list[tuple[int, ...]] = []
        self.summaries: list[Summary] = []

    def start(self, context: SinkContext) -> None:
        self.context = context

    def write(self, reading: Reading, picture: Picture | None, stats: dict[str, Any]) -> None:
        if self.fail_at is not None and len(self.readings) >= self.fail_at:
            raise SinkError("disk full")
        time.sleep(self.slow_s)
        self.readings.append(reading)
        if picture is not None:
            self.sizes.append(picture.rgb().shape)
        assert {"fps", "stages", "drops"} <= set(stats)

    def finish(self, summary: Summary) -> None:
        self.summaries.append(summary)

    def close(self) -> None:
        pass


def test_a_file_loses_nothing_and_its_numbers_are_the_references(bundles: dict[str, Bundle]) -> None:
    source, sink = Scripted(25), Kept(pictures=True)
    with Scorer(bundles["frame"], "onnxruntime", threads=1) as scorer:
        summary = Loop(source, {"tiny": scorer}, [sink]).run()["tiny"]
    assert [r.frame_index for r in sink.readings] == list(range(25))
    assert [r.time_s for r in sink.readings] == [i / 10 for i in range(25)]
    expected = [float(reference_outputs(bundles["frame"], picture(i))["model.score"][0, 0]) for i in range(25)]
    scores = [r.score for r in sink.readings]
    np.testing.assert_allclose(scores, expected, atol=2e-3)
    window = sink.readings[-1]
    np.testing.assert_allclose(window.rolling, np.mean(scores), atol=1e-9)
    # S7: frames at 0, 1 and 2 s.
    np.testing.assert_allclose(summary.video_score["short_term"], np.mean([scores[i] for i in (0, 10, 20)]), atol=1e-9)
    assert (summary.frames_seen, summary.frames_scored, summary.ended) == (25, 25, "end")
    assert summary.duration_s == pytest.approx(2.5)
    assert sink.sizes == [(48, 64, 3)] * 25
    assert sink.summaries == [summary]
    assert source.delivered == source.released == 25
    assert {"decode", "preprocess", "infer", "rolling", "sinks"} <= set(summary.latency_ms)


def test_repeated_pictures_reuse_their_score_and_say_so(bundles: dict[str, Bundle]) -> None:
    source, sink = Scripted(12, make=lambda i: picture(i // 4)), Kept()
    with Scorer(bundles["frame"], "onnxruntime", threads=1) as scorer:
        calls = []
        run = scorer.executor.submit
        scorer.executor.submit = lambda batch: (calls.append(1), run(batch))[1]  # type: ignore[method-assign]
        Loop(source, {"tiny": scorer}, [sink]).run()
    assert len(calls) == 3
    assert ["repeated" in r.flags for r in sink.readings] == [False, True, True, True] * 3
    assert len({r.score for r in sink.readings}) == 3
    assert None not in {r.score for r in sink.readings}
    assert source.released == 12


def test_rate_leaves_frames_out_and_the_video_score_still_has_its_samples(bundles: dict[str, Bundle]) -> None:
    source, sink = Scripted(41), Kept()
    options = LoopOptions(LaneOptions(rate_hz=0.4))
    with Scorer(bundles["frame"], "onnxruntime", threads=1) as scorer:
        summary = Loop(source, {"tiny": scorer}, [sink], options).run()["tiny"]
    scored = [r.frame_index for r in sink.readings if r.score is not None]
    assert scored == [0, 10, 20, 25, 30, 40]
    assert all("not_due" in r.flags for r in sink.readings if r.score is None)
    picks = [r.score for r in sink.readings if r.frame_index in (0, 10, 20, 30, 40)]
    assert summary.video_score["short_term"] == pytest.approx(np.mean(picks))
    assert sink.readings[24].rolling is not None
    assert sink.readings[24].staleness_s == pytest.approx(0.4)


def test_live_keeps_the_newest_counts_drops_and_never_scores_an_old_frame(bundles: dict[str, Bundle]) -> None:
    source, sink = Scripted(60, fps=100, live=True, pace_s=0.01), Kept(slow_s=0.05)
    with Scorer(bundles["frame"], "onnxruntime", threads=1) as scorer:
        loop = Loop(source, {"tiny": scorer}, [sink])
        summary = loop.run()["tiny"]
    indices = [r.frame_index for r in sink.readings]
    assert indices == sorted(set(indices))
    assert len(indices) < 60
    assert summary.drops["busy"] == 60 - len(indices)
    assert summary.frames_seen == len(indices)
    assert source.delivered == source.released == 60
    assert all(r.wall_time for r in sink.readings)


def test_two_bundles_share_one_decode(bundles: dict[str, Bundle]) -> None:
    source, sink = Scripted(9), Kept()
    with Scorer(bundles["frame"], threads=1) as one, Scorer(bundles["fused"], threads=1) as two:
        summaries = Loop(source, {"a": one, "b": two}, [sink]).run()
    assert source.delivered == 9
    assert [(r.bundle, r.frame_index) for r in sink.readings] == [(b, i) for i in range(9) for b in "ab"]
    assert set(summaries["b"].video_score) == {"short_term", "long_term"}
    fused = [r for r in sink.readings if r.bundle == "b"]
    assert [r.score is not None for r in fused] == [i % 5 == 0 for i in range(9)]
    assert set(fused[0].targets) == {"short_term", "long_term"}


def test_failing_sink_ends_the_run_and_the_others_are_finished(bundles: dict[str, Bundle]) -> None:
    source, good, bad = Scripted(30), Kept(), Kept(fail_at=5)
    with Scorer(bundles["frame"], threads=1) as scorer:
        with pytest.raises(SinkError, match="disk full"):
            Loop(source, {"tiny": scorer}, [good, bad]).run()
        assert scorer.score(picture(1)).value > 0  # the scorer goes on
    assert len(good.readings) >= 5
    assert [s.ended for s in good.summaries] == ["failed"]
    assert source.delivered == source.released


def test_source_that_breaks_off_keeps_what_came_before(bundles: dict[str, Bundle]) -> None:
    source, sink = Scripted(30, fail_after=7), Kept()
    with Scorer(bundles["frame"], threads=1) as scorer, pytest.raises(SourceError, match="broke off"):
        Loop(source, {"tiny": scorer}, [sink]).run()
    assert [r.frame_index for r in sink.readings] == list(range(7))
    assert sink.summaries[0].frames_seen == 7
    assert source.delivered == source.released == 7


def test_stop_ends_after_the_frame_at_hand(bundles: dict[str, Bundle]) -> None:
    source, sink = Scripted(1000), Kept()
    with Scorer(bundles["frame"], threads=1) as scorer:
        loop = Loop(source, {"tiny": scorer}, [sink])
        for reading in loop.readings():
            if reading.frame_index == 10:
                loop.stop()
    assert 10 < len(sink.readings) < 20
    assert sink.summaries[0].ended == "signal"
    assert source.delivered == source.released


def test_leaving_a_stream_early_closes_everything(bundles: dict[str, Bundle]) -> None:
    source = Scripted(1000)
    with Scorer(bundles["frame"], threads=1) as scorer:
        with memedge.stream(source, scorer, window_s=2.0) as readings:
            first = [next(readings) for _ in range(3)]
        assert [r.frame_index for r in first] == [0, 1, 2]
        assert readings.summary is not None
        assert readings.summary.ended == "stopped"
    assert source.delivered == source.released


def test_max_seconds_and_bad_numbers(bundles: dict[str, Bundle]) -> None:
    source, sink = Scripted(100), Kept()
    with Scorer(bundles["frame"], threads=1) as scorer:
        summary = Loop(source, {"t": scorer}, [sink], LoopOptions(max_seconds=1.5)).run()["t"]
    assert summary.frames_seen == 15
    assert summary.ended == "limit"
    assert source.delivered == source.released
    for bad in ({"window_s": 0.0}, {"rate_hz": -1.0}, {"window_s": float("nan")}):
        with pytest.raises(UsageError, match="expected more than 0"):
            LoopOptions(LaneOptions(**bad))
    with pytest.raises(UsageError, match="no bundle"):
        Loop(source, {})


def test_engine_swap_in_mid_stream_is_named_in_the_readings(bundles: dict[str, Bundle]) -> None:
    from memedge_engines import choice

    source, sink = Scripted(20), Kept()
    with Scorer(bundles["frame"], "synthetic", threads=1) as scorer:

        def between(frames: int) -> None:
            if frames == 10:
                candidate = choice.Candidate("onnxruntime", "fp32")
                scorer.replace(FixedScorer(bundles["frame"], candidate, scorer.options))

        Loop(source, {"t": scorer}, [sink], between=between).run()
    engines = [r.engine for r in sink.readings]
    assert engines == ["synthetic"] * 10 + ["onnxruntime"] * 10
    assert len(engines) == 20


def test_untrained_is_said_in_every_reading_and_the_summary(tmp_path: Path) -> None:
    bundle = VARIANTS["frame"](tmp_path / "u", untrained=True)
    sink = Kept()
    with Scorer(bundle, threads=1) as scorer:
        summary = Loop(Scripted(3), {"t": scorer}, [sink]).run()["t"]
        assert "untrained" in scorer.score(picture(0)).flags
    assert all("untrained" in r.flags for r in sink.readings)
    assert summary.untrained
    assert sink.context is not None
    assert sink.context.untrained == {"t"}


def test_reader_hands_on_errors_after_the_frames_before_them() -> None:
    source = Scripted(3, fail_after=2)
    reader = Reader(source, live=False)
    frames = [reader.take(5.0), reader.take(5.0)]
    assert [f.index for f in frames if f is not None] == [0, 1]
    with pytest.raises(SourceError, match="broke off"):
        reader.take(5.0)
    assert reader.ended
    for frame in frames:
        assert frame is not None
        frame.release()
    reader.stop()
    assert source.released == 2


def test_a_stream_that_fails_closes_the_scorer_it_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Scorer] = []
    bundle = VARIANTS["frame"](tmp_path / "b")

    def load() -> Scorer:
        made.append(Scorer(bundle, threads=1))
        return made[-1]

    monkeypatch.setattr("memedge.streaming.load", load)
    with pytest.raises(SourceError, match="broke off"):
        for _ in memedge.stream(Scripted(3, fail_after=1)):
            pass
    with pytest.raises(MemedgeError, match="closed"):
        made[0].score(picture(1))


def test_stopping_before_the_source_answers_is_no_error(bundles: dict[str, Bundle]) -> None:
    class Silent(Scripted):
        def open(self) -> SourceInfo:
            assert self.closed.wait(20)
            raise SourceError("closed before it answered")

    sink = Kept()
    with Scorer(bundles["frame"], threads=1) as scorer:
        loop = Loop(Silent(3), {"t": scorer}, [sink])
        threading.Timer(0.1, loop.stop).start()
        assert loop.run() == {}
    assert sink.context is None
    assert sink.summaries == []


def test_sinks_that_were_started_are_finished_when_a_later_one_cannot_start(bundles: dict[str, Bundle]) -> None:
    class Refused(Kept):
        def start(self, context: SinkContext) -> None:
            raise SinkError("read-only")

    first, last = Kept(), Kept()
    source = Scripted(3)
    with Scorer(bundles["frame"], threads=1) as scorer, pytest.raises(SinkError, match="read-only"):
        Loop(source, {"t": scorer}, [first, Refused(), last]).run()
    assert [s.ended for s in first.summaries] == ["failed"]
    assert last.summaries == []
    assert source.closed.is_set()
