"""GStreamer with real elements: the pictures and times of PyAV, real streams, errors in an element's own words."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from helpers_gstreamer import has, need, quiet
from helpers_rtsp import RtspServer, free_port, interpreter
from helpers_video import numbered, write_video
from memedge.errors import SourceError, SourceLost
from memedge.sources import SourceOptions, gstreamer_library, open_source
from memedge.sources.gstreamer_decoder import GstDecoder
from memedge.sources.gstreamer_text import user
from memedge_engines.frame import ChromaSiting, ColorMatrix, ColorRange, Frame, PixelFormat

pytestmark = quiet
GST = SourceOptions(decoder="gstreamer")
CLIPS = (
    "tripod_640x360.mp4",
    "vertical_rotated.mp4",
    "vfr_1280x720.mp4",
    "vp9_1280x720.webm",
    "odd_853x480_mpeg4.mp4",
    "gray_640x360.mp4",
    "gray400_640x360.mp4",
)


@pytest.fixture(autouse=True)
def _gstreamer() -> None:
    need()


def take(uri: str, count: int, options: SourceOptions = GST) -> list[Frame]:
    with open_source(uri, options) as source:
        frames: list[Frame] = []
        for frame in source.frames():
            frames.append(frame)
            if len(frames) == count:
                break
        return frames


def assert_same(mine: Frame, reference: Frame, tolerance: int = 0) -> None:
    for name in ("format", "width", "height", "rotation", "matrix", "color_range", "siting", "index", "flags"):
        assert getattr(mine, name) == getattr(reference, name), name
    assert mine.pts_s == pytest.approx(reference.pts_s, abs=1e-8)
    assert mine.duration_s == pytest.approx(reference.duration_s, abs=1e-8)
    for ours, theirs in zip(mine.host_planes(), reference.host_planes(), strict=True):
        assert np.abs(ours.astype(int) - theirs).max() <= tolerance


@pytest.mark.parametrize("name", CLIPS)
def test_a_file_is_what_pyav_makes_of_it(clips: Path, name: str) -> None:
    """Same decoders underneath (FFmpeg's, libvpx), so that every byte of the planes is the same."""
    path = str(clips / name)
    mine, reference = take(path, 6), take(path, 6, SourceOptions())
    assert len(mine) == 6
    for one, other in zip(mine, reference, strict=True):
        assert_same(one, other)


def test_jpeg_is_full_range_and_centred(clips: Path) -> None:
    """libjpeg and FFmpeg round their inverse transforms differently: two levels at most."""
    path = str(clips / "mjpeg_640x480.avi")
    mine, reference = take(path, 3), take(path, 3, SourceOptions())
    for one, other in zip(mine, reference, strict=True):
        assert_same(one, other, tolerance=2)
    assert (mine[0].color_range, mine[0].siting) == (ColorRange.FULL, ChromaSiting.CENTER)


def test_a_file_to_its_end_and_a_part_of_it(tmp_path: Path) -> None:
    path = str(write_video(tmp_path / 'a b\'s "v".mp4', numbered(30)))
    source = open_source(path, GST)
    info = source.open()
    assert (info.kind, info.live, info.width, info.fps, info.duration_s) == ("file", False, 96, 25.0, 1.2)
    assert [f.index for f in source.frames()] == list(range(30))
    part = take(path, 99, SourceOptions(decoder="gstreamer", from_s=0.4, to_s=0.6))
    reference = take(path, 99, SourceOptions(from_s=0.4, to_s=0.6))
    assert [f.index for f in part] == [10, 11, 12, 13, 14]
    for one, other in zip(part, reference, strict=True):
        assert_same(one, other)


def test_rows_are_padded_and_colours_declared() -> None:
    """Pure red by videotestsrc at BT.709, in every format, at an odd size whose rows GStreamer pads to four bytes."""
    expected = {"y": 63, "u": 102, "v": 240}  # BT.709, limited range, of (255, 0, 0)
    for name, pixel_format in (
        ("NV12", PixelFormat.NV12), ("I420", PixelFormat.I420), ("Y42B", PixelFormat.YUV422P),
        ("Y444", PixelFormat.YUV444P), ("YUY2", PixelFormat.YUYV422), ("RGB", PixelFormat.RGB24),
        ("BGR", PixelFormat.BGR24), ("GRAY8", PixelFormat.GRAY8),
    ):  # fmt: skip
        colours = "" if name in ("RGB", "BGR", "GRAY8") else ",colorimetry=bt709,chroma-site=cosited"
        uri = (
            "gst://videotestsrc num-buffers=2 pattern=solid-color foreground-color=0xffff0000 ! "
            f"video/x-raw,format={name},width=101,height=57{colours}"
        )
        frame = take(uri, 1)[0]
        assert (frame.format, frame.width, frame.height) == (pixel_format, 101, 57)
        assert frame.planes[0].pitch % 4 == 0
        planes = frame.host_planes()
        if colours:
            assert frame.matrix is ColorMatrix.BT709
            assert (frame.color_range, frame.siting) == (ColorRange.LIMITED, ChromaSiting.TOPLEFT)
            luma = planes[0][:, ::2][:, :101] if name == "YUY2" else planes[0]
            assert np.abs(luma.astype(int) - expected["y"]).max() <= 1
            chroma = {
                "NV12": lambda p: (p[1][:, ::2], p[1][:, 1::2]), "YUY2": lambda p: (p[0][:, 1::4], p[0][:, 3::4]),
            }.get(name, lambda p: (p[1], p[2]))(planes)  # fmt: skip
            assert np.abs(chroma[0].astype(int) - expected["u"]).max() <= 1
            assert np.abs(chroma[1].astype(int) - expected["v"]).max() <= 1
        elif name != "GRAY8":
            red = 0 if name == "RGB" else 2
            pixels = planes[0].reshape(57, 101, 3)
            assert (pixels[..., red] >= 254).all()
            assert (np.delete(pixels, red, axis=2) <= 1).all()


def test_nothing_of_a_finite_pipeline_is_lost() -> None:
    source = open_source("gst://videotestsrc num-buffers=50 ! video/x-raw,width=64,height=48,framerate=25/1")
    info = source.open()
    assert (info.kind, info.live, info.duration_s) == ("pipeline", False, 2.0)
    frames = []
    for frame in source.frames():
        time.sleep(0.002)
        frames.append(frame)
    assert [f.index for f in frames] == list(range(50))
    assert [f.pts_s for f in frames] == pytest.approx([n / 25 for n in range(50)])
    assert source.dropped == 0


def test_a_live_pipeline_ends_when_it_ends() -> None:
    uri = "gst://videotestsrc is-live=true num-buffers=6 ! video/x-raw,width=64,height=48,framerate=50/1"
    source = open_source(uri)
    assert source.open().live
    frames = list(source.frames())
    assert 2 <= len(frames) <= 6
    assert np.all(np.diff([f.pts_s for f in frames]) > 0)


def test_a_live_pipeline_is_opened_again_with_wait() -> None:
    uri = "gst://videotestsrc is-live=true num-buffers=3 ! video/x-raw,width=64,height=48,framerate=100/1"
    source = open_source(uri, SourceOptions(wait=True))
    told: list[str] = []
    source.on_status = told.append
    for frame in source.frames():
        if "reconnected" in frame.flags:
            break
    source.close()
    assert any("trying again" in line for line in told)


@pytest.mark.parametrize(
    ("uri", "message", "fix"),
    [
        ("gst://nosuch ! fakesink", 'no element "nosuch"', "apt-get install"),
        ("gst://videotestsrc colour=3", 'no property "colour"', "gst-launch-1.0"),
        ("gst://videotestsrc ! fakesink", "could not link", "end the pipeline in"),
        (
            "gst://videotestsrc ! video/x-raw,format=ARGB ! appsink",
            "delivers video/x-raw ARGB",
            "videoconvert ! video/",
        ),
        ("gst://filesrc location=/nope.mp4 ! decodebin ! videoconvert", 'filesrc: .*No such file "/nope.mp4"', ""),
        ("gst://fakesrc num-buffers=0 ! video/x-raw", "ends without a picture", ""),
        ("gst://v4l2src device=/dev/null", "v4l2src: ", ""),
    ],
)
def test_errors_in_the_words_of_an_element(uri: str, message: str, fix: str) -> None:
    source = open_source(uri)
    with pytest.raises(SourceError, match=message) as caught:
        source.open()
    assert "\n" not in str(caught.value)
    assert fix in (caught.value.fix or "")


def test_a_file_that_is_cut_off_gives_what_it_holds(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", numbered(40))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    frames = take(str(path), 99)
    assert 5 < len(frames) < 40
    (tmp_path / "text.mp4").write_text("not a video at all\n")
    text = open_source(str(tmp_path / "text.mp4"), GST)
    with pytest.raises(SourceError, match="not a video"):
        text.open()


def test_a_pipeline_that_says_nothing_is_given_up_and_closes_at_once() -> None:
    source = open_source("gst://appsrc ! videoconvert", SourceOptions(connect_timeout_s=0.4))
    with pytest.raises(SourceError, match=r"no picture within 0\.4 s"):
        source.open()
    waiting = open_source("gst://appsrc ! videoconvert", SourceOptions(wait=True))
    closer = threading.Timer(0.3, waiting.close)
    closer.start()
    begin = time.monotonic()
    with pytest.raises(SourceError, match="closed before it answered"):
        waiting.open()
    closer.join()
    assert time.monotonic() - begin < 5


def test_the_bus_does_not_fill_up() -> None:
    if not has("videoanalyse"):
        pytest.skip("no GStreamer element videoanalyse")
    """An analyser reports every buffer: a reader that leaves messages lying would grow for months."""
    made = user("gst://videotestsrc num-buffers=300 ! video/x-raw,format=I420 ! videoanalyse message=true")
    decoder = GstDecoder(made, "x", cancelled=lambda: False, pixel_limit=10**6)
    for _ in range(280):
        assert decoder.read() is not None
    left = 0
    while decoder._bus.pop() is not None:
        left += 1
    assert left < 30, "only those of the few pictures ahead"
    decoder.close()
    decoder.close()


def test_rtsp_and_its_passwords() -> None:
    if interpreter() is None:
        pytest.skip("no GStreamer RTSP server on this machine")
    with RtspServer(user="me", password="geheim") as server:
        frames = take(server.address.replace("//", "//me:geheim@"), 4)
        assert (frames[0].width, frames[0].height) == (320, 240)
        assert np.all(np.diff([f.pts_s for f in frames]) > 0)
        assert len({f.host_planes()[0].tobytes() for f in frames}) > 1, "the ball moves"
        wrong = open_source(server.address.replace("//", "//me:falsch@"), GST)
        with pytest.raises(SourceError, match="401") as caught:
            wrong.open()
        assert "falsch" not in str(caught.value)
        assert "USER:PASSWORD" in (caught.value.fix or "")
    refused = open_source(f"rtsp://me:geheim@127.0.0.1:{free_port()}/x", GST)
    with pytest.raises(SourceError, match="rtspsrc: ") as caught:
        refused.open()
    assert "geheim" not in str(caught.value)


def test_the_codec_of_an_rtsp_server_is_found_out() -> None:
    if interpreter("h265") is None or not has("avdec_h265"):
        pytest.skip("no GStreamer RTSP server with H.265 on this machine")
    with RtspServer(codec="h265") as server:
        source = open_source(server.address, GST)
        assert source.open().width == 320
        assert "rtph265depay" in source.pipeline.shown  # type: ignore[attr-defined]
        assert next(iter(source.frames())).height == 240
        source.close()


def test_an_rtsp_stream_that_is_lost_is_connected_again() -> None:
    if interpreter() is None:
        pytest.skip("no GStreamer RTSP server on this machine")
    with RtspServer() as server:
        port = server.port
        source = open_source(server.address, GST)
        told: list[str] = []
        source.on_status = told.append
        frames = source.frames()
        next(frames)
    with RtspServer(port):
        for frame in frames:
            if "reconnected" in frame.flags:
                break
        source.close()
    assert any("trying again" in line for line in told)
    assert not issubclass(SourceLost, OSError)


def test_every_route_is_described() -> None:
    route = gstreamer_library.gi_route()
    assert route.usable
    assert route.version.count(".") == 2
