"""Cameras: ``camera0``, ``/dev/video0`` through FFmpeg's V4L2, AVFoundation or DirectShow."""

from __future__ import annotations

import errno
import glob
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import av.error

from ..errors import SourceError
from . import names
from .base import SourceOptions
from .decoder import Decoder, reason
from .live import LiveSource

Opener = Callable[[str, str, dict[str, str], float], Any]
"""(device, FFmpeg input format, options, timeout in seconds) to an opened container."""

_READ_TIMEOUT_S = 10.0
_PLATFORM: str = sys.platform
_CODECS = frozenset({"mjpeg", "h264", "hevc"})


class CameraSource(LiveSource):
    """A camera of this machine.

    A camera that vanishes ends with SourceLost; with ``options.wait`` it is opened again as soon as it is back.

    Args:
        name: ``cameraN`` or ``/dev/videoN``.
        options: ``camera_size``, ``camera_fps``, ``camera_format``, ``connect_timeout_s``, ``wait``.
        opener: opens the container; FFmpeg unless given (tests give a simulated one).
        devices: lists the cameras that are there.
        stall_s: no frame for this long means that the camera hangs.
    """

    def __init__(
        self,
        name: str,
        options: SourceOptions | None = None,
        *,
        opener: Opener | None = None,
        devices: Callable[[], list[str]] | None = None,
        stall_s: float = _READ_TIMEOUT_S,
    ) -> None:
        super().__init__(name, "camera", options or SourceOptions(), stall_s)
        self._name = name
        self._opener = opener or _open
        self._devices = devices or list_cameras
        self._simulated = opener is not None

    @property
    def _reconnects(self) -> bool:
        return self._options.wait

    def _connect(self) -> Decoder:
        device, container_format = camera_device(self._name)
        if not self._simulated and container_format == "v4l2" and not Path(device).exists():
            raise self._absent(device)
        try:
            container = self._opener(device, container_format, self._settings(), self._options.connect_timeout_s)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._refused(device, error) from None
        try:
            return Decoder(container, self._label, live=True, camera=True, pixel_limit=self._options.pixel_limit)
        except BaseException:
            container.close()
            raise

    def _settings(self) -> dict[str, str]:
        options = self._options
        settings = {"fflags": "nobuffer"}
        if options.camera_size is not None:
            settings["video_size"] = f"{options.camera_size[0]}x{options.camera_size[1]}"
        if options.camera_fps is not None:
            settings["framerate"] = f"{options.camera_fps:g}"
        if options.camera_format is not None:
            # V4L2 takes both under one name; the other two keep codecs and pixel formats apart.
            raw = _PLATFORM != "linux" and options.camera_format not in _CODECS
            settings["pixel_format" if raw else "input_format"] = options.camera_format
        return settings

    def _absent(self, device: str) -> SourceError:
        there = self._devices()
        listed = f"there are: {', '.join(there)}" if there else "no camera was found on this machine"
        return SourceError(
            f"{self._name}: no camera at {device}; {listed}", fix="plug it in, or --source test:// to try out"
        )

    def _refused(self, device: str, error: BaseException) -> SourceError:
        number = getattr(error, "errno", None)
        if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            return self._absent(device)
        if number in (errno.EACCES, errno.EPERM):
            fix: str | None = (
                "sudo usermod -aG video $USER, then log in again" if _PLATFORM == "linux" else "allow the camera"
            )
            return SourceError(f"{self._name}: {device} may not be opened by this user", fix=fix)
        if number == errno.EBUSY:
            return SourceError(f"{self._name}: {device} is in use by another program", fix=f"fuser {device}")
        wanted = {key: value for key, value in self._settings().items() if key != "fflags"}
        asked = f" with {', '.join(f'{k} {v}' for k, v in wanted.items())}" if wanted else ""
        fix = f"v4l2-ctl -d {device} --list-formats-ext" if wanted and _PLATFORM == "linux" else None
        return SourceError(f"{self._name}: {device} cannot be opened{asked}: {reason(error)}", fix=fix)


def camera_device(name: str) -> tuple[str, str]:
    """(device, FFmpeg input format) of ``cameraN`` or ``/dev/videoN`` on this machine.

    Raises:
        SourceError: not a camera's name, or a platform without cameras that FFmpeg can open.
    """
    found = names.camera_name(name)
    if found is None:
        raise SourceError(f"'{name}' is no camera; expected camera0, camera1 ... or /dev/video0")
    if _PLATFORM == "linux":
        return (found if found.startswith("/") else f"/dev/video{found}"), "v4l2"
    if found.startswith("/"):
        raise SourceError(f"{found}: V4L2 devices exist on Linux only", fix="camera0")
    if _PLATFORM == "darwin":
        return f"{found}:none", "avfoundation"
    if _PLATFORM == "win32":
        cameras = list_cameras()
        if int(found) >= len(cameras):
            raise SourceError(f"{name}: not there; {len(cameras)} cameras were found: {', '.join(cameras) or 'none'}")
        return f"video={cameras[int(found)]}", "dshow"
    raise SourceError(f"{name}: cameras on {_PLATFORM} are not supported; expected Linux, macOS or Windows")


def list_cameras() -> list[str]:
    """The cameras of this machine: device files on Linux, names elsewhere (where this PyAV can list them)."""
    if _PLATFORM == "linux":
        return sorted(glob.glob("/dev/video*"), key=lambda path: (len(path), path))
    enumerate_devices = getattr(av, "enumerate_input_devices", None)
    if enumerate_devices is None:
        return []
    try:
        devices = enumerate_devices("dshow" if _PLATFORM == "win32" else "avfoundation")
    except (av.error.FFmpegError, ValueError):
        return []
    return [device.description or device.name for device in devices if "video" in device.media_types]


def _open(device: str, container_format: str, settings: dict[str, str], timeout_s: float) -> Any:
    return av.open(device, "r", format=container_format, options=settings, timeout=(timeout_s, _READ_TIMEOUT_S))
