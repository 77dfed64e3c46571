"""Where calibration frames come from: picture files, the picture generator, videos, live sources.

An origin gives the picture of each of its items exactly as the runtime would prepare it: through memedge's own sources
and preprocessing, for videos from the decoder's planes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from memedge.console import progress, status
from memedge.errors import MemedgeError, SourceError, SourceLost
from memedge.pictures import picture as render
from memedge.sampling import Ticks
from memedge.sources import Source, SourceOptions, label, open_source
from memedge.sources.file import FileSource
from memedge.sources.picture import load_picture
from memedge_engines.frame import Frame
from memedge_engines.manifest import Preprocess
from memedge_engines.preprocess import Preprocessor

Picture = NDArray[np.uint8]
Found = tuple["Item", "Picture | MemedgeError"]

LEAST_GAP_S = 0.25
"""Least time between two picks of one video: the densest published sampling is four a second."""
LIVE_GAP_S = 0.5
"""Time between two picks of a live source."""
_SEEK_S = 10.0  # picks further apart than this are sought one by one instead of decoding all between them
_SYNTHETIC_SIZE = (320, 240)


@dataclass(frozen=True)
class Item:
    """One frame that calibration or the gate may use.

    Attributes:
        name: what messages call it.
        origin: what reads it.
        number: of the frame in its origin.
        score: human score, 0..1, where known.
    """

    name: str
    origin: Origin
    number: int = 0
    score: float | None = None


class Origin(Protocol):
    """Something that gives the pictures of its items."""

    def read(self, items: Sequence[Item], preprocessor: Preprocessor) -> Iterator[Found]:
        """Each item in turn with its picture, uint8 ``[h, w, C]``, or with why it has none."""


@dataclass(frozen=True)
class PictureFile:
    """A picture file."""

    path: Path

    def read(self, items: Sequence[Item], preprocessor: Preprocessor) -> Iterator[Found]:
        """The picture, decoded by the runtime's own reader."""
        for item in items:
            try:
                yield item, preprocessor.picture(Frame.from_rgb(load_picture(self.path)))
            except MemedgeError as error:
                yield item, error


@dataclass(frozen=True)
class Generated:
    """The project's seeded picture generator; an item's number is the picture's."""

    seed: int

    def read(self, items: Sequence[Item], preprocessor: Preprocessor) -> Iterator[Found]:
        """Rendered pictures."""
        for item in items:
            yield item, preprocessor.picture(Frame.from_rgb(render(item.number, self.seed, _SYNTHETIC_SIZE)))


@dataclass(frozen=True)
class Video:
    """A video file cut into ``parts`` of equal length; item ``n`` is the frame nearest to the middle of part ``n``.

    ``duration_s``: where it was measured, else the header's is taken.
    """

    path: Path
    parts: int
    duration_s: float | None = None

    def read(self, items: Sequence[Item], preprocessor: Preprocessor) -> Iterator[Found]:
        """Frames of the video in order of time; an item that has none of its own is left out."""
        waiting = sorted(items, key=lambda item: item.number)
        try:
            with FileSource(self.path) as source:
                duration = self.duration_s or source.open().duration_s or 1.0
                period = duration / self.parts
                if period < _SEEK_S and self.parts > 1:
                    for item, frame in self._scan(source, waiting, period):
                        waiting.remove(item)
                        yield item, _prepared(frame, preprocessor)
                    return
            for item in list(waiting):
                waiting.remove(item)
                yield item, self._sought((item.number + 0.5) * period, preprocessor)
        except MemedgeError as error:
            for item in waiting:
                yield item, error

    def _scan(self, source: Source, items: Sequence[Item], period: float) -> Iterator[tuple[Item, Frame]]:
        wanted = {item.number: item for item in items}
        ticks = Ticks(period, period / 2)
        last = -2
        for frame in source.frames():
            # Where the frame rate varies a tick may fall next to the one before it: its item is left out.
            if ticks.due(frame.pts_s, frame.duration_s, frame.index) and frame.index - last > 1:
                item = wanted.pop(int(ticks.state()[2]), None)
                if item is not None:
                    last = frame.index
                    yield item, frame
                    if not wanted:
                        return
                    continue
            frame.release()

    def _sought(self, time_s: float, preprocessor: Preprocessor) -> Picture | MemedgeError:
        try:
            with FileSource(self.path, SourceOptions(from_s=time_s)) as source:
                for frame in source.frames():
                    return _prepared(frame, preprocessor)
        except MemedgeError as error:
            return error
        return SourceError(f"{self.path}: no frame at {time_s:.2f} s")


@dataclass
class Stream:
    """Any other source: a camera, a network stream, ``test://``. Recorded once, kept as prepared pictures.

    Item ``n`` is the frame ``n * 0.5`` s after the first one.
    """

    uri: str
    count: int
    _kept: tuple[Preprocess, list[Picture | MemedgeError]] | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __repr__(self) -> str:
        return f"Stream({label(self.uri)})"

    def read(self, items: Sequence[Item], preprocessor: Preprocessor) -> Iterator[Found]:
        """The recorded pictures; records at the first call. A source that ends early leaves the later items out.

        Raises:
            SourceError: the source cannot be opened.
        """
        with self._lock:
            if self._kept is None or self._kept[0] != preprocessor.contract:
                self._kept = (preprocessor.contract, self._record(preprocessor))
            pictures = self._kept[1]
        for item in items:
            if item.number < len(pictures):
                yield item, pictures[item.number]

    def _record(self, preprocessor: Preprocessor) -> list[Picture | MemedgeError]:
        name = label(self.uri)
        status(f"recording {self.count} frames of {name}, two a second: {self.count * LIVE_GAP_S / 60:.0f} minutes")
        pictures: list[Picture | MemedgeError] = []
        ticks: Ticks | None = None
        last = -2
        with open_source(self.uri) as source, progress(f"recording {name}", self.count) as bar:
            for frame in _until_lost(source, name):
                ticks = ticks or Ticks(LIVE_GAP_S, frame.pts_s)
                # A slow source fills several ticks with one frame, and its next frame is the very next one.
                if ticks.reached(frame.pts_s, frame.duration_s, frame.index) and frame.index - last > 1:
                    last = frame.index
                    pictures.append(_prepared(frame, preprocessor))
                    bar.advance()
                    if len(pictures) >= self.count:
                        break
                else:
                    frame.release()
        return pictures


def _until_lost(source: Source, name: str) -> Iterator[Frame]:
    """The frames of a source; one that is lost for good ends, so that what was recorded still counts."""
    try:
        yield from source.frames()
    except SourceLost as error:
        status(f"{name} was lost: {error}")


def picks_of(path: Path) -> tuple[int, float]:
    """How many frames a video offers, none next to each other, and how long it is in seconds.

    Raises:
        SourceError: it cannot be read.
    """
    with FileSource(path) as source:
        info = source.open()
        duration, fps = info.duration_s, info.fps
        if not duration:  # a raw stream: only its end tells
            end = 0.0
            for frame in source.frames():
                end = frame.pts_s + frame.duration_s
                frame.release()
            duration = end
    gap = max(LEAST_GAP_S, 2 / fps if fps else 0.0)
    return max(1, int(duration / gap)), duration


def _prepared(frame: Frame, preprocessor: Preprocessor) -> Picture | MemedgeError:
    """The frame's picture, or why there is none; the frame is released."""
    try:
        if "corrupt" in frame.flags:
            return SourceError(f"the frame at {frame.pts_s:.2f} s is damaged")
        return preprocessor.picture(frame)
    except MemedgeError as error:
        return error
    finally:
        frame.release()
