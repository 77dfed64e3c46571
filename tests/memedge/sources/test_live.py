"""Cameras and network streams with simulated containers: losses, hangs, silence, messages."""

from __future__ import annotations

import errno
import threading
import time
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import av.error
import numpy as np
import pytest

from helpers_fake_container import FakeContainer
from memedge.errors import SourceError, SourceLost
from memedge.sources import SourceOptions, camera, open_source
from memedge.sources.camera import CameraSource
from memedge.sources.live import Backoff
from memedge.sources.network import NetworkSource
from memedge_engines.frame import ColorMatrix

QUICK = SourceOptions(connect_timeout_s=5.0)


def camera_of(*containers: Any, options: SourceOptions = QUICK, **fields: Any) -> CameraSource:
    """A camera whose successive openings give these containers, or raise these errors."""
    left = list(containers)
    asked: list[tuple[str, str, dict[str, str]]] = []

    def opener(device: str, container_format: str, settings: dict[str, str], timeout_s: float) -> Any:
        asked.append((device, container_format, settings))
        item = left.pop(0) if left else av.error.FFmpegError(errno.ENODEV, "No such device")
        if isinstance(item, BaseException):
            raise item
        return item

    source = CameraSource("camera0", options, opener=opener, devices=lambda: ["/dev/video7"], **fields)
    source._backoff = Backoff(0.01, 0.02)
    source.asked = asked  # type: ignore[attr-defined]
    return source


@pytest.fixture(autouse=True)
def on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "_PLATFORM", "linux")


def test_a_camera_is_live_and_its_raw_pictures_are_bt601() -> None:
    source = camera_of(FakeContainer(5, size=(64, 720), pix_fmt="yuyv422"))
    info = source.open()
    assert (info.kind, info.live, info.label, info.width, info.height, info.fps) == (
        "camera",
        True,
        "camera0",
        64,
        720,
        30,
    )
    frame = next(source.frames())
    assert frame.matrix is ColorMatrix.BT601
    assert frame.duration_s == pytest.approx(1 / 30)
    source.close()


def test_options_reach_the_driver() -> None:
    options = SourceOptions(camera_size=(1280, 720), camera_fps=15, camera_format="mjpeg")
    source = camera_of(FakeContainer(3), options=options)
    source.open()
    device, container_format, settings = source.asked[0]  # type: ignore[attr-defined]
    assert (device, container_format) == ("/dev/video0", "v4l2")
    assert settings["video_size"] == "1280x720"
    assert settings["framerate"] == "15"
    assert settings["input_format"] == "mjpeg"
    source.close()


def test_a_camera_that_is_not_there_names_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "list_cameras", lambda: ["/dev/video4", "/dev/video6"])
    with pytest.raises(SourceError, match=r"no camera at /dev/video98.*/dev/video4, /dev/video6"):
        open_source("camera98").open()
    monkeypatch.setattr(camera, "list_cameras", list)
    with pytest.raises(SourceError, match="no camera was found on this machine"):
        open_source("/dev/video98").open()


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENODEV, "no camera at /dev/video0; there are: /dev/video7"),
        (errno.EACCES, "may not be opened by this user.*usermod -aG video"),
        (errno.EBUSY, "in use by another program"),
        (errno.EINVAL, "cannot be opened with video_size 9x9.*list-formats"),
    ],
)
def test_why_a_camera_cannot_be_opened(number: int, message: str) -> None:
    source = camera_of(av.error.FFmpegError(number, "driver says no"), options=SourceOptions(camera_size=(9, 9)))
    with pytest.raises(SourceError, match=message):
        source.open()


def test_other_platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "_PLATFORM", "darwin")
    assert camera.camera_device("camera1") == ("1:none", "avfoundation")
    with pytest.raises(SourceError, match="Linux only"):
        camera.camera_device("/dev/video0")
    monkeypatch.setattr(camera, "_PLATFORM", "win32")
    monkeypatch.setattr(camera, "list_cameras", lambda: ["Webcam"])
    assert camera.camera_device("camera0") == ("video=Webcam", "dshow")
    with pytest.raises(SourceError, match="1 cameras were found: Webcam"):
        camera.camera_device("camera1")
    monkeypatch.setattr(camera, "_PLATFORM", "sunos5")
    with pytest.raises(SourceError, match="not supported"):
        camera.camera_device("camera0")


def test_a_camera_that_vanishes_ends_with_source_lost() -> None:
    gone = av.error.FFmpegError(errno.ENODEV, "No such device")
    source = camera_of(FakeContainer(4, then=gone))
    frames = source.frames()
    assert [next(frames).index for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(SourceLost, match="camera0: connection lost: No such device"):
        next(frames)


def test_a_camera_that_vanishes_is_awaited_with_wait() -> None:
    gone = av.error.FFmpegError(errno.ENODEV, "No such device")
    source = camera_of(
        FakeContainer(3, then=gone), gone, FakeContainer(3, first_pts=0), options=SourceOptions(wait=True)
    )
    told: list[str] = []
    source.on_status = told.append
    frames = []
    for frame in source.frames():
        frames.append(frame)
        if len(frames) == 6:
            source.close()
    assert [f.index for f in frames] == list(range(6))
    assert [("reconnected" in f.flags) for f in frames] == [False, False, False, True, False, False]
    assert np.all(np.diff([f.pts_s for f in frames]) > 0)
    assert any("trying again in" in line for line in told)
    assert "camera0: connected again" in told


def test_a_camera_that_never_answers() -> None:
    hang = threading.Event()
    source = CameraSource("camera0", SourceOptions(connect_timeout_s=0.3), opener=lambda *_: hang.wait(20))
    begin = time.monotonic()
    with pytest.raises(SourceError, match=r"camera0: no picture within 0\.3 s"):
        source.open()
    hang.set()
    assert time.monotonic() - begin < 10


def test_a_camera_that_hangs_while_streaming_is_given_up() -> None:
    hang = threading.Event()
    source = camera_of(FakeContainer(2, hang=hang), stall_s=0.3)
    with pytest.raises(SourceLost, match=r"no frame for 0\.3 s"):
        list(source.frames())
    hang.set()


def test_close_from_another_thread_ends_a_blocked_reader() -> None:
    hang = threading.Event()
    source = camera_of(FakeContainer(1, hang=hang))
    got: list[int] = []

    def drain() -> None:
        got.extend(frame.index for frame in source.frames())

    reader = threading.Thread(target=drain)
    source.open()
    reader.start()
    time.sleep(0.1)
    source.close()
    reader.join(5)
    assert not reader.is_alive()
    hang.set()


def test_close_from_another_thread_ends_a_blocked_open() -> None:
    refused = ConnectionRefusedError(111, "Connection refused")

    def opener(*_: Any) -> Any:
        raise refused

    source = NetworkSource("rtsp://h/x", SourceOptions(wait=True), opener=opener)
    source._backoff = Backoff(0.01, 0.02)
    threading.Timer(0.2, source.close).start()
    with pytest.raises(SourceError, match="closed before it answered"):
        source.open()


def test_frames_that_nobody_takes_are_dropped_and_counted() -> None:
    container = FakeContainer(50)
    source = camera_of(container)
    source.open()
    container.drained.wait(5)
    stream = source.frames()
    frames = [next(stream) for _ in range(4)]
    with pytest.raises(SourceLost, match="the stream ended"):
        next(stream)
    assert [f.index for f in frames] == [46, 47, 48, 49]
    assert source.dropped == 46


def test_packets_that_never_become_pictures_are_a_loss() -> None:
    source = camera_of(FakeContainer(3, junk=True), stall_s=1.0)
    with pytest.raises(SourceLost, match="nothing that can be decoded"):
        list(source.frames())


def test_network_losses_are_mended_and_told_without_credentials() -> None:
    uri = "rtsp://admin:hunter2@cam.local/live?token=hunter3"
    lost = av.error.FFmpegError(errno.ECONNRESET, "Connection reset by peer")
    containers: list[Any] = [FakeContainer(2, then=lost), lost, lost, FakeContainer(2), FakeContainer(2)]
    asked: list[tuple[str, dict[str, str], tuple[float, float]]] = []

    def opener(address: str, settings: dict[str, str], timeouts: tuple[float, float]) -> Any:
        asked.append((address, settings, timeouts))
        item = containers.pop(0)
        if isinstance(item, BaseException):
            raise item
        return item

    source = NetworkSource(uri, QUICK, opener=opener)
    source._backoff = Backoff(0.01, 0.05)
    told: list[str] = []
    source.on_status = told.append
    frames = []
    for frame in source.frames():
        frames.append(frame)
        if len(frames) == 6:
            break
    source.close()
    assert [("reconnected" in f.flags) for f in frames] == [False, False, True, False, True, False]
    assert np.all(np.diff([f.pts_s for f in frames]) > 0)
    assert [f.index for f in frames] == list(range(6))
    assert asked[0][0] == uri
    assert asked[0][1]["rtsp_transport"] == "tcp"
    assert asked[0][2] == (5.0, 10.0)
    assert len(told) >= 4
    assert not any("hunter" in line for line in told)
    assert source.open().label == "rtsp://***@cam.local/live?token=***"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConnectionRefusedError(111, "Connection refused", "rtsp://u:hunter2@h/"), "Connection refused.*--wait"),
        (av.error.FFmpegError(1, "Server returned 401 Unauthorized (authorization failed)"), "401.*USER:PASSWORD@HOST"),
        (av.error.InvalidDataError(1094995529, "Invalid data"), "not a video that FFmpeg can read"),
        (av.error.ExitError(1414092869, "Immediate exit requested", "rtsp://u:hunter2@h/"), "no answer in time"),
    ],
)
def test_first_connection_errors(error: Exception, message: str) -> None:
    def opener(*_: Any) -> Any:
        raise error

    with pytest.raises(SourceError, match=message) as caught:
        NetworkSource("rtsp://u:hunter2@h/", QUICK, opener=opener).open()
    assert "hunter2" not in str(caught.value)
    assert "rtsp://***@h/" in str(caught.value)


def test_a_video_with_a_length_is_played_without_loss() -> None:
    def opener(*_: Any) -> Any:
        return FakeContainer(30, duration_s=1.0)

    source = NetworkSource("http://h/v.mp4", QUICK, opener=opener)
    info = source.open()
    assert not info.live
    frames = []
    for frame in source.frames():
        time.sleep(0.002)
        frames.append(frame)
    assert [f.index for f in frames] == list(range(30))
    assert [f.pts_s for f in frames] == pytest.approx([n / 30 for n in range(30)])
    assert source.dropped == 0


def test_udp_only_on_request() -> None:
    asked: list[Any] = []

    def opener(address: str, settings: dict[str, str], timeouts: tuple[float, float]) -> Any:
        asked.append((address, settings["rtsp_transport"]))
        return FakeContainer(2)

    source = NetworkSource("rtsp://h/x?udp", QUICK, opener=opener)
    source.open()
    source.close()
    assert asked[0] == ("rtsp://h/x", "udp")


def test_the_fake_container_is_like_a_real_one(tmp_path: Path) -> None:
    """What the tests above rest on: the fake has what the reader uses of a real container."""
    from helpers_video import numbered, write_video

    with av.open(str(write_video(tmp_path / "a.mp4", numbered(2)))) as real:
        fake = FakeContainer(2)
        for name in ("streams", "duration", "demux", "seek", "close"):
            assert hasattr(real, name)
            assert hasattr(fake, name)
        stream, imitation = real.streams.video[0], fake.streams.video[0]
        for name in vars(imitation):
            if not name.startswith("_") and name != "disposition":  # absent before PyAV 14.1
                assert hasattr(stream, name), name
        assert isinstance(imitation.time_base, Fraction)
        assert isinstance(fake.streams, SimpleNamespace)
