"""What every source keeps to, whatever it reads."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import helpers_gstreamer
from helpers_fake_container import FakeContainer
from helpers_gstreamer import Capture
from helpers_video import numbered, write_video
from memedge.errors import FrameError, SourceError, SourceLost
from memedge.sources import Source, SourceOptions, open_source
from memedge.sources.camera import CameraSource
from memedge.sources.gstreamer import GstSource
from memedge.sources.gstreamer_opencv import OpencvDecoder
from memedge.sources.gstreamer_text import csi
from memedge.sources.stdin import StdinSource
from memedge.sources.synthetic import Shot, SyntheticSource
from memedge_engines.frame import Frame

pytestmark = helpers_gstreamer.quiet
KINDS = (
    "file", "picture", "test", "test live", "stdin", "camera", "network", "synthetic",
    "gstreamer file", "pipeline", "pipeline live", "camera through cv2",
)  # fmt: skip


@dataclass
class Maker:
    """Makes fresh, unopened sources of one kind; each delivers ``count`` frames and then ends or is lost."""

    make: Callable[[], Source]
    count: int
    kind: str
    cleanup: list[Callable[[], Any]] = field(default_factory=list)


def _stdin(path: Path, maker: list[Callable[[], Any]]) -> Source:
    process = subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    maker.append(lambda: (process.stdout and process.stdout.close(), process.kill(), process.wait()))
    return StdinSource(stream=process.stdout)  # type: ignore[arg-type]


@pytest.fixture
def maker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Maker]:
    name = request.param
    cleanup: list[Callable[[], Any]] = []
    video = tmp_path / "v.mkv"
    if name.startswith(("gstreamer", "pipeline")):
        helpers_gstreamer.need()
    if name in ("file", "stdin", "network", "gstreamer file"):
        write_video(video, numbered(12))
    if name == "file":
        made = Maker(lambda: open_source(str(video)), 12, "file")
    elif name == "picture":
        Image.fromarray(numbered(1)[0]).save(tmp_path / "p.png")
        made = Maker(lambda: open_source(str(tmp_path / "p.png")), 1, "picture")
    elif name == "test":
        made = Maker(lambda: open_source("test://?size=96x64&seconds=0.4"), 12, "test")
    elif name == "test live":
        made = Maker(lambda: open_source("test://?size=96x64&seconds=0.2&live=1"), 6, "test")
    elif name == "stdin":
        made = Maker(lambda: _stdin(video, cleanup), 12, "stdin")
    elif name == "camera":
        made = Maker(lambda: CameraSource("camera0", opener=lambda *_: FakeContainer(4)), 4, "camera")
    elif name == "network":
        handler = partial(_Quiet, directory=str(tmp_path))
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        cleanup += [server.shutdown, thread.join, server.server_close]
        made = Maker(lambda: open_source(f"http://127.0.0.1:{server.server_port}/v.mkv"), 12, "network")
    elif name == "gstreamer file":
        made = Maker(lambda: open_source(str(video), SourceOptions(decoder="gstreamer")), 12, "file")
    elif name.startswith("pipeline"):
        live = "is-live=true " if "live" in name else ""
        uri = f"gst://videotestsrc {live}num-buffers=8 ! video/x-raw,width=96,height=64,framerate=25/1"
        made = Maker(lambda: open_source(uri), 8, "pipeline")
    elif name == "camera through cv2":
        made = Maker(
            lambda: _Shots("csi://0", "camera", SourceOptions(), lambda *_: csi("csi://0", SourceOptions())),
            4,
            "camera",
        )
    else:
        pictures = numbered(12)
        made = Maker(lambda: SyntheticSource([(n / 25, p) for n, p in enumerate(pictures)]), 12, "synthetic")
    yield made
    for step in cleanup:
        step()


class _Shots(GstSource):
    """A CSI camera through a stand-in for cv2 that hands out four pictures."""

    def _connect(self) -> OpencvDecoder:
        rows = [np.full((96, 64), n, np.uint8) for n in range(4)]
        return OpencvDecoder(self.pipeline, "csi://0", pixel_limit=10**6, capture=lambda text: Capture(rows))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def copyfile(self, source: Any, outputfile: Any) -> None:
        try:
            super().copyfile(source, outputfile)
        except OSError:  # the reader closed
            return


every_source = pytest.mark.parametrize("maker", KINDS, indirect=True)


def take_all(frames: Iterator[Frame]) -> list[Frame]:
    """All frames of a source that ends, or is lost at its end as a camera is."""
    taken: list[Frame] = []
    try:
        for frame in frames:
            taken.append(frame)
    except SourceLost:
        pass
    return taken


@every_source
def test_it_tells_what_it_is_and_delivers_it_in_order(maker: Maker) -> None:
    source = maker.make()
    info = source.open()
    assert source.open() == info, "opening twice is opening once"
    assert info.kind == maker.kind
    assert info.label
    assert "@" not in info.label
    before = time.monotonic_ns()
    frames = take_all(source.frames())
    after = time.monotonic_ns()
    source.close()
    # A live source may have thrown frames away that nobody took in time; it counts them.
    assert len(frames) + source.dropped == maker.count
    assert (info.width, info.height) == frames[0].display_size
    pts = np.array([f.pts_s for f in frames])
    assert frames[0].pts_s >= 0
    assert np.all(np.diff(pts) > 0)
    index = [f.index for f in frames]
    assert index == sorted(set(index))
    if not info.live:
        assert index == list(range(maker.count))
        assert pts[0] == 0
        ends = pts + [f.duration_s for f in frames]
        assert ends[:-1] == pytest.approx(pts[1:])
        assert source.dropped == 0
    arrivals = [f.arrival_ns for f in frames]
    assert arrivals == sorted(arrivals)
    assert arrivals[-1] <= after
    if not info.live:
        assert arrivals[0] >= before


@every_source
def test_frames_keep_their_pixels_until_released(maker: Maker) -> None:
    source = maker.make()
    held = []
    try:
        for frame in source.frames():
            held.append((frame, [plane.copy() for plane in frame.host_planes()]))
    except SourceLost:
        pass
    source.close()
    for frame, copies in held:
        for plane, copy in zip(frame.host_planes(), copies, strict=True):
            assert plane.dtype == np.uint8
            assert np.array_equal(plane, copy)
        frame.release()
        with pytest.raises(FrameError):
            frame.host_planes()
        with pytest.raises(FrameError):
            frame.release()


@every_source
def test_frames_opens_by_itself_and_is_taken_once(maker: Maker) -> None:
    source = maker.make()
    frames = source.frames()
    next(frames).release()
    with pytest.raises(SourceError, match="taken before"):
        source.frames()
    source.close()


@every_source
def test_close_is_safe_at_any_time(maker: Maker) -> None:
    never = maker.make()
    never.close()
    never.close()
    with pytest.raises(SourceError):
        never.open()
    opened = maker.make()
    opened.open()
    opened.close()
    assert list(opened.frames()) == []
    opened.close()


@every_source
def test_close_in_mid_stream_ends_it(maker: Maker) -> None:
    source = maker.make()
    frames = source.frames()
    first = next(frames)
    closer = threading.Thread(target=source.close)
    closer.start()
    closer.join(10)
    assert not closer.is_alive()
    assert list(frames) == []
    first.host_planes()
    first.release()


@every_source
def test_leaving_the_iterator_leaves_nothing_behind(maker: Maker) -> None:
    source = maker.make()
    with source:
        frames = source.frames()
        next(frames).release()
        frames.close()  # type: ignore[attr-defined]
    source.close()


def test_released_frames_are_counted_to_zero() -> None:
    pictures = numbered(5)
    source = SyntheticSource([Shot(n / 10, p) for n, p in enumerate(pictures)])
    frames = list(source.frames())
    assert (source.handed_out, source.outstanding) == (5, 5)
    for frame in frames:
        frame.retain()
        frame.release()
    assert source.outstanding == 5
    for frame in frames:
        frame.release()
    assert source.outstanding == 0


def test_options_of_a_part_hold_for_every_file_like_source(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", numbered(25))
    part = SourceOptions(from_s=0.2, to_s=0.4)
    with path.open("rb") as pipe:
        piped = StdinSource(part, stream=pipe)  # type: ignore[arg-type]
        assert [f.index for f in piped.frames()] == [5, 6, 7, 8, 9]
    assert [f.index for f in open_source("test://?seconds=1&fps=25&size=32x32", part).frames()] == [5, 6, 7, 8, 9]
    assert [f.index for f in open_source(str(path), part).frames()] == [5, 6, 7, 8, 9]
