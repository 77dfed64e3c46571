"""Terminal view and window."""

from __future__ import annotations

import io
import sys

import pytest

from helpers_sinks import context, feed, picture, reading, summary
from memedge.errors import SinkError
from memedge.sinks import show, terminal
from memedge.sinks.show import ShowSink
from memedge.sinks.terminal import TerminalSink
from memedge.stats import LatencyStats


def stats() -> dict[str, object]:
    infer = LatencyStats()
    infer.add(11.0)
    return {"fps": 24.7, "stages": {"infer": infer, "decode": LatencyStats()}, "drops": {"busy": 3, "corrupt": 0}}


def test_plain_lines_when_not_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: clock[0])
    sink = TerminalSink()
    sink.start(context(untrained=("small",), duration_s=20.0))
    for index in range(250):
        sink.write(reading(index, flags=("black", "untrained")), None, stats())
        clock[0] += 1 / 25
    sink.finish(summary())
    sink.close()
    out, err = capsys.readouterr()
    assert out == "", "stdout belongs to results"
    lines = err.splitlines()
    assert 9 <= len(lines) <= 11
    for part in (
        "clip.mp4",
        "/20.0 s",
        "rolling 0.50",
        "percentile 42",
        "24.7 fps",
        "dropped 3 busy",
        "black",
        "UNTRAINED",
    ):
        assert part in lines[-1]
    assert "filling" in lines[0]
    assert "filling" not in lines[-1]
    assert "\x1b" not in err


def test_the_live_view_shows_everything(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(terminal, "LIVE_S", 0.0)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = io.StringIO()
    sink = TerminalSink(stream, live=True)
    bundles = ("short", "long")
    sink.start(context(bundles, untrained=("long",)))
    for index in range(60):
        for bundle in bundles:
            sink.write(reading(index, bundle), None, stats())
    for bundle in bundles:
        sink.finish(summary(bundle))
    sink.close()
    text = stream.getvalue()
    for part in ("short · short_term", "long · short_term", "UNTRAINED: scores mean nothing", "percentile", "24.7 fps",
                 "dropped 3 busy", "infer", "11.0", "┏━┓", "█"):  # fmt: skip
        assert part in text, part
    assert text.count("UNTRAINED") == text.count("long · short_term")
    assert "\x1b[?25h" in text, "the cursor is shown again"
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("columns", ["20", "60", "80", "200"])
def test_any_width(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(terminal, "LIVE_S", 0.0)
    stream = io.StringIO()
    sink = TerminalSink(stream, live=True)
    sink.start(context(label="a very long path/" * 9 + "clip.mp4"))
    sink.write(reading(0, score=None, rolling=None, percentile=None), None, {})
    sink.write(reading(1), None, stats())
    sink.close()
    assert "┏━┓" in stream.getvalue()


def test_a_terminal_without_utf8_gets_plain_lines() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    sink = TerminalSink(stream, live=True)
    sink.start(context())
    feed(sink, 2)
    sink.close()
    stream.flush()
    assert raw.getvalue().decode("ascii").startswith("clip.mp4")


def test_a_terminal_that_goes_away_does_not_stop_the_scoring() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    sink = TerminalSink(Gone())
    sink.start(context())
    feed(sink, 3)
    sink.finish(summary())
    sink.close()


def test_show_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(SinkError, match=r"memedge\[opencv\]"):
        ShowSink().start(context())


def test_show_without_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SinkError, match="no display"):
        ShowSink().start(context())


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.exit('error: The function is not implemented. Rebuild the library')", "headless"),
        (
            "import os; print('qt: could not connect to display', file=__import__('sys').stderr); os.abort()",
            "could not connect",
        ),
    ],
)
def test_show_when_the_window_library_fails(monkeypatch: pytest.MonkeyPatch, code: str, message: str) -> None:
    pytest.importorskip("cv2")
    monkeypatch.setenv("DISPLAY", ":99")
    monkeypatch.setattr(show, "_PROBE", code)
    with pytest.raises(SinkError, match=message):
        ShowSink().start(context())


def test_the_window_shows_reduced_pictures_and_ends_with_q(monkeypatch: pytest.MonkeyPatch) -> None:
    cv2 = pytest.importorskip("cv2")
    shown = []
    keys = [-1, -1, ord("q")]
    monkeypatch.setattr(show, "_check", lambda: None)
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.append(image))
    monkeypatch.setattr(cv2, "waitKey", lambda ms: keys[len(shown) - 1])
    monkeypatch.setattr(cv2, "getWindowProperty", lambda title, prop: 1.0)
    monkeypatch.setattr(cv2, "destroyWindow", lambda title: shown.append("destroyed"))
    sink = ShowSink()
    sink.start(context())
    for index in range(6):
        sink.write(reading(index), picture(index, 2560, 1440), {})
    assert [s if isinstance(s, str) else s.shape for s in shown] == [(720, 1280, 3)] * 3 + ["destroyed"]
    # Blue, green, red: the scene's red is constant, its green grows to the right.
    assert abs(int(shown[0][5, 5, 2]) - 40) < 6
    sink.close()
