"""A real RTSP server on loopback: GStreamer's, from the system's Python, where it is installed.

On Debian: ``apt-get install gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-base gstreamer1.0-plugins-good
gstreamer1.0-plugins-ugly``.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from functools import lru_cache

_SERVER = """
import sys
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
codec = sys.argv[2] if len(sys.argv) > 2 else "h264"
encoder = {
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=5 bitrate=500 ! rtph264pay",
    "h265": "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=5 bitrate=500 ! rtph265pay",
}[codec]
pipeline = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=25/1 ! "
    + encoder + " name=pay0 pt=96 config-interval=1 )"
)
for name in ("videotestsrc", encoder.split()[0], encoder.split()[-1]):
    if Gst.ElementFactory.find(name) is None:
        sys.exit("no GStreamer element " + name)
if sys.argv[1] == "probe":
    sys.exit(0)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(pipeline)
factory.set_shared(True)
if len(sys.argv) > 4:
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(sys.argv[3], sys.argv[4]), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("user", "media.factory.access", True)
    permissions.add_permission_for_role("user", "media.factory.construct", True)
    factory.set_permissions(permissions)
server.get_mount_points().add_factory("/test", factory)
if server.attach(None) == 0:
    sys.exit("port is taken")
print("ready", flush=True)
GLib.MainLoop().run()
"""


@lru_cache(maxsize=2)
def interpreter(codec: str = "h264") -> str | None:
    """A Python that can run the server with this codec, or none."""
    for candidate in (sys.executable, "/usr/bin/python3", shutil.which("python3")):
        if candidate and os.path.exists(candidate):
            done = subprocess.run([candidate, "-c", _SERVER, "probe", codec], capture_output=True, timeout=30)
            if done.returncode == 0:
                return candidate
    return None


def free_port() -> int:
    """A TCP port on loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RtspServer:
    """Runs while the block runs; serves ``rtsp://127.0.0.1:PORT/test``, a moving ball at 25 frames per second."""

    def __init__(
        self, port: int | None = None, user: str | None = None, password: str | None = None, codec: str = "h264"
    ) -> None:
        self.port = port or free_port()
        self._codec = codec
        self._credentials = [user, password] if user and password else []
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> RtspServer:
        python = interpreter(self._codec)
        assert python is not None
        arguments = [python, "-c", _SERVER, str(self.port), self._codec, *self._credentials]
        self._process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.strip() == "ready", "the RTSP server did not start"
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

    @property
    def address(self) -> str:
        """The address without credentials."""
        return f"rtsp://127.0.0.1:{self.port}/test"
