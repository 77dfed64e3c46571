"""Sources that are wrong: one clear line on stderr, the exit code, no traceback, nothing lost that was written."""

from __future__ import annotations

import functools
import os
import socket
import struct
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from helpers_bundle import picture
from helpers_cli import Done, command, inside, jsonl
from helpers_video import write_audio, write_video

Capture = pytest.CaptureFixture[str]


def run(capfd: Capture, tiny: Path, source: str | Path, *words: str | Path) -> Done:
    return inside(capfd, "run", "--bundle", tiny, "--source", source, "--quiet", "--no-tune", *words)


def media(folder: Path, kind: str) -> Path:
    """A file that is wrong in one way."""
    path = folder / f"{kind}.mp4"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("Dear diary, this is not a film.\n" * 40)
    elif kind == "audio":
        write_audio(path)
    elif kind == "cut":  # the index lies at the end, and the end is missing
        whole = write_video(folder / "whole.mp4", [picture(i) for i in range(20)], rate=10).read_bytes()
        path.write_bytes(whole[: len(whole) * 2 // 3])
    elif kind == "no_frames":  # a video stream is declared, and nothing is in it
        path = folder / "no_frames.avi"
        with av.open(str(path), "w") as output:
            stream: Any = output.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            output.start_encoding()
    elif kind == "noise":
        path.write_bytes(bytes(range(256)) * 64)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "is empty"),
        ("text", "text, not a video"),
        ("audio", "no video in it, only audio"),
        ("cut", "cut off"),
        ("no_frames", "without a frame that can be decoded"),
        ("noise", "not a video that FFmpeg can read"),
    ],
)
def test_files_that_are_no_video(tiny: Path, tmp_path: Path, capfd: Capture, kind: str, message: str) -> None:
    earlier = tmp_path / "readings.jsonl"
    earlier.write_text('{"kept": true}\n')
    done = run(capfd, tiny, media(tmp_path, kind), "--jsonl", earlier)
    assert done.code == 1
    assert message in done.error
    assert kind in done.error  # the name of the file
    assert done.out == ""
    # An output is not opened, let alone emptied, before there is something to write.
    assert earlier.read_text() == '{"kept": true}\n'


def test_a_missing_file_as_a_process(tiny: Path, tmp_path: Path) -> None:
    done = command("run", "--source", tmp_path / "absent.mp4", "--bundle", tiny)
    assert (done.code, done.out) == (1, "")
    assert "absent.mp4: no such file" in done.error
    assert done.err.count("\n") == 1


def test_a_misspelt_file_is_guessed(tiny: Path, clip: Path, capfd: Capture) -> None:
    assert f"did you mean {clip}?" in run(capfd, tiny, clip.with_name("clop.mp4")).error


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that not even root can read")
@pytest.mark.parametrize("name", ["film.mp4", "photo.jpg"])
def test_an_unreadable_file(tiny: Path, tmp_path: Path, capfd: Capture, name: str) -> None:
    # Page zero of a process is not mapped: reading it is an error for every user.
    (tmp_path / name).symlink_to("/proc/self/mem")
    done = run(capfd, tiny, tmp_path / name)
    assert done.code == 1
    assert name in done.error
    assert "read" in done.error


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission(tiny: Path, clip: Path, tmp_path: Path, capfd: Capture) -> None:
    path = tmp_path / "secret.mp4"
    path.write_bytes(clip.read_bytes())
    path.chmod(0)
    assert "not readable by this user" in run(capfd, tiny, path).error


def test_a_permission_error_is_told_with_what_mends_it(
    tiny: Path, clip: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def guarded(self: Path, *args: Any, **keywords: Any) -> Any:
        if self == clip:
            raise PermissionError(13, "Permission denied")
        return real(self, *args, **keywords)

    monkeypatch.setattr(Path, "open", guarded)
    error = run(capfd, tiny, clip).error
    assert "not readable by this user" in error
    assert "chmod" in error


def test_a_truncated_film_gives_what_is_there_and_says_so(
    tiny: Path, clip: Path, tmp_path: Path, capfd: Capture
) -> None:
    data = clip.read_bytes()
    (tmp_path / "short.mp4").write_bytes(data[: len(data) * 2 // 3])
    done = run(capfd, tiny, tmp_path / "short.mp4", "--jsonl", tmp_path / "r.jsonl")
    readings, (summary,) = jsonl(tmp_path / "r.jsonl")
    assert done.code == 0
    assert 5 < len(readings) < 25
    assert "truncated" in readings[-1]["flags"]
    assert summary["frames_seen"] == len(readings)
    assert "ends early" in done.err


def test_a_picture_above_the_limit_is_refused_from_its_header(tiny: Path, tmp_path: Path, capfd: Capture) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    # Nothing but a header: decoding it could only fail in another way.
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0))
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    done = run(capfd, tiny, tmp_path / "huge.png")
    assert done.code == 1
    assert "20000x20000" in done.error
    assert "100000000" in done.error.replace(",", "").replace(" ", "")


def test_a_damaged_picture(tiny: Path, tmp_path: Path, capfd: Capture) -> None:
    Image.fromarray(picture(1, 200, 150)).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(data[: len(data) // 2])
    assert "half.png" in run(capfd, tiny, tmp_path / "half.png").error


def test_a_folder_and_a_glob_without_media(tiny: Path, tmp_path: Path, capfd: Capture) -> None:
    (tmp_path / "notes.txt").write_text("nothing to see")
    for source in (tmp_path, tmp_path / "*.txt"):
        done = run(capfd, tiny, source)
        assert done.code == 1
        assert "expected at least one" in done.error


def test_one_bad_file_in_a_folder_does_not_stop_the_others(
    tiny: Path, clip: Path, tmp_path: Path, capfd: Capture
) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    media(folder, "text").rename(folder / "a_bad.mp4")
    for name in ("b.mp4", "c.mp4"):
        (folder / name).write_bytes(clip.read_bytes())
    done = run(capfd, tiny, folder, "--summary-csv", tmp_path / "s.csv", "--jsonl", tmp_path / "r.jsonl")
    assert done.code == 1
    assert "a_bad.mp4: text" in done.error
    assert "1 of 3 sources failed" in done.err
    rows = (tmp_path / "s.csv").read_text().splitlines()
    assert [Path(row.split(",")[0]).name for row in rows[1:]] == ["b.mp4", "c.mp4"]
    readings, summaries = jsonl(tmp_path / "r.jsonl")
    assert (len(readings), len(summaries)) == (50, 2)
    assert len(done.out.splitlines()) == 2


def test_a_camera_that_is_not_there(tiny: Path, capfd: Capture) -> None:
    done = run(capfd, tiny, "camera63")
    assert done.code == 1
    assert "camera63: no camera at" in done.error
    assert "test://" in done.error  # what to do without one


class Unplugged:
    """A container whose device goes away after some packets."""

    def __init__(self, path: Path, packets: int) -> None:
        self._container = av.open(str(path))
        self._packets = packets

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def demux(self, *streams: Any) -> Iterator[Any]:
        for number, packet in enumerate(self._container.demux(*streams)):
            if number == self._packets:
                raise av.error.OSError(19, "No such device")
            time.sleep(0.02)
            yield packet


@pytest.mark.skipif(sys.platform != "linux", reason="the simulated device is a V4L2 camera")
def test_a_camera_that_vanishes_leaves_its_readings(
    tiny: Path, tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from memedge.sources import camera

    film = write_video(
        tmp_path / "camera.avi", [picture(i) for i in range(20)], codec="mjpeg", pix_fmt="yuvj420p", rate=10
    )
    simulated = functools.partial(camera.CameraSource, opener=lambda *_: Unplugged(film, 9), devices=lambda: [])
    monkeypatch.setattr(camera, "CameraSource", simulated)
    done = run(capfd, tiny, "/dev/video0", "--jsonl", tmp_path / "r.jsonl", "--csv", tmp_path / "r.csv")
    assert done.code == 1
    assert "/dev/video0: connection lost: No such device" in done.error
    readings, (summary,) = jsonl(tmp_path / "r.jsonl")
    assert 1 <= len(readings) <= 9
    assert all(reading["wall_time"] for reading in readings)
    assert summary["ended"] == "lost"
    assert summary["frames_seen"] == len(readings)
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 1 + len(readings)


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and never says a word."""
    held = []
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(8)

        def take() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    for connection in held:
        connection.close()


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_stream_that_never_answers(tiny: Path, capfd: Capture, silent: int, scheme: str) -> None:
    address = f"{scheme}://user:hush@127.0.0.1:{silent}/stream"
    done = run(capfd, tiny, address, "--connect-timeout", "1")
    assert done.code == 1
    assert "within 1 s" in done.error or "no answer in time" in done.error
    assert "hush" not in done.err


def test_nobody_listens(tiny: Path, capfd: Capture) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    done = run(capfd, tiny, f"rtsp://127.0.0.1:{port}/stream", "--connect-timeout", "5")
    assert done.code == 1
    assert "refused" in done.error.lower()


def test_nothing_on_standard_input(tiny: Path) -> None:
    done = command("run", "--source", "-", "--bundle", tiny, "--quiet", input="")
    assert done.code == 1
    assert "standard input: empty" in done.error


def test_the_part_asked_for_lies_behind_the_end(tiny: Path, clip: Path, capfd: Capture) -> None:
    assert "behind the end" in run(capfd, tiny, clip, "--from", "60").error
