"""Network streams over real sockets on loopback: HTTP, a silent server, and RTSP where a server is installed."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers_rtsp import RtspServer, free_port, interpreter
from helpers_video import numbered, times, write_video
from memedge.errors import SourceError
from memedge.sources import SourceOptions, open_source
from memedge.sources.live import Backoff
from memedge.sources.network import NetworkSource


class Handler(BaseHTTPRequestHandler):
    """Serves files with ranges, and ``/mjpeg``: a camera that hangs up after every fifth picture."""

    folder: Path
    connections: int = 0

    def do_GET(self) -> None:
        if self.path.startswith("/mjpeg"):
            self._mjpeg()
            return
        file = self.folder / self.path.lstrip("/").partition("?")[0]
        if not file.is_file():
            self.send_error(404)
            return
        data = file.read_bytes()
        begin = 0
        if "Range" in self.headers:
            begin = int(self.headers["Range"].removeprefix("bytes=").split("-")[0])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        self._send(data[begin:])

    def _mjpeg(self) -> None:
        type(self).connections += 1
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for picture in numbered(5):
            jpeg = io.BytesIO()
            Image.fromarray(picture).save(jpeg, "JPEG")
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {jpeg.tell()}\r\n\r\n"
            if not self._send(head.encode() + jpeg.getvalue() + b"\r\n"):
                return
            time.sleep(0.02)

    def _send(self, data: bytes) -> bool:
        try:
            self.wfile.write(data)
        except OSError:  # the reader has enough
            return False
        return True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    class Bound(Handler):
        folder = tmp_path

    server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("movflags", ["+faststart", ""])
def test_a_video_on_a_web_server_is_played_like_a_file(web: str, tmp_path: Path, movflags: str) -> None:
    path = write_video(tmp_path / "v.mp4", numbered(40), container_options={"movflags": movflags} if movflags else None)
    source = open_source(f"http://{web}/v.mp4?token=secret")
    info = source.open()
    assert (info.live, info.kind, info.width, info.frames) == (False, "network", 96, 40)
    assert "secret" not in info.label
    frames = list(source.frames())
    assert [f.pts_s for f in frames] == pytest.approx(times(path))
    assert [f.index for f in frames] == list(range(40))
    assert frames[-1].duration_s == pytest.approx(0.04)
    assert source.dropped == 0


def test_a_part_of_a_video_on_a_web_server(web: str, tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", numbered(40), container_options={"movflags": "+faststart"})
    source = open_source(f"http://{web}/v.mp4", SourceOptions(from_s=1.0, to_s=1.2))
    assert [f.index for f in source.frames()] == [25, 26, 27, 28, 29]


def test_a_page_that_is_not_there(web: str) -> None:
    source = open_source(f"http://user:secret@{web}/nothing.mp4")
    with pytest.raises(SourceError, match="404") as caught:
        source.open()
    assert "secret" not in str(caught.value)


def test_a_camera_over_http_that_hangs_up_is_connected_again(web: str) -> None:
    source = NetworkSource(f"http://{web}/mjpeg")
    source._backoff = Backoff(0.02, 0.05)
    told: list[str] = []
    source.on_status = told.append
    assert source.open().live
    frames = []
    for frame in source.frames():
        frames.append(frame)
        if sum("reconnected" in f.flags for f in frames) == 2:
            break
    source.close()
    assert np.all(np.diff([f.pts_s for f in frames]) > 0)
    assert np.all(np.diff([f.arrival_ns for f in frames]) > 0)
    assert any("trying again" in line for line in told)


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(5)
        yield server.getsockname()[1]


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_server_that_never_answers(silent: int, scheme: str) -> None:
    source = open_source(f"{scheme}://127.0.0.1:{silent}/x", SourceOptions(connect_timeout_s=0.6))
    begin = time.monotonic()
    with pytest.raises(SourceError, match=r"no (picture within 0\.6 s|answer in time)"):
        source.open()
    assert time.monotonic() - begin < 10


def test_nobody_listens() -> None:
    with pytest.raises(SourceError, match=r"rtsp://\*\*\*@127\.0\.0\.1:\d+/x: cannot be opened: Connection refused"):
        open_source(f"rtsp://me:pw@127.0.0.1:{free_port()}/x").open()


rtsp = pytest.mark.skipif(
    interpreter() is None, reason="no RTSP server here (Debian: gir1.2-gst-rtsp-server-1.0, python3-gi)"
)


@rtsp
def test_rtsp_is_lost_and_found_again() -> None:
    port = free_port()
    told: list[str] = []
    with RtspServer(port) as server:
        source = NetworkSource(server.address, read_timeout_s=2.0)
        source._backoff = Backoff(0.2, 0.5)
        source.on_status = told.append
        info = source.open()
        assert (info.live, info.kind, info.width, info.height) == (True, "network", 320, 240)
        stream = source.frames()
        frames = [next(stream) for _ in range(25)]
    with RtspServer(port):
        for frame in stream:
            frames.append(frame)
            if "reconnected" in frame.flags:
                break
        frames += [next(stream) for _ in range(5)]
    source.close()
    pts = np.array([f.pts_s for f in frames])
    assert np.all(np.diff(pts) > 0)
    assert sum("reconnected" in f.flags for f in frames) == 1
    # The server sends 25 frames a second: twenty-four intervals span about a second of capture time.
    assert pts[24] - pts[0] == pytest.approx(0.96, abs=0.3)
    assert frames[0].host_planes()[0].std() > 0
    assert any("trying again" in line for line in told)


@rtsp
def test_rtsp_with_credentials() -> None:
    with RtspServer(user="camera", password="secret") as server:
        address = server.address.replace("rtsp://", "rtsp://camera:secret@")
        with open_source(address) as source:
            frame = next(source.frames())
            assert frame.width == 320
        with pytest.raises(SourceError, match="401") as caught:
            open_source(server.address.replace("rtsp://", "rtsp://camera:wrong@")).open()
        assert "wrong" not in str(caught.value)


@rtsp
def test_wait_keeps_trying_the_first_connection() -> None:
    port = free_port()
    source = NetworkSource(f"rtsp://127.0.0.1:{port}/test", SourceOptions(wait=True, connect_timeout_s=2.0))
    source._backoff = Backoff(0.1, 0.3)
    told: list[str] = []
    refused = threading.Event()
    source.on_status = lambda line: (told.append(line), refused.set())  # type: ignore[func-returns-value]
    opened = threading.Thread(target=source.open)
    opened.start()
    assert refused.wait(10)
    with RtspServer(port):
        opened.join(20)
        frame = next(source.frames())
        assert "reconnected" not in frame.flags
        source.close()
    assert "refused" in told[0]
