"""A window with the annotated pictures, through OpenCV (extra ``opencv``)."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import Any

import numpy as np

from ..errors import SinkError
from ..reading import Reading
from .base import Picture, Sink, SinkContext, Summary
from .overlay import Overlay

_LARGEST_WIDTH = 1280
_LARGEST_HEIGHT = 800
# Window libraries end the whole process when there is no display: a child tries first.
_PROBE = "import cv2; cv2.namedWindow('memedge'); cv2.waitKey(1); cv2.destroyAllWindows()"
_PROBE_S = 20.0


class ShowSink(Sink):
    """Shows what is being scored. Closing the window, or the key ``q``, ends the showing, not the scoring.

    Args:
        title: of the window.
    """

    needs_pictures = True

    def __init__(self, title: str = "memedge") -> None:
        self._title = title
        self._context: SinkContext | None = None
        self._overlay: Overlay | None = None
        self._open = False
        self._ended = False

    def start(self, context: SinkContext) -> None:
        """Open the window at the first source.

        Raises:
            SinkError: no OpenCV, an OpenCV without windows, or no display.
        """
        self._context, self._overlay = context, Overlay(context)
        if not self._open and not self._ended:
            _check()
            self._open = True

    def write(self, reading: Reading, picture: Picture | None, stats: dict[str, Any]) -> None:
        """Show the frame once the last bundle's reading is there."""
        if self._overlay is None or self._context is None:
            raise SinkError("--show: no source has started")
        self._overlay.update(reading)
        if picture is None or self._ended:
            return
        if self._context.bundles and reading.bundle != self._context.bundles[-1]:
            return
        import cv2

        rgb = picture.rgb()
        height, width = rgb.shape[:2]
        scale = min(1.0, _LARGEST_WIDTH / width, _LARGEST_HEIGHT / height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        canvas = np.array(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA) if scale < 1 else rgb, dtype=np.uint8)
        self._overlay.draw(canvas, (width, height))
        try:
            cv2.imshow(self._title, canvas[..., ::-1].copy())
            key = cv2.waitKey(1) & 0xFF
            closed = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
        except cv2.error as error:
            raise SinkError(f"--show: the window failed: {error}") from None
        if key == ord("q") or closed:
            self._ended = True
            self.close()

    def finish(self, summary: Summary) -> None:
        """Nothing: the window stays for the next source."""

    def close(self) -> None:
        """Close the window."""
        if self._open:
            self._open = False
            import cv2

            with contextlib.suppress(cv2.error):  # the user may have closed it already
                cv2.destroyWindow(self._title)


def _check() -> None:
    """Raise SinkError unless a window can be opened."""
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        raise SinkError(f"--show needs OpenCV: {error}", fix="pip install 'memedge[opencv]'") from None
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise SinkError(
            "--show: no display (neither DISPLAY nor WAYLAND_DISPLAY is set)", fix="use --video OUT.mp4 instead"
        )
    try:
        tried = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=_PROBE_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SinkError(f"--show: a window cannot be opened: {error}", fix="use --video OUT.mp4 instead") from None
    if tried.returncode == 0:
        return
    text = tried.stderr.strip()
    if "not implemented" in text or "Rebuild the library" in text:
        raise SinkError(
            "--show: this OpenCV was built without windows (a headless package)",
            fix="pip uninstall opencv-python-headless; pip install opencv-python",
        )
    reason = text.splitlines()[-1] if text else f"code {tried.returncode}"
    raise SinkError(f"--show: a window cannot be opened: {reason}", fix="use --video OUT.mp4 instead")
