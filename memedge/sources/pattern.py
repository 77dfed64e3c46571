"""``test://``: a synthetic moving pattern that looks like a camera, for trying out, tests and benchmarks.

Four rendered scenes follow each other, five seconds each; the view wanders over them and a ball bounces through. Frames
come as YUV 4:2:0 planes (BT.709 from 720 lines on, else BT.601; limited range), as from a camera, and go through the
same preprocessing. The same address gives the same bytes.

Parameters, ``test://?size=1280x720&fps=30``:

- ``size`` (640x360), ``fps`` (30), ``seed`` (0), ``format`` (``i420`` or ``nv12``);
- ``seconds``: length; without it the pattern never ends;
- ``live``: 1 delivers at the pace of the clock and skips frames that nobody took in time, 0 as fast as they are taken.
  Live unless ``seconds`` is given.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from numpy.typing import NDArray

from memedge_engines.frame import ChromaSiting, ColorMatrix, ColorRange, Frame, PixelFormat

from ..errors import SourceError, UsageError
from .base import Source, SourceInfo, SourceOptions

_SCENES = 4
_SCENE_S = 5
_FORMATS = {"i420": PixelFormat.I420, "nv12": PixelFormat.NV12}
# Rows Y, Cb, Cr of limited-range BT.601 and BT.709, times 65536.
_TO_YUV = {
    ColorMatrix.BT601: ((16829, 33039, 6416), (-9714, -19070, 28784), (28784, -24103, -4681)),
    ColorMatrix.BT709: ((11966, 40254, 4064), (-6596, -22189, 28785), (28784, -26145, -2639)),
}


@dataclass(frozen=True)
class PatternSettings:
    """Parameters of ``test://``; see the module."""

    width: int = 640
    height: int = 360
    fps: Fraction = Fraction(30)
    seconds: Fraction | None = None
    seed: int = 0
    live: bool = True
    format: PixelFormat = PixelFormat.I420


def parse(uri: str) -> PatternSettings:
    """The parameters of a ``test://`` address. Raises UsageError for unknown, zero or negative ones."""
    given = dict(parse_qsl(urlsplit(uri).query, keep_blank_values=True))
    known = ("size", "fps", "seconds", "seed", "live", "format")
    unknown = sorted(set(given) - set(known))
    if unknown or urlsplit(uri).netloc:
        raise UsageError(
            f"{uri}: unknown '{(unknown or [urlsplit(uri).netloc])[0]}'; expected test://?{'=&'.join(known)}="
        )
    try:
        width, height = (int(side) for side in given.get("size", "640x360").lower().split("x"))
        fps, seed = Fraction(given.get("fps", "30")), int(given.get("seed", "0"))
        seconds = Fraction(given["seconds"]) if "seconds" in given else None
        live = {"0": False, "1": True}[given.get("live", "1" if seconds is None else "0")]
        pixel_format = _FORMATS[given.get("format", "i420")]
    except (ValueError, KeyError, ZeroDivisionError):
        raise UsageError(f"{uri}: expected size=WxH, numbers, live=0|1 and format=i420|nv12") from None
    if not (16 <= width <= 8192 and 16 <= height <= 8192 and 0 < fps <= 1000 and (seconds is None or seconds > 0)):
        raise UsageError(f"{uri}: expected a size of 16 to 8192, 0 < fps <= 1000 and seconds above 0")
    return PatternSettings(width, height, fps, seconds, seed, live, pixel_format)


class PatternSource(Source):
    """The synthetic moving pattern; see the module.

    Args:
        uri: ``test://`` with parameters.
        options: ``realtime`` makes it live; ``from_s`` and ``to_s`` cut a pattern that is not live.
    """

    def __init__(self, uri: str, options: SourceOptions | None = None) -> None:
        options = options or SourceOptions()
        self._uri = uri
        self._settings = parse(uri)
        self._live = self._settings.live or options.realtime
        count = None if self._settings.seconds is None else math.ceil(self._settings.seconds * self._settings.fps)
        ends = [n for n in (count, None if options.to_s is None else self._frame_at(options.to_s)) if n is not None]
        self._first = 0 if self._live else self._frame_at(options.from_s)
        self._end = min(ends) if ends else None
        if self._end is not None and self._first >= self._end:
            raise SourceError(f"{uri}: --from {options.from_s:g} s lies behind its end")
        self._scenes: list[list[NDArray[np.uint8]]] = []
        self._closing = threading.Event()
        self._taken = False
        self._info: SourceInfo | None = None
        self.dropped = 0

    def _frame_at(self, time_s: float) -> int:
        """Number of the first frame at or after a time."""
        return math.ceil(Fraction(time_s).limit_denominator(1_000_000) * self._settings.fps)

    @property
    def _matrix(self) -> ColorMatrix:
        return ColorMatrix.BT709 if self._settings.height >= 720 else ColorMatrix.BT601

    def open(self) -> SourceInfo:
        """Render the scenes."""
        if self._info is None:
            if self._closing.is_set():
                raise SourceError(f"{self._uri}: opened after it was closed")
            from ..pictures import generate

            s = self._settings
            margin = (s.width // 4 // 2 * 2 + 2, s.height // 4 // 2 * 2 + 2)
            size = ((s.width + 1) // 2 * 2 + margin[0], (s.height + 1) // 2 * 2 + margin[1])
            self._scenes = [to_yuv420(scene, self._matrix) for scene in generate(_SCENES, s.seed, size)]
            count = None if self._end is None else self._end - self._first
            duration_s = None if s.seconds is None else float(s.seconds)
            self._info = SourceInfo(self._uri, "test", self._live, s.width, s.height, float(s.fps), duration_s, count)
        return self._info

    def frames(self) -> Iterator[Frame]:
        """The frames, at the pace of the clock if live."""
        self.open()
        if self._taken:
            raise SourceError(f"{self._uri}: its frames were taken before; open it anew")
        self._taken = True
        return self._run()

    def _run(self) -> Iterator[Frame]:
        fps = self._settings.fps
        index = self._first
        begin = time.monotonic()
        while not self._closing.is_set() and (self._end is None or index < self._end):
            if self._live:
                now = math.floor((time.monotonic() - begin) * fps)
                if now > index:  # nobody took frames for a while: a camera would have thrown these away
                    last = now if self._end is None else min(now, self._end - 1)
                    self.dropped += last - index
                    index = last
                self._closing.wait(max(begin + float(index / fps) - time.monotonic(), 0.0))
                if self._closing.is_set():
                    break
            frame = self.render(index)
            frame.arrival_ns = time.monotonic_ns()
            yield frame
            index += 1

    def render(self, index: int) -> Frame:
        """Frame number ``index``; the source must be open."""
        s = self._settings
        y, u, v = self._scenes[int(index / s.fps / _SCENE_S) % _SCENES]
        time_s = float(index / s.fps)
        half_w, half_h = (s.width + 1) // 2, (s.height + 1) // 2
        # Offsets are even, so that luma and chroma move together; integer triangles keep the bytes the same everywhere.
        x0 = _bounce(int(time_s * s.width / 16), (y.shape[1] - 2 * half_w) // 2) * 2
        y0 = _bounce(int(time_s * s.height / 19), (y.shape[0] - 2 * half_h) // 2) * 2
        luma = y[y0 : y0 + s.height, x0 : x0 + s.width].copy()
        chroma = [c[y0 // 2 : y0 // 2 + half_h, x0 // 2 : x0 // 2 + half_w].copy() for c in (u, v)]
        self._ball(luma, chroma, time_s)
        planes = [luma, *chroma]
        if s.format is PixelFormat.NV12:
            planes = [luma, np.stack(chroma, axis=-1).reshape(half_h, 2 * half_w)]
        return Frame.from_planes(
            planes,
            s.format,
            s.width,
            s.height,
            matrix=self._matrix,
            color_range=ColorRange.LIMITED,
            siting=ChromaSiting.CENTER,
            pts_s=time_s,
            duration_s=float(1 / s.fps),
            index=index,
        )

    def _ball(self, luma: NDArray[np.uint8], chroma: list[NDArray[np.uint8]], time_s: float) -> None:
        height, width = luma.shape
        radius = max(min(width, height) // 12, 2)
        x = radius + _bounce(int(time_s * width / 3), max(width - 2 * radius, 1))
        y = radius + _bounce(int(time_s * height / 2), max(height - 2 * radius, 1))
        inside = (np.arange(2 * radius)[:, None] - radius) ** 2 + (
            np.arange(2 * radius) - radius
        ) ** 2 < radius * radius
        part = luma[y - radius : y + radius, x - radius : x + radius]
        part[inside[: part.shape[0], : part.shape[1]]] = 210
        for plane, tint in zip(chroma, (90, 180), strict=True):
            cut = plane[(y - radius) // 2 : (y + radius) // 2, (x - radius) // 2 : (x + radius) // 2]
            cut[inside[::2, ::2][: cut.shape[0], : cut.shape[1]]] = tint

    def close(self) -> None:
        """End the pattern."""
        self._closing.set()


def _bounce(position: int, reach: int) -> int:
    """A triangle wave from 0 to ``reach``."""
    if reach < 1:
        return 0
    position %= 2 * reach
    return position if position <= reach else 2 * reach - position


def to_yuv420(picture: NDArray[np.uint8], matrix: ColorMatrix) -> list[NDArray[np.uint8]]:
    """Y, U and V planes, limited range, of an RGB uint8 picture with even sides; chroma is averaged over 2 x 2."""
    rgb = picture.astype(np.int32)
    height, width, _ = rgb.shape
    quarter = (rgb.reshape(height // 2, 2, width // 2, 2, 3).sum(axis=(1, 3)) + 2) // 4
    planes = []
    for number, row in enumerate(_TO_YUV[matrix]):
        source, offset = (rgb, 16) if number == 0 else (quarter, 128)
        level = (source @ np.asarray(row, np.int32) + 32768) // 65536 + offset
        planes.append(np.ascontiguousarray(np.clip(level, 0, 255).astype(np.uint8)))
    return planes
