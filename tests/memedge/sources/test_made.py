"""Sources that need no file: the pattern, standard input, the synthetic twin."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest

from helpers_video import numbered, times, write_video
from memedge.errors import SourceError, SourceLost, UsageError
from memedge.pictures import picture
from memedge.sources import SourceOptions, open_source
from memedge.sources.pattern import PatternSource, to_yuv420
from memedge.sources.stdin import StdinSource
from memedge.sources.synthetic import Loss, Shot, SyntheticSource
from memedge_engines.frame import ColorMatrix, PixelFormat


def bytes_of(uri: str) -> list[bytes]:
    return [b"".join(p.tobytes() for p in f.host_planes()) for f in open_source(uri).frames()]


def test_the_pattern_is_the_same_every_time_and_moves() -> None:
    uri = "test://?size=160x96&seconds=12&fps=2&seed=4"
    first = bytes_of(uri)
    assert first == bytes_of(uri)
    assert len(first) == 24
    assert len(set(first)) == 24
    assert first[0] != bytes_of("test://?size=160x96&seconds=1&fps=2&seed=5")[0]


def test_pattern_parameters() -> None:
    info = open_source("test://?size=98x66&fps=29.97&seconds=2&format=nv12").open()
    assert (info.width, info.height, info.fps, info.duration_s, info.frames) == (98, 66, 29.97, 2.0, 60)
    frame = next(open_source("test://?size=97x65&format=nv12&seconds=1").frames())
    assert frame.format is PixelFormat.NV12
    assert [p.shape for p in frame.host_planes()] == [(65, 97), (33, 98)]
    assert next(open_source("test://?size=64x720&seconds=1").frames()).matrix is ColorMatrix.BT709
    assert not open_source("test://?seconds=1").open().live
    assert open_source("test://?size=32x32").open().live
    assert open_source("test://?seconds=1&size=32x32", SourceOptions(realtime=True)).open().live


@pytest.mark.parametrize(
    "query",
    [
        "?size=10",
        "?size=8x8",
        "?fps=0",
        "?fps=-3",
        "?seconds=0",
        "?live=2",
        "?colour=1",
        "?fps=1/0",
        "?format=rgb",
        "there",
    ],
)
def test_bad_pattern_parameters(query: str) -> None:
    with pytest.raises(UsageError, match="test://"):
        open_source(f"test://{query}")


def test_nv12_and_i420_hold_the_same_picture() -> None:
    planar = next(open_source("test://?size=64x48&seconds=1").frames()).host_planes()
    packed = next(open_source("test://?size=64x48&seconds=1&format=nv12").frames()).host_planes()
    assert np.array_equal(planar[0], packed[0])
    assert np.array_equal(planar[1], packed[1][:, ::2])
    assert np.array_equal(planar[2], packed[1][:, 1::2])


@pytest.mark.parametrize(
    ("matrix", "kr", "kb"), [(ColorMatrix.BT601, 0.299, 0.114), (ColorMatrix.BT709, 0.2126, 0.0722)]
)
def test_the_patterns_colours_against_the_standards_formula(matrix: ColorMatrix, kr: float, kb: float) -> None:
    rgb = picture(2, 0, (32, 32))
    y, u, v = to_yuv420(rgb, matrix)
    r, g, b = np.moveaxis(rgb / 255.0, 2, 0)
    luma = kr * r + (1 - kr - kb) * g + kb * b
    assert np.abs(y - (16 + 219 * luma)).max() <= 0.51
    mean = [c.reshape(16, 2, 16, 2).mean(axis=(1, 3)) for c in (luma, r, b)]
    assert np.abs(u - (128 + 224 * (mean[2] - mean[0]) / (2 * (1 - kb)))).max() <= 1.0
    assert np.abs(v - (128 + 224 * (mean[1] - mean[0]) / (2 * (1 - kr)))).max() <= 1.0


def test_a_live_pattern_skips_what_nobody_took() -> None:
    source = PatternSource("test://?size=32x32&fps=50&live=1&seconds=2")
    frames = source.frames()
    first = next(frames)
    time.sleep(0.3)
    second = next(frames)
    assert second.index - first.index >= 14
    assert source.dropped == second.index - 1
    assert second.pts_s == pytest.approx(second.index / 50)
    source.close()


def test_close_ends_a_waiting_pattern() -> None:
    source = PatternSource("test://?size=32x32&fps=0.05")
    frames = source.frames()
    next(frames)
    threading.Timer(0.1, source.close).start()
    begin = time.monotonic()
    assert list(frames) == []
    assert time.monotonic() - begin < 15


# --- standard input ---


@pytest.mark.parametrize(("name", "options"), [("a.mkv", None), ("a.mp4", {"movflags": "+frag_keyframe+empty_moov"}),
                                               ("a.ts", None)])  # fmt: skip
def test_a_pipe_gives_every_frame(tmp_path: Path, name: str, options: dict[str, str] | None) -> None:
    path = write_video(tmp_path / name, numbered(30), container_options=options)
    code = (
        "from memedge.sources import open_source\n"
        "s = open_source('-'); i = s.open()\n"
        "print(i.kind, i.label, i.width, *[f.pts_s for f in s.frames()])"
    )
    with path.open("rb") as file:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([sys.executable, "-c", code], stdin=file, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    kind, label, width, *stamps = done.stdout.split()
    assert (kind, label, width) == ("stdin", "-", "96")
    assert [float(s) for s in stamps] == pytest.approx(times(path))


@pytest.mark.parametrize(("data", "message"), [(b"", "empty"), (b"hello " * 99, "not a video.*matroska or mpegts")])
def test_pipes_without_a_video(data: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=f"standard input: {message}"):
        StdinSource(stream=io.BytesIO(data)).open()


def test_an_mp4_with_its_index_at_the_end_cannot_be_piped(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noisy = [rng.integers(0, 255, (96, 128, 3), dtype=np.uint8) for _ in range(60)]
    data = write_video(tmp_path / "a.mp4", noisy).read_bytes()
    assert len(data) > 200_000, "more than FFmpeg's read buffer"
    with pytest.raises(SourceError, match=r"standard input: .*faststart"):
        StdinSource(stream=io.BytesIO(data)).open()


def test_close_ends_a_reader_of_an_idle_pipe() -> None:
    read, write = os.pipe()
    with open(read, "rb") as pipe:
        source = StdinSource(stream=pipe)  # type: ignore[arg-type]
        threading.Timer(0.1, source.close).start()
        with pytest.raises(SourceError):
            source.open()
    os.close(write)


def test_a_terminal_is_no_video() -> None:
    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    with pytest.raises(SourceError, match="a terminal"):
        StdinSource(stream=Terminal()).open()


# --- the synthetic twin ---


def test_a_script_of_losses_and_pauses() -> None:
    red = np.full((4, 6, 3), (255, 0, 0), np.uint8)
    script = [
        Shot(0.0, red, flags=("corrupt",)),
        Loss(pause_s=0.01, final=False),
        Shot(1.0, red),
        Loss(message="unplugged"),
    ]
    source = SyntheticSource(script, live=True)
    told: list[str] = []
    source.on_status = told.append
    info = source.open()
    assert (info.kind, info.live, info.width, info.height) == ("synthetic", True, 6, 4)
    frames = source.frames()
    assert next(frames).flags == ("corrupt",)
    assert next(frames).flags == ("reconnected",)
    with pytest.raises(SourceLost, match="unplugged"):
        next(frames)
    assert told == ["synthetic: synthetic source lost"]


def test_a_script_may_go_on_for_ever_and_fail_to_open() -> None:
    def forever():  # type: ignore[no-untyped-def]
        n = 0
        while True:
            yield n / 25, np.zeros((2, 2, 3), np.uint8)
            n += 1

    source = SyntheticSource(forever())
    frames = source.frames()
    assert [next(frames).duration_s for _ in range(3)] == pytest.approx([0.04] * 3)
    source.close()
    assert list(frames) == []
    with pytest.raises(SourceError, match="no such thing"):
        SyntheticSource([], open_error=SourceError("no such thing")).open()
    assert list(SyntheticSource([]).frames()) == []


def test_a_pattern_can_be_encoded_and_read_back(tmp_path: Path) -> None:
    """The pattern's planes are what an encoder takes: H.264 without loss gives them back bit for bit."""
    frames = list(open_source("test://?size=96x64&fps=25&seconds=0.4").frames())
    path = tmp_path / "p.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"qp": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for frame in frames:
            picture420 = av.VideoFrame(96, 64, "yuv420p")
            for target, plane in zip(picture420.planes, frame.host_planes(), strict=True):
                padded = np.zeros((plane.shape[0], target.line_size), np.uint8)
                padded[:, : plane.shape[1]] = plane
                target.update(padded.tobytes())
            output.mux(stream.encode(picture420))
        output.mux(stream.encode())
    for back, frame in zip(open_source(str(path)).frames(), frames, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(back.host_planes(), frame.host_planes(), strict=True))
