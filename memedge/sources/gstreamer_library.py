"""Finding GStreamer: through PyGObject, else through a cv2 that was built with it. Imported on use, never required."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import threading
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from memedge_engines import hardware
from memedge_engines.backends.base import first_line

from ..errors import SourceError
from .gstreamer_text import SINK, Elements, Pipeline

INSTALL = (
    "sudo apt-get install python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-good gstreamer1.0-plugins-bad "
    "gstreamer1.0-libav"
)
_VENV = "recreate the virtual environment with: python3 -m venv --system-site-packages"
# Where elements come from, for the fix of a missing one; the rest is in -good, -bad and -libav.
_JETSON_ONLY = frozenset({"nvarguscamerasrc", "nvv4l2decoder", "nvvidconv"})
_ASSUMED = frozenset(
    {"nvarguscamerasrc", "nvv4l2decoder", "nvvidconv", "h264parse", "h265parse", "jpegdec", "jpegparse"}
)
_LOCK = threading.Lock()
NO_ELEMENTS = Elements(lambda name: False)
"""Nothing installed: pipelines written for it decode by GStreamer's own choice."""


@dataclass(frozen=True)
class Gstreamer:
    """The introspected modules of PyGObject, initialised."""

    Gst: Any
    GstVideo: Any
    GLib: Any


@dataclass(frozen=True)
class Route:
    """One way to GStreamer. ``reason`` and ``fix``: why it cannot be gone, empty when it can."""

    name: str
    usable: bool
    version: str = ""
    reason: str = ""
    fix: str = ""


@lru_cache(maxsize=1)
def load() -> Gstreamer:
    """GStreamer through PyGObject.

    Raises:
        SourceError: not installed, not visible to this Python, or it does not start.
    """
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyGObject's import hook is old-fashioned in the eyes of Python 3.11
        try:
            gi = importlib.import_module("gi")
            # GstApp is only needed to be there: it gives appsink its methods.
            for name in ("Gst", "GstApp", "GstVideo"):
                gi.require_version(name, "1.0")
            Gst, _, GstVideo, GLib = (
                importlib.import_module(f"gi.repository.{name}") for name in ("Gst", "GstApp", "GstVideo", "GLib")
            )
            Gst.init(None)
        except (ImportError, ValueError, AttributeError, RuntimeError) as error:
            missing = isinstance(error, ImportError) and "gi" in (getattr(error, "name", None) or "").split(".")[:1]
            reason = "PyGObject (gi) is not visible to this Python" if missing else first_line(error)
            in_venv = sys.prefix != sys.base_prefix
            fix = f"{INSTALL}; {_VENV}" if missing and in_venv else INSTALL
            raise SourceError(f"GStreamer cannot be used: {reason}", fix=fix) from None
    return Gstreamer(Gst, GstVideo, GLib)


def gi_route() -> Route:
    """Whether PyGObject gives GStreamer; never raises."""
    try:
        gst = load().Gst
        version = ".".join(str(part) for part in gst.version()[:3])
    except SourceError as error:
        return Route(
            "PyGObject", False, reason=error.message.removeprefix("GStreamer cannot be used: "), fix=error.fix or ""
        )
    except Exception as error:  # a broken installation raises whatever its bindings raise
        return Route("PyGObject", False, reason=first_line(error), fix=INSTALL)
    return Route("PyGObject", True, version)


def cv2_route() -> Route:
    """Whether this cv2 was built with GStreamer; never raises."""
    fix = "use JetPack's own cv2 (pip uninstall opencv-python opencv-python-headless), or PyGObject"
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            import cv2

            build = cv2.getBuildInformation()
            version = str(cv2.__version__)
    except ImportError as error:
        return Route("cv2", False, reason=f"cv2 does not import: {first_line(error)}", fix=fix)
    except Exception as error:
        return Route("cv2", False, reason=f"cv2 does not load: {first_line(error)}", fix=fix)
    if any("GStreamer" in line and "YES" in line for line in build.splitlines()):
        return Route("cv2", True, version)
    return Route("cv2", False, version, f"cv2 {version} was built without GStreamer (pip's wheels are)", fix)


def elements() -> Elements:
    """What is installed here; without PyGObject what a Jetson has by itself, elsewhere nothing but the basics."""
    thor = "thor" in hardware.board().lower()
    try:
        factory = load().Gst.ElementFactory
    except SourceError:
        there = _ASSUMED if hardware.jetpack() else frozenset[str]()
        return Elements(there.__contains__, thor)
    return Elements(lambda name: factory.find(name) is not None, thor)


def check(pipeline: Pipeline, found: Elements) -> None:
    """Raise SourceError for a pipeline of ours whose elements are not all installed; needs PyGObject to know."""
    missing = [name for name in pipeline.elements() if not found.has(name)]
    if missing:
        raise SourceError(f"GStreamer has no element {', '.join(missing)}", fix=element_fix(missing[0]))


def element_fix(name: str) -> str:
    """What brings an element."""
    if name in _JETSON_ONLY:
        return "it comes with JetPack and exists on a Jetson only; in a container run with the NVIDIA runtime"
    return INSTALL.replace("python3-gi gir1.2-gst-plugins-base-1.0", "gstreamer1.0-plugins-base")


def parse_fix(message: str) -> str:
    """What mends a text that is no pipeline, by ``gst_parse_launch``'s own words."""
    absent = message.rpartition('no element "')[2].rstrip('"') if 'no element "' in message else ""
    if absent and absent not in ("video", "image"):  # caps where an element must be: two in a row
        return element_fix(absent)
    if f"to {SINK}" in message:
        return "end the pipeline in 'videoconvert' (in 'nvvidconv' after Jetson elements), or in an appsink of your own"
    return "gst-launch-1.0 with the same pipeline shows where"


# (fragment of a message in lower case, fix); the first that fits. A device's or a server's own words decide.
_HINTS = (
    ("no cameras available", "check the ribbon cable and the device tree (sudo /opt/nvidia/jetson-io/jetson-io.py)"),
    ("createcapturesession", "sudo systemctl restart nvargus-daemon"),
    ("argus", "sudo systemctl restart nvargus-daemon"),
    ("unauthorized", "give user and password: rtsp://USER:PASSWORD@HOST/..."),
    ("not authorized", "give user and password: rtsp://USER:PASSWORD@HOST/..."),
    ("not-negotiated", "ask for a size, rate and format that the camera has: v4l2-ctl --list-formats-ext"),
    ("busy", "close the other program that uses it: fuser /dev/video*"),
    ("cannot identify device", "ls /dev/video*"),
    ("permission denied", "sudo usermod -aG video $USER, then log in again"),
    ("could not connect", "check address and port; --wait keeps trying"),
    ("failed to connect", "check address and port; --wait keeps trying"),
    ("could not open resource", "check address and port; --wait keeps trying"),
    ("no decoder", INSTALL),
    ("missing", INSTALL),
)


def hint(message: str) -> str | None:
    """What mends an error that an element reported, or none where its words say nothing."""
    text = message.lower()
    return next((fix for fragment, fix in _HINTS if fragment in text), None)
