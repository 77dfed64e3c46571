"""SIGINT, SIGTERM and SIGKILL on a real process: exit codes, and outputs that are whole."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from PIL import Image

from helpers_cli import jsonl, start


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_closes_every_output(tiny: Path, tmp_path: Path, number: int, code: int) -> None:
    r, c, s, v, m = (tmp_path / n for n in ("r.jsonl", "r.csv", "s.csv", "out.mp4", "moments"))
    with start(
        "run", "--source", "test://?size=320x180&fps=25", "--bundle", tiny, "--no-tune", "--jsonl", r, "--csv", c,
        "--summary-csv", s, "--video", v, "--moments", m,
    ) as process:  # fmt: skip
        wait_for(lambda: lines(r) >= 20, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    readings, (summary,) = jsonl(r)
    assert summary["ended"] == "signal"
    assert summary["frames_seen"] == len(readings) >= 20
    rows = list(csv.DictReader(c.read_text().splitlines()))
    assert [int(row["frame_index"]) for row in rows] == [reading["frame_index"] for reading in readings]
    (row,) = csv.DictReader(s.read_text().splitlines())
    assert row["ended"] == "signal"
    with av.open(str(v)) as container:
        assert sum(1 for _ in container.decode(video=0)) == len(readings)
    moments = json.loads((m / "moments.json").read_text())["moments"]
    assert moments
    for moment in moments:
        with Image.open(m / moment["file"]) as image:
            image.verify()
    assert out.startswith("test://")
    assert f"({len(readings)} of {len(readings)} frames scored), ended by a signal at" in out


def test_a_hangup_that_nohup_ignores_ends_nothing(tiny: Path, tmp_path: Path) -> None:
    r = tmp_path / "r.jsonl"
    with start(
        "run", "--source", "test://?size=320x180&fps=25", "--bundle", tiny, "-q", "--no-tune", "--jsonl", r,
        before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    ) as process:  # fmt: skip
        wait_for(lambda: lines(r) >= 5, process)
        process.send_signal(signal.SIGHUP)
        before = lines(r)
        wait_for(lambda: lines(r) >= before + 10, process)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 143


def test_a_kill_leaves_all_but_the_last_second(tiny: Path, tmp_path: Path) -> None:
    r, v = tmp_path / "r.jsonl", tmp_path / "out.mp4"
    with start(
        "run", "--source", "test://?size=320x180&fps=25", "--bundle", tiny, "-q", "--no-tune", "--jsonl", r,
        "--video", v,
    ) as process:  # fmt: skip
        wait_for(lambda: lines(r) >= 60, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    whole = r.read_bytes().rpartition(b"\n")[0].splitlines()
    times = [json.loads(line)["time_s"] for line in whole]
    assert len(times) >= 60
    with av.open(str(v)) as container:
        stream = container.streams.video[0]
        shown = [float(frame.pts * stream.time_base) for frame in container.decode(stream)]
    assert shown
    assert times[-1] - times[0] - shown[-1] <= 1.0


def test_a_signal_ends_a_connection_that_does_not_answer(tiny: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(4)
        held = []
        connected = threading.Event()

        def take() -> None:
            held.append(server.accept()[0])
            connected.set()

        threading.Thread(target=take, daemon=True).start()
        address = f"rtsp://127.0.0.1:{server.getsockname()[1]}/x"
        words = ["run", "--source", address, "--bundle", tiny, "-q", "--wait", "--connect-timeout", "300"]
        with start(*words) as process:
            assert connected.wait(60)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        for connection in held:
            connection.close()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "error" not in err


def test_a_signal_ends_a_reader_of_an_idle_pipe(tiny: Path) -> None:
    read, write = os.pipe()
    with start("run", "--source", "-", "--bundle", tiny, "-q", stdin=read) as process:
        assert process.stderr is not None
        first = process.stderr.readline()  # the bundle is open; what follows is the wait for the pipe
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    os.close(read)
    os.close(write)
    assert "tiny-frame" in first
    assert process.returncode == 143, err
    assert "Traceback" not in err


def test_a_second_signal_leaves_at_once(tiny: Path, tmp_path: Path) -> None:
    # The reader of this pipe never takes anything, so that the first signal cannot end the write at hand.
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with start(
        "run", "--source", "test://?size=64x48&fps=1000&live=0", "--bundle", tiny, "-q", "--jsonl", fifo
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()
        time.sleep(1.0)  # long enough for 64 KiB of lines to fill the pipe; if not, one signal is enough
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    os.close(reader)
    assert process.returncode == 130


def test_a_folder_ends_at_the_signal(tiny: Path, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    for i in range(300):
        (folder / f"{i:03}.mp4").symlink_to(clip)
    r = tmp_path / "r.jsonl"
    with start("run", "--source", folder, "--bundle", tiny, "-q", "--no-tune", "--jsonl", r) as process:
        wait_for(lambda: lines(r) >= 30, process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    _, summaries = jsonl(r)
    assert 1 <= len(summaries) < 300
    assert {s["ended"] for s in summaries[:-1]} <= {"end"}
