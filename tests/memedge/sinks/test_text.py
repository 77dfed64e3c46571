"""JSON Lines, CSV and summary CSV."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers_sinks import context, feed, reading, summary
from memedge.errors import SinkError, UsageError
from memedge.reading import Reading, TargetReading
from memedge.sinks.csv import FIXED, CsvSink
from memedge.sinks.jsonl import KEPT_FILES, JsonlSink
from memedge.sinks.summary_csv import SummaryCsvSink

READING_NAMES = [
    "time_s",
    "source",
    "bundle",
    "frame_index",
    "wall_time",
    "score",
    "rolling",
    "percentile",
    "targets",
    "coverage",
    "complete",
    "staleness_s",
    "latency_ms",
    "engine",
    "precision",
    "flags",
    "outputs",
]


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_jsonl_has_every_field_of_every_reading_and_a_summary(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    sink = JsonlSink(path)
    sink.start(context())
    feed(sink, 7)
    sink.write(reading(7, flags=("black", "repeated"), outputs={"attention": np.eye(2, dtype=np.float32)}), None, {})
    sink.finish(summary(flags={"black": 1}))
    sink.close()
    found = lines(path)
    assert all(sorted(line) == sorted(READING_NAMES) for line in found[:-1])
    assert [line["frame_index"] for line in found[:-1]] == list(range(8))
    assert found[7]["flags"] == ["black", "repeated"]
    assert found[7]["outputs"] == {"attention": [[1.0, 0.0], [0.0, 1.0]]}
    assert found[3]["targets"] == {"short_term": {"score": found[3]["score"], "rolling": 0.5, "percentile": 42.0}}
    assert set(found[-1]) == {"summary"}
    last = found[-1]["summary"]
    assert isinstance(last, dict)
    for name in ("frames_seen", "frames_scored", "video_score", "rolling_mean", "moments", "latency_ms"):
        assert name in last
    assert last["moments"] == [{"time_s": 1.0, "score": 0.8}]


def test_each_line_is_on_the_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    sink = JsonlSink(path)
    sink.start(context())
    for count in range(1, 4):
        feed(sink, 1, start=count)
        assert len(lines(path)) == count
    sink.close()


def test_jsonl_to_stdout(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    sink = JsonlSink("-")
    sink.start(context())
    feed(sink, 3)
    sink.finish(summary())
    sink.close()
    print("still open")
    out = capfdbinary.readouterr().out.splitlines()
    assert [json.loads(line).get("frame_index") for line in out[:4]] == [0, 1, 2, None]
    assert out[4] == b"still open"


def test_jsonl_to_a_captured_stdout(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    sink = JsonlSink("-")
    sink.start(context())
    feed(sink, 2)
    sink.close()
    assert len(capsysbinary.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("sink_type", [JsonlSink, CsvSink])
def test_not_a_number_is_refused(tmp_path: Path, bad: float, sink_type: type[JsonlSink] | type[CsvSink]) -> None:
    path = tmp_path / "r"
    sink = sink_type(path)
    sink.start(context())
    feed(sink, 2)
    kept = path.read_bytes()
    for fields in (
        {"score": bad},
        {"latency_ms": bad},
        {"targets": {"short_term": TargetReading(0.5, bad, None)}},
        {"outputs": {"decay": [0.1, [bad]]}},
        {"outputs": {"decay": np.array([bad])}},
    ):
        with pytest.raises(SinkError, match=r"frame 9 of clip.mp4: .* is not a finite number"):
            sink.write(reading(9, **fields), None, {})
    assert path.read_bytes() == kept
    sink.close()


def test_rotation_keeps_ten_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    sink = JsonlSink(path, rotate_mb=0.002)
    sink.start(context())
    feed(sink, 120)
    sink.finish(summary())
    sink.close()
    files = sorted(tmp_path.iterdir())
    assert len(files) == KEPT_FILES
    assert all(f.stat().st_size <= 2000 for f in files)
    order = [path.with_name(f"r.jsonl.{n}") for n in range(KEPT_FILES - 1, 0, -1)] + [path]
    found = [line for f in order for line in lines(f)]
    numbers = [line["frame_index"] for line in found[:-1]]
    assert numbers == list(range(120 - len(numbers), 120))
    assert "summary" in found[-1]


def test_a_line_longer_than_the_limit_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    sink = JsonlSink(path, rotate_mb=1e-5)
    sink.start(context())
    feed(sink, 3)
    sink.close()
    assert len(lines(path)) == len(lines(path.with_name("r.jsonl.1"))) == 1


def test_bad_rotation() -> None:
    for value in (0.0, -1.0, math.nan):
        with pytest.raises(UsageError, match="more than 0"):
            JsonlSink("x", rotate_mb=value)
    with pytest.raises(UsageError, match="needs --jsonl FILE"):
        JsonlSink("-", rotate_mb=1)


def test_csv_rows_read_back(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    sink = CsvSink(path)
    sink.start(context(label='odd, "name".mp4'))
    sink.write(reading(0, label='odd, "name".mp4', flags=("black", "repeated")), None, {})
    sink.write(reading(1, score=None, rolling=None, targets={}), None, {})
    sink.finish(summary())
    sink.close()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*FIXED, "short_term.score", "short_term.rolling", "short_term.percentile"]
    assert rows[0]["source"] == 'odd, "name".mp4'
    assert rows[0]["flags"] == "black repeated"
    assert float(rows[0]["short_term.score"]) == float(rows[0]["score"]) == 0.5
    assert rows[1]["score"] == rows[1]["short_term.score"] == ""
    assert rows[1]["complete"] == "false"


def test_csv_columns_hold_the_targets_of_all_bundles(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    sink = CsvSink(path)
    for label in ("a.mp4", "b.mp4"):
        sink.start(context(("short", "long"), label))
        for index in range(3):
            sink.write(reading(index, "short", label), None, {})
            long = {"long_term": TargetReading(0.25, 0.5, None)}
            sink.write(reading(index, "long", label, targets=long), None, {})
    sink.close()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert [r["bundle"] for r in rows[:2]] == ["short", "long"]
    assert rows[0]["long_term.score"] == ""
    assert rows[1]["long_term.score"] == "0.25"
    sink = CsvSink(path)
    sink.start(context())
    feed(sink, 1)
    with pytest.raises(SinkError, match="'other' is not in the header"):
        sink.write(reading(1, targets={"other": TargetReading(0.1, None, None)}), None, {})
    sink.close()


def test_csv_of_nothing_has_a_header(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    sink = CsvSink(path)
    sink.start(context())
    sink.finish(summary())
    sink.close()
    assert path.read_text() == ",".join(FIXED) + "\n"


def test_summary_csv_has_one_row_a_source(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    sink = SummaryCsvSink(path)
    for label, score in (("a.mp4", 0.25), ("b.mp4", None)):
        sink.start(context(label=label))
        sink.finish(summary(label=label, video_score={"short_term": score}, duration_s=7.0))
        assert path.read_text().count(label) == 1, "written as soon as the source ended"
    sink.close()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["file"], r["short_term"], r["frames_scored"]) for r in rows] == [
        ("a.mp4", "0.25", "9"),
        ("b.mp4", "", "9"),
    ]
    assert list(rows[0]) == ["file", "frames_seen", "frames_scored", "duration_s", "ended", "short_term"]


def test_summary_csv_with_two_bundles(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    sink = SummaryCsvSink(path)
    sink.start(context(("x", "y")))
    sink.finish(summary("x", video_score={"short_term": 0.1}))
    sink.finish(summary("y", video_score={"long_term": 0.2}, frames_scored=3))
    sink.close()
    with path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["x:short_term"], row["y:long_term"], row["x:frames_scored"], row["y:frames_scored"]) == (
        "0.1",
        "0.2",
        "9",
        "3",
    )


@pytest.mark.parametrize("sink_type", [JsonlSink, CsvSink])
def test_a_full_disk_is_told(sink_type: type[JsonlSink] | type[CsvSink]) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    sink = sink_type("/dev/full")
    sink.start(context())
    with pytest.raises(SinkError, match=r"No space left on device.*fix: free some space"):
        feed(sink, 1)
    sink.close()
    sink.close()


_LIMITED = """
import resource, sys
from helpers_sinks import context, feed, summary
from memedge.errors import SinkError
from memedge.sinks import sink_class
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
sink = sink_class({name!r})({path!r})
sink.start(context())
try:
    feed(sink, 400)
    sink.finish(summary())
except SinkError as error:
    print("told:", error)
sink.close()
sink.close()
"""


def limited(name: str, path: Path, limit: int) -> str:
    code = _LIMITED.format(limit=limit, name=name, path=str(path))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("name", ["jsonl", "csv"])
def test_what_was_written_before_the_disk_was_full_stays_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / "out"
    assert "told: cannot write" in limited(name, path, 10_000)
    text = path.read_text()
    assert 8_000 < len(text) <= 10_000
    assert text.endswith("\n")
    if name == "jsonl":
        assert [json.loads(line)["frame_index"] for line in text.splitlines()] == list(range(text.count("\n")))
    else:
        assert {len(row) for row in csv.reader(text.splitlines())} == {len(FIXED) + 3}


def test_a_video_on_a_full_disk_stays_readable(tmp_path: Path) -> None:
    import av

    path = tmp_path / "out.mp4"
    assert "told: cannot write" in limited("video", path, 400_000)
    with av.open(str(path)) as container:
        times = []
        try:
            for frame in container.decode(video=0):
                times.append(float(frame.time))
        except av.error.InvalidDataError:
            pass  # the last fragment is not whole
    assert len(times) > 25
    assert times[:26] == pytest.approx([i / 25 for i in range(26)], abs=1e-4)


def test_a_closed_pipe_is_told(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    sink = JsonlSink(fifo)
    sink.start(context())
    feed(sink, 2)
    assert len(os.read(reader, 100_000).splitlines()) == 2
    os.close(reader)
    with pytest.raises(SinkError, match="closed the pipe"):
        feed(sink, 1)
    sink.close()


def test_a_reader_of_stdout_that_leaves(tmp_path: Path) -> None:
    code = """
import sys
from helpers_sinks import context, feed
from memedge.sinks.jsonl import JsonlSink
sink = JsonlSink("-")
sink.start(context())
try:
    feed(sink, 100000)
except Exception as error:
    print(type(error).__name__, file=sys.stderr)
sink.close()
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    assert child.stdout is not None
    assert child.stderr is not None
    assert json.loads(child.stdout.readline())["frame_index"] == 0
    child.stdout.close()
    assert child.stderr.read() == b"SinkError\n"
    child.stderr.close()
    assert child.wait(60) == 0


@pytest.mark.parametrize("name", ["jsonl", "csv", "summary-csv", "video", "moments"])
def test_outputs_that_cannot_be_opened(tmp_path: Path, name: str) -> None:
    from memedge.sinks import sink_class

    (tmp_path / "file").write_text("x")
    places = [tmp_path / "file" / "below"]
    if name != "moments":
        places += [tmp_path / "missing" / "out", tmp_path]
    if os.geteuid() != 0:
        (tmp_path / "locked").mkdir(mode=0o555)
        places.append(tmp_path / "locked" / "out")
    for place in places:
        sink = sink_class(name)(place)  # type: ignore[call-arg]
        with pytest.raises(SinkError, match="cannot write"):
            sink.start(context())
        sink.close()


def test_a_reading_is_encoded_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    sink = JsonlSink(path)
    sink.start(context())
    one = Reading(
        time_s=1 / 3, source="kamera äöü \u2028", bundle="b", frame_index=1, wall_time="2026-01-02T03:04:05+00:00"
    )
    sink.write(one, None, {})
    sink.close()
    (found,) = lines(path) if "\u2028" not in path.read_text() else [json.loads(path.read_bytes().split(b"\n")[0])]
    assert found["time_s"] == 1 / 3
    assert found["source"] == "kamera äöü \u2028"
    assert found["score"] is None
