"""Frames of a video by the published presets, through memedge's own sources and decoder.

Which frames a preset picks follows from capture times alone, by the rule of the runtime (:mod:`memedge.sampling`), so a
video's mean over these frames is the ``video_score`` of ``memedge run``:

=======  ========================================================================================================
S7       one a second from the first frame on, to the end: times 0, 1 ... 6 s of a video of 7 s
S28, S4  the same every 0.25 s and every 2 s
K3       frames 0, N // 3 and 2 N // 3
F1       the first frame
C16      the first 16 frames
C45      45 frames at equal distances over the whole video
=======  ========================================================================================================

A time that lies inside the video but behind its last frame takes the last one; a video with fewer frames than C16 or
C45 wants gives some of them several times.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from memedge.errors import SourceError
from memedge.sampling import Ticks, sampling_period
from memedge.sources import Source, SourceInfo
from memedge.sources.file import FileSource
from memedge_engines.frame import Frame
from memedge_engines.preprocess import to_rgb

from ..errors import DataError
from .pictures import Picture

_FIRST_OF = {"C16": 16, "F1": 1}
_OVER_ALL = {"C45": 45}
_KEY = "K3"
PRESETS = ("S7", "S28", "S4", _KEY, *_FIRST_OF, *_OVER_ALL)
MOST_FRAMES = 4096
"""Of one video: data sets hold clips of seconds; S7 of an hour is 3,600."""

Stamp = tuple[float, float]
"""Capture time and time to the next frame, in seconds."""


@dataclass(frozen=True)
class Sampled:
    """Pictures of one video.

    Attributes:
        pictures: different frames in order of time.
        which: for each frame of the preset the index of its picture; an index stands there as often as it counts.
    """

    pictures: tuple[Picture, ...]
    which: tuple[int, ...]


def picks(preset: str, stamps: Sequence[Stamp]) -> list[int]:
    """Numbers of the frames that a preset picks, rising; a frame that it picks several times stands there as often.

    Raises:
        DataError: an unknown preset.
    """
    count = len(stamps)
    if preset == _KEY:
        return [0, count // 3, 2 * count // 3]
    if preset in _FIRST_OF:
        return [min(n, count - 1) for n in range(_FIRST_OF[preset])]
    if preset in _OVER_ALL:
        return [n * count // _OVER_ALL[preset] for n in range(_OVER_ALL[preset])]
    period = sampling_period(preset)
    if period is None:
        raise DataError(f"sampling '{preset}'; expected one of {', '.join(PRESETS)}")
    ticks = Ticks(period, stamps[0][0])
    found: list[int] = []
    for number, (time_s, duration_s) in enumerate(stamps):
        times = ticks.reached(time_s, duration_s, number)
        if not number and not times:  # the first frame is nearest to tick 0 by definition
            ticks.restore((period, stamps[0][0], 0))
            times = 1
        found += [number] * min(times, MOST_FRAMES + 1)
    left = ticks.left(stamps[-1][0] + stamps[-1][1])
    return found + [count - 1] * min(left, MOST_FRAMES + 1)


class Watcher(Protocol):
    """Takes some frames of one video."""

    @property
    def wanted(self) -> Container[int]:
        """Numbers of the frames that it takes."""
        ...

    def take(self, number: int, frame: Frame) -> None:
        """A wanted frame, in order; released afterwards."""
        ...

    def suits(self, stamps: Sequence[Stamp]) -> bool:
        """Whether it has taken what a video of these times asks for."""
        ...


W = TypeVar("W", bound=Watcher)


def watch(path: Path, begin: Callable[[Sequence[Stamp]], W], last: int | None = None) -> W:
    """Show a video to a watcher, made for the times of its frames.

    The header's rate and length say which frames to expect; where they were wrong (variable rate, a damaged file) the
    video is decoded once more, for a new watcher.

    Args:
        last: frames behind this number of them do not matter; none: all do.

    Raises:
        SourceError: the video cannot be read, or a wanted frame is damaged.
    """
    with FileSource(path) as source:
        watcher = begin(_expected(source.open())[:last])
        stamps = _decode(source, watcher, last)
    if not watcher.suits(stamps):
        with FileSource(path) as source:
            watcher = begin(stamps)
            _decode(source, watcher, last)
    return watcher


class _Picks:
    """Keeps the frames of a preset."""

    def __init__(self, preset: str, stamps: Sequence[Stamp], convert: Callable[[Frame], Picture]) -> None:
        self._preset = preset
        self._convert = convert
        self.numbers = picks(preset, stamps)
        self.wanted = set(self.numbers[:MOST_FRAMES])
        self.kept: dict[int, Picture] = {}

    def take(self, number: int, frame: Frame) -> None:
        self.kept[number] = self._convert(frame)

    def suits(self, stamps: Sequence[Stamp]) -> bool:
        self.numbers = picks(self._preset, stamps)
        return len(self.numbers) <= MOST_FRAMES and set(self.numbers) <= self.kept.keys()


def sampled(path: Path, preset: str, convert: Callable[[Frame], Picture] = to_rgb) -> Sampled:
    """The preset's frames of a video, of which only these are converted.

    Args:
        convert: what to make of a frame, from the decoder's planes; upright RGB at full size unless given.

    Raises:
        SourceError: the video cannot be read, or a frame of the preset is damaged.
        DataError: an unknown preset, or more than 4,096 frames.
    """
    watcher = watch(path, lambda stamps: _Picks(preset, stamps, convert), _FIRST_OF.get(preset))
    wanted = watcher.numbers
    if len(wanted) > MOST_FRAMES:
        raise DataError(f"{path}: {len(wanted)} frames of preset {preset}; expected a clip of {MOST_FRAMES} at most")
    numbers = sorted(set(wanted))
    place = {number: index for index, number in enumerate(numbers)}
    return Sampled(tuple(watcher.kept[number] for number in numbers), tuple(place[number] for number in wanted))


def frames_of(path: Path, preset: str = "S7") -> list[Picture]:
    """The preset's frames as upright RGB pictures, uint8 ``[H, W, 3]``; one that counts twice is there twice.

    Raises:
        SourceError, DataError: as :func:`sampled`.
    """
    found = sampled(path, preset)
    return [found.pictures[index] for index in found.which]


def _expected(info: SourceInfo) -> list[Stamp]:
    """What the header promises: a video of constant rate."""
    rate = info.fps or 25.0
    count = info.frames or round((info.duration_s or 0.0) * rate)
    # A wrong header must not cost more than the clip is allowed to.
    return [(n / rate, 1 / rate) for n in range(max(1, min(count, 1 << 18)))]


def _decode(source: Source, watcher: Watcher, last: int | None) -> list[Stamp]:
    """Stamps of all frames, or of the first ``last``."""
    stamps: list[Stamp] = []
    for frame in source.frames():
        number = len(stamps)
        try:
            stamps.append((frame.pts_s, frame.duration_s))
            if number in watcher.wanted:
                if "corrupt" in frame.flags:
                    raise SourceError(f"{source.open().label}: the frame at {frame.pts_s:.2f} s is damaged")
                watcher.take(number, frame)
        finally:
            frame.release()
        if last is not None and number + 1 >= last:
            break  # nothing behind them matters
    return stamps
