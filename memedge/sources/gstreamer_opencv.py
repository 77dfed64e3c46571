"""Live GStreamer pipelines through a cv2 that was built with GStreamer, where PyGObject is absent.

cv2 hands out neither time stamps nor colours: a picture's time is its arrival, and its colours follow memedge's rule
(BT.709 from 720 lines on, BT.601 below and for cameras, limited range). So only live sources are read this way. It was
tried with cv2 4.6, which prints GStreamer's complaints on stderr.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memedge_engines.frame import ColorMatrix, Frame, PixelFormat, Plane

from ..errors import SourceError, SourceLost
from .gstreamer_text import FORMATS, Pipeline


@dataclass(frozen=True)
class Shot:
    """NV12 as cv2 hands it out: luma rows, then chroma rows, uint8 ``[height * 3 / 2, width]``; no time is known."""

    rows: NDArray[np.uint8]
    pts: int | None = None


class OpencvDecoder:
    """See :class:`~memedge.sources.decoding.PictureDecoder`.

    Args:
        pipeline: a live one of :mod:`~memedge.sources.gstreamer_text`.
        label: without credentials.
        pixel_limit: larger pictures are refused.
        camera: a camera's own pictures are BT.601.
        capture: makes the opened cv2.VideoCapture of a pipeline's text; cv2's unless given.

    Raises:
        SourceError: cv2 cannot open it. It does not say why; GStreamer writes that to stderr.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        label: str,
        *,
        pixel_limit: int,
        camera: bool = False,
        capture: Callable[[str], Any] | None = None,
    ) -> None:
        self.label = label
        self.live = True
        self.broken = False
        self.on_packet: Callable[[], None] | None = None
        self.time_base = Fraction(1, 1_000_000_000)
        self.fps: float | None = None
        self.nominal_s = 1 / 25
        self.duration_s: float | None = None
        self.header_frames: int | None = None
        self._camera = camera
        self._pixel_limit = pixel_limit
        self._capture: Any = (capture or _open)(nv12_only(pipeline.text))
        if not self._capture.isOpened():
            self.close()
            raise SourceError(
                f"{label}: cv2 cannot open the pipeline",
                fix="see the lines above; sudo apt-get install python3-gi says more",
            )

    def read(self) -> tuple[Shot, tuple[str, ...]] | None:
        """The next picture; none at the end."""
        if self._capture is None:
            return None
        there, array = self._capture.read()
        if self.on_packet is not None:
            self.on_packet()
        if not there or array is None:
            return None
        rows = np.asarray(array)
        if rows.ndim == 3 and rows.shape[2] == 1:
            rows = rows[..., 0]
        if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[0] % 3 or rows.shape[1] % 2:
            raise SourceLost(f"{self.label}: cv2 delivers {rows.dtype} {rows.shape}; expected NV12 of an even size")
        if rows.size * 2 // 3 > self._pixel_limit:
            raise SourceLost(f"{self.label}: pictures of {rows.size * 2 // 3} pixels; the limit is {self._pixel_limit}")
        return Shot(np.ascontiguousarray(rows)), ()

    def frame(self, picture: Shot, flags: tuple[str, ...]) -> Frame:
        """A Frame over cv2's array."""
        height, width = picture.rows.shape[0] * 2 // 3, picture.rows.shape[1]
        planes = [Plane(picture.rows[:height], width), Plane(picture.rows[height:], width)]
        matrix = ColorMatrix.BT601 if self._camera or height < 720 else ColorMatrix.BT709
        return Frame(planes, PixelFormat.NV12, width, height, matrix=matrix, flags=flags)

    def close(self) -> None:
        """Give the device back; safe to call twice."""
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.release()


def nv12_only(text: str) -> str:
    """A pipeline whose last caps ask for NV12: cv2 would take BGR or grey from a list."""
    return text.replace(f"format={{{','.join(FORMATS)}}}", "format=NV12")


def _open(text: str) -> Any:
    import cv2

    return cv2.VideoCapture(text, cv2.CAP_GSTREAMER)
