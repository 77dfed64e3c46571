"""What every sink does, whatever it writes."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers_sinks import context, feed, reading, summary
from memedge.errors import SinkError
from memedge.sinks import sink_class, sink_names
from memedge.sinks.base import Sink

Maker = Callable[[Path], Sink]


def make(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Sink:
    if name == "show":
        cv2 = pytest.importorskip("cv2")
        from memedge.sinks import show

        monkeypatch.setattr(show, "_check", lambda: None)
        monkeypatch.setattr(cv2, "imshow", lambda title, image: None)
        monkeypatch.setattr(cv2, "waitKey", lambda ms: -1)
        monkeypatch.setattr(cv2, "getWindowProperty", lambda title, prop: 1.0)
        monkeypatch.setattr(cv2, "destroyWindow", lambda title: None)
        return sink_class(name)()
    if name == "terminal":
        return sink_class(name)(io.StringIO())  # type: ignore[call-arg]
    if name == "synthetic":
        return sink_class(name)(needs_pictures=True)  # type: ignore[call-arg]
    return sink_class(name)(folder / {"video": "out.mp4", "moments": "moments"}.get(name, "out.txt"))  # type: ignore[call-arg]


@pytest.fixture(params=["csv", "jsonl", "moments", "show", "summary-csv", "synthetic", "terminal", "video"])
def sink(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sink:
    return make(request.param, tmp_path, monkeypatch)


def test_all_sinks_are_tested_here() -> None:
    assert set(sink_names()) >= {"csv", "jsonl", "moments", "show", "summary-csv", "synthetic", "terminal", "video"}


def test_one_source(sink: Sink) -> None:
    sink.start(context())
    feed(sink, 5)
    sink.finish(summary())
    sink.close()
    sink.close()


def test_several_sources_with_two_bundles(sink: Sink) -> None:
    bundles = ("small", "large")
    for label in ("a.mp4", "b.mp4"):
        sink.start(context(bundles, label, untrained=("large",)))
        feed(sink, 3, bundles, label)
        for bundle in bundles:
            sink.finish(summary(bundle, label))
    sink.close()


def test_a_source_without_any_frame(sink: Sink) -> None:
    sink.start(context())
    sink.finish(
        summary(frames_seen=0, frames_scored=0, video_score={"short_term": None}, rolling_mean=None, moments=[])
    )
    sink.close()


def test_frames_without_a_score(sink: Sink) -> None:
    sink.start(context(duration_s=None, fps=None))
    for index in range(3):
        from helpers_sinks import picture

        shot = picture(index)
        empty = reading(
            index, score=None, rolling=None, percentile=None, targets={}, staleness_s=None, flags=("not_due",)
        )
        sink.write(empty, shot if sink.needs_pictures else None, {})
    sink.finish(summary())
    sink.close()


def test_close_without_start(sink: Sink) -> None:
    sink.close()
    sink.close()


def test_close_in_the_middle_keeps_quiet(sink: Sink) -> None:
    sink.start(context())
    feed(sink, 3)
    sink.close()
    sink.close()


def test_frames_are_given_back(sink: Sink) -> None:
    from helpers_sinks import picture

    given_back = []
    sink.start(context())
    for index in range(4):
        shot = picture(index, on_release=lambda i=index: given_back.append(i))
        sink.write(reading(index), shot if sink.needs_pictures else None, {})
        shot.frame.release()
    assert given_back == [0, 1, 2, 3]
    sink.finish(summary())
    sink.close()


def test_the_synthetic_sink_fails_on_demand() -> None:
    from memedge.sinks.synthetic import SyntheticSink

    sink = SyntheticSink(fail_at=2)
    sink.start(context())
    with pytest.raises(SinkError, match="write 2"):
        feed(sink, 5)
    assert list(sink.calls) == ["start", "write", "write", "write"]
    assert len(sink.readings) == 2
    with pytest.raises(SinkError, match="start"):
        SyntheticSink(fail_on_start=True).start(context())
    with pytest.raises(SinkError, match="finish"):
        SyntheticSink(fail_on_finish=True).finish(summary())
