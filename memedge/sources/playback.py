"""Playback: the frames of something with an end, each with exact time, duration and number."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import av.error

from memedge_engines.frame import Frame

from ..errors import SourceError
from .base import SourceInfo, SourceOptions
from .decoder import Decoder
from .decoding import PictureDecoder
from .timeline import FileClock

_EARLY_S = 1e-6


class Playback:
    """Frames of one decoder in order, one frame behind the decoder, so that each knows how long it is shown.

    ``from_s`` is exact: decoding starts at the key frame before it, where the container can seek, and the frame
    numbers stay those of the whole file (packets are counted without decoding them). Where a container cannot seek to
    a key frame, or has no time stamps, everything before is decoded and left out.

    Args:
        decoder: freshly opened; owned from here on.
        options: ``from_s``, ``to_s``, ``realtime``.
        closing: set from another thread to end at the next frame.
        reopen: opens the same container again, or none where that cannot be done (a pipe, a GStreamer pipeline).

    Raises:
        SourceError: not one frame can be decoded, or none in the part asked for.
    """

    def __init__(
        self,
        decoder: PictureDecoder,
        options: SourceOptions,
        closing: threading.Event,
        reopen: Callable[[], Decoder] | None = None,
    ) -> None:
        self._decoder = decoder
        self._options = options
        self._closing = closing
        self._reopen = reopen
        # Held during every call into the decoder: the container must not be closed under it.
        self._lock = threading.Lock()
        self._clock = FileClock(decoder.time_base, decoder.nominal_s)
        self._index = 0
        self._last_pts: int | None = None
        self._own_s = 0.0
        self._pending: Frame | None = None
        try:
            self._pending = self._first()
        except BaseException:
            decoder.close()
            self._decoder.close()
            raise

    def info(self, label: str, kind: str) -> SourceInfo:
        """What is known; size after rotation, ``frames`` of the whole file only."""
        assert self._pending is not None
        whole = self._options.from_s == 0 and self._options.to_s is None
        width, height = self._pending.display_size
        return SourceInfo(
            label=label,
            kind=kind,
            live=self._options.realtime,
            width=width,
            height=height,
            fps=self._decoder.fps,
            duration_s=self._decoder.duration_s,
            frames=self._decoder.header_frames if whole else None,
        )

    def _first(self) -> Frame:
        """The first frame of the part asked for."""
        frame = self._next()
        label = self._decoder.label
        if frame is None:
            raise SourceError(f"{label}: a video stream without a frame that can be decoded; expected at least one")
        start = self._options.from_s
        if start <= 0:
            return frame
        if frame.pts_s < start - _EARLY_S and self._last_pts is not None:
            sought = self._seek(start, self._last_pts)
            if sought is not None:
                frame.release()
                frame = sought
        while frame.pts_s < start - _EARLY_S:
            end_s = frame.pts_s + (self._own_s or self._decoder.nominal_s)
            frame.release()
            following = None if self._closing.is_set() else self._next()
            if following is None:
                raise SourceError(f"{label}: --from {start:g} s lies behind the end at {end_s:.3f} s")
            frame = following
        self._reopen = None
        return frame

    def _seek(self, start: float, first_pts: int) -> Frame | None:
        """A frame at or before ``start`` with its number set, after a seek or after starting anew; none: decode on."""
        decoder = self._decoder
        if self._reopen is None or not isinstance(decoder, Decoder):
            return None
        target = first_pts + int(start / decoder.time_base)
        try:
            decoder.seek(target)
            item = decoder.read()
            # Anything but a clean key frame in time means that this container cannot be trusted with seeking.
            if item is not None and item[0].key_frame and item[0].pts is not None:
                number = self._count_before(item[0].pts, first_pts)
                if number is not None and first_pts <= item[0].pts <= target:
                    self._index = number
                    self._clock.rewind()
                    return self._framed(*item)
        except av.error.FFmpegError:
            pass
        self._decoder.close()
        self._decoder = self._reopen()
        self._clock = FileClock(self._decoder.time_base, self._decoder.nominal_s)
        self._index = 0
        return self._next()

    def _count_before(self, pts: int, first_pts: int) -> int | None:
        """Number of frames shown before ``pts``, by reading packets; none where packets have no time stamps."""
        assert self._reopen is not None
        counter = self._reopen()
        try:
            count = 0
            for packet in counter.packets():
                if packet.size == 0 or packet.is_discard:
                    continue
                if packet.pts is None or packet.dts is None:
                    return None
                count += first_pts <= packet.pts < pts
                if packet.dts >= pts:
                    break
            return count
        except av.error.FFmpegError:
            return None
        finally:
            counter.close()

    def _next(self) -> Frame | None:
        item = self._decoder.read()
        return None if item is None else self._framed(*item)

    def _framed(self, decoded: Any, flags: tuple[str, ...]) -> Frame:
        self._last_pts = decoded.pts
        time_s, repaired = self._clock.stamp(decoded.pts)
        frame = self._decoder.frame(decoded, (*flags, "time_repaired") if repaired else flags)
        frame.pts_s = time_s
        frame.index = self._index
        self._index += 1
        own = getattr(decoded, "duration", None)
        self._own_s = float(own * self._decoder.time_base) if own else 0.0
        return frame

    def __iter__(self) -> Iterator[Frame]:
        held, self._pending = self._pending, None
        interval_s = 0.0
        anchor: tuple[float, float] | None = None
        try:
            while held is not None and not self._closing.is_set():
                if self._past(held):
                    break
                own_s = self._own_s
                with self._lock:
                    following = None if self._closing.is_set() else self._next()
                if following is not None:
                    interval_s = following.pts_s - held.pts_s
                    held.duration_s = interval_s
                else:
                    held.duration_s = own_s or interval_s or self._decoder.nominal_s
                    if self._cut_short(held):
                        held.flags = (*held.flags, "truncated")
                if self._options.realtime:
                    anchor = anchor or (time.monotonic(), held.pts_s)
                    self._closing.wait(max(anchor[0] + held.pts_s - anchor[1] - time.monotonic(), 0.0))
                held.arrival_ns = time.monotonic_ns()
                given, held = held, following
                yield given
        finally:
            if held is not None:
                held.release()
            self.close()

    def _past(self, frame: Frame) -> bool:
        return self._options.to_s is not None and frame.pts_s >= self._options.to_s - _EARLY_S

    def _cut_short(self, last: Frame) -> bool:
        """Whether the data ended well before the length that the header promises."""
        if self._closing.is_set():
            return False
        promised = self._decoder.duration_s
        missing = (promised or 0.0) - (last.pts_s + last.duration_s)
        return self._decoder.broken or missing > 0.5 + 2 * self._decoder.nominal_s

    def close(self) -> None:
        """Release what is held and close the decoder; from another thread only once ``closing`` is set."""
        with self._lock:
            if self._pending is not None:
                self._pending.release()
                self._pending = None
            self._decoder.close()
