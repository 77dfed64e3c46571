"""A container as PyAV's, but simulated: for cameras and streams that vanish, hang or send junk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import av
import av.error

_TIME_BASE = Fraction(1, 90000)


class FakeContainer:
    """Frames of real ``av.VideoFrame`` objects without a file behind them.

    Args:
        count: frames before the end.
        size, pix_fmt: of the frames.
        first_pts: time stamp of the first frame, in 1/90000 s; 30 frames a second.
        then: raised after the last frame, as by a device that is pulled out.
        hang: after the last frame, block until this is set, as inside a driver.
        junk: after the first frame, packets without end that cannot be decoded.
        duration_s: length as the header would state it.

    Attributes:
        drained: set when everything was read.
        closed: number of calls of ``close``.
    """

    def __init__(
        self,
        count: int,
        *,
        size: tuple[int, int] = (64, 48),
        pix_fmt: str = "yuv420p",
        first_pts: int = 1234,
        then: BaseException | None = None,
        hang: threading.Event | None = None,
        junk: bool = False,
        duration_s: float | None = None,
    ) -> None:
        self._count, self._size, self._pix_fmt, self._first_pts = count, size, pix_fmt, first_pts
        self._then, self._hang, self._junk = then, hang, junk
        self.duration = None if duration_s is None else int(duration_s * 1e6)
        self.drained = threading.Event()
        self.closed = 0
        context = SimpleNamespace(name="rawvideo", width=size[0], height=size[1], flags=0, colorspace=2, color_range=0)
        stream = SimpleNamespace(
            type="video",
            codec_context=context,
            time_base=_TIME_BASE,
            guessed_rate=Fraction(30),
            average_rate=Fraction(30),
            duration=None,
            frames=0,
            metadata={},
            disposition=0,
            thread_type="NONE",
            decode=self._decode,
        )
        self.streams = SimpleNamespace(video=[stream])

    def _decode(self, packet: Any) -> list[av.VideoFrame]:
        if packet is None or packet.number is None:
            return []
        if packet.number < 0:
            raise av.error.InvalidDataError(1094995529, "Invalid data found when processing input")
        frame = av.VideoFrame(*self._size, self._pix_fmt)
        for plane in frame.planes:
            plane.update(bytes([packet.number % 256]) * plane.buffer_size)
        frame.pts = self._first_pts + 3000 * packet.number
        frame.time_base = _TIME_BASE
        return [frame]

    def demux(self, *_: Any) -> Iterator[Any]:
        for number in range(self._count):
            yield SimpleNamespace(number=number, is_corrupt=False)
            while self._junk:
                yield SimpleNamespace(number=-1, is_corrupt=False)
        self.drained.set()
        if self._hang is not None:
            self._hang.wait(30)
        if self._then is not None:
            raise self._then
        yield SimpleNamespace(number=None, is_corrupt=False)

    def seek(self, *_: Any, **__: Any) -> None:
        raise av.error.FFmpegError(1, "not seekable")

    def close(self) -> None:
        self.closed += 1
