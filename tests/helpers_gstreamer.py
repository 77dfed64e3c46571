"""GStreamer for tests: PyGObject of this Python, or the system's where its Python is of the same version.

On Debian: ``apt-get install python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good
gstreamer1.0-plugins-bad gstreamer1.0-libav``.
"""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import os
import shutil
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

_PLACES = ("/usr/lib/python3/dist-packages",)
# PyGObject's import hook is old-fashioned in the eyes of Python 3.11.
quiet = pytest.mark.filterwarnings("ignore::ImportWarning", "ignore::DeprecationWarning:gi")


class Capture:
    """cv2.VideoCapture: hands out arrays, then nothing."""

    def __init__(self, arrays: list[Any], opened: bool = True) -> None:
        self.arrays = list(arrays)
        self.opened = opened
        self.released = 0

    def isOpened(self) -> bool:
        return self.opened

    def read(self) -> tuple[bool, Any]:
        return (True, self.arrays.pop(0)) if self.arrays else (False, None)

    def release(self) -> None:
        self.released += 1


@lru_cache(maxsize=1)
def folder() -> str | None:
    """A folder that holds nothing but ``gi``; empty where this Python has it; none where nothing fits."""
    if importlib.util.find_spec("gi") is not None:
        return ""
    suffix = sysconfig.get_config_var("EXT_SUFFIX") or ""
    for place in _PLACES:
        if suffix and Path(place, "gi", f"_gi{suffix}").is_file():
            # The system's other packages must not come along: they are of other versions than the tests'.
            alone = tempfile.mkdtemp(prefix="memedge-gi-")
            atexit.register(shutil.rmtree, alone, ignore_errors=True)
            os.symlink(Path(place, "gi"), Path(alone, "gi"))
            return alone
    return None


@lru_cache(maxsize=1)
def missing() -> str:
    """Why GStreamer cannot be used by tests, or empty."""
    place = folder()
    if place is None:
        return "PyGObject for this Python is not installed (python3-gi)"
    if place:
        sys.path.append(place)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from memedge.sources import gstreamer_library

            gstreamer_library.load.cache_clear()
            found = gstreamer_library.load()
        except Exception as error:
            return f"GStreamer's introspection is not installed: {error}"
    wanted = ("videotestsrc", "videoconvert", "qtdemux", "avdec_h264", "h264parse", "jpegdec")
    lacking = [name for name in wanted if found.Gst.ElementFactory.find(name) is None]
    return f"GStreamer has no element {', '.join(lacking)}" if lacking else ""


def need() -> None:
    """Skip the test where GStreamer cannot be used."""
    why = missing()
    if why:
        pytest.skip(why)


def has(element: str) -> bool:
    """Whether an element is installed; only after :func:`need`."""
    from memedge.sources import gstreamer_library

    return gstreamer_library.load().Gst.ElementFactory.find(element) is not None


@contextmanager
def without_gi(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """While the block runs, PyGObject is not installed."""
    from memedge.sources import gstreamer_library

    real = importlib.import_module

    def absent(name: str, package: str | None = None) -> object:
        if name.partition(".")[0] == "gi":
            raise ModuleNotFoundError("No module named 'gi'", name="gi")
        return real(name, package)

    with monkeypatch.context() as patch:
        patch.setattr(gstreamer_library.importlib, "import_module", absent)
        gstreamer_library.load.cache_clear()
        try:
            yield
        finally:
            gstreamer_library.load.cache_clear()
