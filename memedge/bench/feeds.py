"""What a measurement scores: frames rendered beforehand, a file played again and again, or a live source.

Each is a Source, so that a measurement runs the very loop that ``memedge run`` runs.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from memedge_engines.frame import Frame, PixelFormat

from ..errors import SourceError, UsageError
from ..sources import open_source
from ..sources.base import Source, SourceInfo, SourceOptions

PREPARED_URI = "test://?size=1280x720&seconds=1"
PREPARED_FRAMES = 24
# Samples that one feed keeps: bounded whatever the length of a measurement.
MOST_SAMPLES = 1_000_000


class Prepared(Source):
    """Frames that were made beforehand, one after the other for ever, as fast as they are taken."""

    def __init__(self, frames: Sequence[Frame], info: SourceInfo) -> None:
        self._kept = tuple(frames)
        self._info = info
        self._closed = False

    def open(self) -> SourceInfo:
        """See :meth:`Source.open`."""
        self._closed = False
        return self._info

    def frames(self) -> Iterator[Frame]:
        """The frames, for ever, at the pattern's own interval of capture time."""
        interval = 1.0 / (self._info.fps or 30.0)
        for index in itertools.count():
            if self._closed:
                return
            # The planes stay ours: nothing is to be done when such a frame is released.
            yield replace(
                self._kept[index % len(self._kept)],
                pts_s=index * interval,
                duration_s=interval,
                index=index,
                arrival_ns=time.monotonic_ns(),
                on_release=None,
                _references=1,
                _lock=threading.Lock(),
            )

    def close(self) -> None:
        """See :meth:`Source.close`."""
        self._closed = True


def prepare(uri: str, count: int = PREPARED_FRAMES) -> Prepared:
    """Take the first frames of a source and keep them in memory, in the source's own pixel format.

    Raises:
        SourceError: it delivers nothing.
    """
    source = open_source(uri, SourceOptions())
    kept: list[Frame] = []
    try:
        info = source.open()
        frames = source.frames()
        try:
            for frame in itertools.islice(frames, count):
                kept.append(_own(frame))
                frame.release()
        finally:
            end(frames)
    finally:
        source.close()
    if not kept:
        raise SourceError(f"'{info.label}' delivers no frames")
    return Prepared(kept, replace(info, live=False, frames=None, duration_s=None))


def noise(count: int = 3, width: int = 1280, height: int = 720) -> Prepared:
    """Frames of noise, which cost next to nothing to make: for measuring a start-up."""
    random = np.random.default_rng(0)
    half = (height // 2, width // 2)
    frames = [
        Frame.from_planes(
            [random.integers(0, 256, shape, np.uint8) for shape in ((height, width), half, half)],
            PixelFormat.I420,
            width,
            height,
        )
        for _ in range(count)
    ]
    return Prepared(frames, SourceInfo(label="noise", kind="test", live=False, width=width, height=height, fps=30.0))


def end(frames: Iterator[Frame]) -> None:
    """End an iteration before its end, where it is a generator."""
    close = getattr(frames, "close", None)
    if close is not None:
        close()


def _own(frame: Frame) -> Frame:
    """A copy of a host frame in memory of its own."""
    planes = [plane.copy() for plane in frame.host_planes()]
    return Frame.from_planes(
        planes,
        frame.format,
        frame.width,
        frame.height,
        rotation=frame.rotation,
        matrix=frame.matrix,
        color_range=frame.color_range,
        siting=frame.siting,
    )


class Looped(Source):
    """A file from its start again and again, with capture time running on.

    Attributes:
        last_ms: time that the newest frame took to decode; none for the first of a pass, which pays for opening.
    """

    def __init__(self, make: Callable[[], Source]) -> None:
        self._make = make
        self._source: Source | None = None
        self._closed = threading.Event()
        self.last_ms: float | None = None

    def open(self) -> SourceInfo:
        """See :meth:`Source.open`."""
        self._closed.clear()
        self._source = self._make()
        return replace(self._source.open(), frames=None, duration_s=None)

    def frames(self) -> Iterator[Frame]:
        """The file's frames for ever; SourceError when a pass has none."""
        start, number = 0.0, 0
        source = self._source
        assert source is not None
        while not self._closed.is_set():
            finish, passed = start, 0
            for frame in self._timed(source.frames()):
                frame.pts_s += start
                frame.index = number
                finish = max(finish, frame.pts_s + (frame.duration_s or 1 / 30))
                number, passed = number + 1, passed + 1
                yield frame
                if self._closed.is_set():
                    return
            if not passed:
                raise SourceError("the file delivers no frames")
            start = finish
            source.close()
            self._source = source = self._make()
            source.open()
        source.close()

    def _timed(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        try:
            for number in itertools.count():
                begin = time.perf_counter()
                frame = next(frames, None)
                if frame is None:
                    return
                self.last_ms = (time.perf_counter() - begin) * 1e3 if number else None
                yield frame
        finally:
            end(frames)

    def close(self) -> None:
        """See :meth:`Source.close`."""
        self._closed.set()
        if self._source is not None:
            self._source.close()


@dataclass(frozen=True)
class Feed:
    """What a measurement scores.

    Attributes:
        kind: ``prepared``, ``file`` or ``paced``.
        info: of the source.
        make: a new source, not yet opened, that starts at the beginning.
    """

    kind: str
    info: SourceInfo
    make: Callable[[], Source]


def feed(uri: str | None, options: SourceOptions | None = None) -> Feed:
    """The feed for a source, none for frames rendered beforehand. Opens the source once to see what it is.

    Raises:
        SourceError: it cannot be opened, or holds no frames.
    """
    if uri is None:
        prepared = prepare(PREPARED_URI)
        return Feed("prepared", replace(prepared.open(), label="test pattern"), lambda: prepared)
    if uri == "-":
        raise UsageError("standard input can be read once; a measurement reads its source again and again")
    opened = options or SourceOptions()
    source = open_source(uri, opened)
    try:
        info = source.open()
    finally:
        source.close()
    if info.live:
        return Feed("paced", info, lambda: open_source(uri, opened))
    return Feed("file", info, lambda: Looped(lambda: open_source(uri, opened)))
