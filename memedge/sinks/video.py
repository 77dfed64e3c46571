"""Annotated video: the pictures with their scores drawn in, as a fragmented MP4 that survives a kill or a power cut.

A fragment starts at every key frame and is handed to the kernel whole; key frames come so often that a fragment
holds at most half a second (one frame, where frames are rarer). So the file is readable up to its last whole
fragment at any time.
"""

from __future__ import annotations

import contextlib
import math
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SinkError
from ..reading import Reading
from .base import Picture, Sink, SinkContext, Summary
from .files import OutputFile
from .heat import Box
from .overlay import Overlay

if TYPE_CHECKING:
    import av

FRAGMENT_S = 0.5
TIME_BASE = Fraction(1, 60_000)  # MPEG-4 part 2 takes no finer clock than 1/65535
_LEAST_WIDTH = 320
_LARGEST_SIDE = 4096
_MOVFLAGS = "frag_keyframe+empty_moov+default_base_moof"
# Encoders by preference, with what makes each give one packet per frame at once and keep forced key frames.
_ENCODERS: tuple[tuple[str, dict[str, str]], ...] = (
    ("libx264", {"preset": "veryfast", "tune": "zerolatency", "crf": "21", "forced-idr": "1", "bf": "0"}),
    ("libopenh264", {"allow_skip_frames": "0"}),
    ("mpeg4", {"bf": "0"}),
)


class VideoSink(Sink):
    """Writes one annotated MP4 per source; a second source goes to ``NAME-2.mp4``, and so on.

    Frame times are capture times, so variable rates and gaps are kept. Odd sides are padded to even ones; pictures
    less than 320 pixels wide are enlarged so that the scores can be read; sides above 4,096 are reduced. A source
    that changes its size is fitted into the first one.

    Args:
        path: the MP4 file; an existing one is replaced.
        encoder: FFmpeg's name of the encoder, or none for the first that is there: libx264, libopenh264, mpeg4.
    """

    needs_pictures = True

    def __init__(self, path: str | Path, encoder: str | None = None) -> None:
        self._path = Path(path)
        self._encoder = encoder
        self._sources = 0
        self._film: _Film | None = None
        self._context: SinkContext | None = None
        self._overlay: Overlay | None = None
        self._finished: set[str] = set()

    def start(self, context: SinkContext) -> None:
        """Open the file of this source."""
        self._end()
        self._sources += 1
        path = self._path
        if self._sources > 1:
            path = path.with_name(f"{path.stem}-{self._sources}{path.suffix}")
        self._context, self._overlay, self._finished = context, Overlay(context), set()
        self._film = _Film(path, self._encoder, context.source.fps)

    def write(self, reading: Reading, picture: Picture | None, stats: dict[str, Any]) -> None:
        """Encode the frame once the last bundle's reading is there."""
        if self._film is None or self._overlay is None or self._context is None:
            raise SinkError(f"cannot write '{self._path}': no source has started")
        self._overlay.update(reading)
        if picture is None or (self._context.bundles and reading.bundle != self._context.bundles[-1]):
            return
        rgb = picture.rgb()
        canvas, box = self._film.canvas(rgb)
        self._overlay.draw(canvas, (rgb.shape[1], rgb.shape[0]), box)
        self._film.add(canvas, reading.time_s)

    def finish(self, summary: Summary) -> None:
        """Close the file after the last bundle."""
        self._finished.add(summary.bundle)
        if self._context is None or len(self._finished) >= len(self._context.bundles):
            self._end()

    def close(self) -> None:
        """Close the file; what was encoded stays readable."""
        self._end()

    def _end(self) -> None:
        film, self._film = self._film, None
        if film is not None:
            film.close()


class _Film:
    """One MP4 file: size and encoder are fixed by its first picture."""

    def __init__(self, path: Path, encoder: str | None, fps: float | None) -> None:
        self._file = OutputFile(path)
        self._path = path
        self._encoder = encoder
        self._fps = fps if fps and math.isfinite(fps) else None
        self._container: av.container.OutputContainer | None = None
        self._stream: Any = None
        self._size = (0, 0)
        self._first_s = 0.0
        self._last_s = 0.0
        self._pts = -1
        self._key_pts = 0
        self._told = False  # whether an error was raised already: closing then is silent
        self._step = round(1 / (self._fps or 25.0) / TIME_BASE)

    def canvas(self, picture: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Box]:
        """A writable RGB picture of the film's size, even sides, and where the given one lies on it."""
        from PIL import Image

        height, width = picture.shape[:2]
        if not self._size[0]:
            scale = float(math.ceil(_LEAST_WIDTH / width)) if width < _LEAST_WIDTH else 1.0
            scale = min(scale, _LARGEST_SIDE / max(width, height))
            sides = [max(2, round(side * scale)) for side in (width, height)]
            self._size = (sides[0] + sides[0] % 2, sides[1] + sides[1] % 2)
        full_w, full_h = self._size
        canvas = np.zeros((full_h, full_w, 3), np.uint8)
        if (width, height) == (full_w, full_h):
            canvas[:] = picture
            return canvas, (0, 0, width, height)
        if full_w - width in (0, 1) and full_h - height in (0, 1):
            canvas[:height, :width] = picture
            # The padding repeats the edge, so that it does not show.
            canvas[height:, :width] = picture[-1:]
            canvas[:, width:] = canvas[:, width - 1 : width]
            return canvas, (0, 0, width, height)
        scale = min(full_w / width, full_h / height)
        fitted = (max(1, min(full_w, round(width * scale))), max(1, min(full_h, round(height * scale))))
        kind = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.BILINEAR
        resized = np.asarray(Image.fromarray(picture).resize(fitted, kind))
        top, left = (full_h - fitted[1]) // 2, (full_w - fitted[0]) // 2
        canvas[top : top + fitted[1], left : left + fitted[0]] = resized
        return canvas, (left, top, left + fitted[0], top + fitted[1])

    def add(self, canvas: NDArray[np.uint8], time_s: float) -> None:
        """Encode one picture at capture time ``time_s``."""
        import av

        if self._container is None:
            self._open()
            self._first_s = time_s
        elif time_s < self._last_s:
            # The source's clock started anew: go on one frame after the last.
            self._first_s = time_s - (self._pts + self._step) * float(TIME_BASE)
        self._last_s = time_s
        pts = max(self._pts + 1, round((time_s - self._first_s) / TIME_BASE))
        if self._pts >= 0:
            self._step = pts - self._pts
        # The fragment ends where the next key frame begins: foresee one more frame of the present step.
        key = self._pts < 0 or pts + self._step - self._key_pts > round(FRAGMENT_S / TIME_BASE)
        self._pts = pts
        frame = av.VideoFrame.from_ndarray(canvas, format="rgb24")
        frame = frame.reformat(
            format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG", interpolation="BICUBIC"
        )
        frame.pts, frame.time_base = pts, TIME_BASE
        if hasattr(frame, "duration"):
            frame.duration = self._step
        if key:
            self._key_pts = pts
            frame.pict_type = av.video.frame.PictureType.I
        self._mux(frame)

    def _open(self) -> None:
        import av

        codec, options = self._codec()
        self._container = av.open(
            _Writer(self._file), "w", format="mp4", options={"movflags": _MOVFLAGS, "flush_packets": "1"}
        )
        rate = Fraction(self._fps or 25.0).limit_denominator(1001)
        stream: Any = self._container.add_stream(codec, rate=rate if rate > 0 else Fraction(25), options=options)
        stream.width, stream.height = self._size
        stream.pix_fmt = "yuv420p"
        stream.time_base = TIME_BASE
        context = stream.codec_context
        context.time_base = TIME_BASE
        context.gop_size = 600
        context.colorspace, context.color_range = 1, 1  # BT.709, limited
        context.color_primaries = context.color_trc = 1
        if codec != "libx264":
            context.bit_rate = max(500_000, self._size[0] * self._size[1] * 4)
        self._stream = stream

    def _codec(self) -> tuple[str, dict[str, str]]:
        import av

        for name, options in _ENCODERS:
            if self._encoder not in (None, name):
                continue
            try:
                av.codec.Codec(name, "w")
            except Exception:
                continue
            return name, options
        wanted = self._encoder or ", ".join(name for name, _ in _ENCODERS)
        raise SinkError(f"cannot write '{self._path}': FFmpeg has no encoder of {wanted}", fix="pip install av")

    def _mux(self, frame: Any) -> None:
        import av

        assert self._container is not None
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (SinkError, av.error.FFmpegError, OSError) as error:
            self._told = True
            raise self._file.error or SinkError(f"cannot write '{self._path}': {error}") from None

    def close(self) -> None:
        """Flush the encoder, write the last fragment, close. A file without a picture is removed.

        Raises:
            SinkError: the last fragment cannot be written.
        """
        container, self._container = self._container, None
        error: Exception | None = None
        if container is not None:
            try:
                if self._file.error is None:
                    for packet in self._stream.encode(None):
                        container.mux(packet)
                container.close()
            except Exception as failure:
                error = failure
        broken = self._file.error
        self._file.close()
        if container is None and not self._file.size and self._file.regular:
            with contextlib.suppress(OSError):
                self._path.unlink()
        if error is not None and not self._told:
            raise broken or SinkError(f"cannot write '{self._path}': {error}")


class _Writer:
    """The one method that FFmpeg's muxer needs; without ``seek`` it never goes back."""

    def __init__(self, file: OutputFile) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        return self._file.write(bytes(data))
