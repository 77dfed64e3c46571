"""Clips for systems with windows, from the same items that give single frames: real ones of videos, and of still
pictures what a slowly moving frame shows of them (:mod:`memedge_export.system_clips`).

Every frame is prepared as the runtime would prepare it.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memedge.errors import MemedgeError, SourceError
from memedge.sources import Source, SourceOptions
from memedge.sources.file import FileSource
from memedge_engines.manifest import Crop, Preprocess, Resize
from memedge_engines.preprocess import Preprocessor

from ..system_clips import Fitted, Fitter
from .calib_origins import Item, Picture, Stream, Video

_WHOLE = Preprocess(
    color="rgb", resize=Resize(rule="none"), crop=Crop(rule="none"), scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3
)
# A live source's recorded pictures stay in memory: at a size that every network looks at less of.
_SMALL = Preprocess(
    color="rgb",
    resize=Resize(rule="short_side", size=480),
    crop=Crop(rule="none"),
    scale=1.0,
    mean=(0.0,) * 3,
    std=(1.0,) * 3,
)
FoundClip = tuple[Item, "Fitted | MemedgeError"]


def read_clips(items: Sequence[Item], fitter: Fitter) -> Iterator[FoundClip]:
    """Each item of one origin with its clip, or with why it has none."""
    origin = items[0].origin
    if isinstance(origin, Video) and fitter.timeline.moves:
        yield from _films(origin, items, fitter)
        return
    preprocessor = Preprocessor(_SMALL if isinstance(origin, Stream) else _WHOLE)
    for item, found in origin.read(items, preprocessor):
        if isinstance(found, MemedgeError):
            yield item, found
            continue
        yield item, fitter.still(found, zlib.crc32(f"{item.name} {item.number}".encode()) % 1000)


def pictures_of(clip: Fitted) -> list[Picture]:
    """All pictures of a clip, in a fixed order."""
    return [made[position] for made in clip.values() for position in sorted(made)]


def _films(origin: Video, items: Sequence[Item], fitter: Fitter) -> Iterator[FoundClip]:
    """Parts of a video, each around its item's own time."""
    times = fitter.timeline.times_s
    first = min(times.values())
    span = max(times.values()) - first
    for item in sorted(items, key=lambda one: one.number):
        try:
            with FileSource(origin.path) as source:
                duration = origin.duration_s or source.open().duration_s or 0.0
            middle = (item.number + 0.5) * duration / origin.parts
            begin = max(0.0, min(middle - span / 2, duration - span))
            with FileSource(origin.path, SourceOptions(from_s=begin)) as source:
                yield item, _film(source, {p: time - first for p, time in times.items()}, fitter)
        except MemedgeError as error:
            yield item, error


def _film(source: Source, times_s: dict[int, float], fitter: Fitter) -> Fitted:
    """The frames nearest to these times after the first frame; the last one stands for what lies behind the end."""
    waiting = sorted(times_s, key=times_s.__getitem__)
    made: dict[tuple[object, ...], dict[int, NDArray[np.uint8]]] = {}
    start: float | None = None
    newest: dict[tuple[object, ...], NDArray[np.uint8]] = {}
    for frame in source.frames():
        try:
            if "corrupt" in frame.flags:
                raise SourceError(f"the frame at {frame.pts_s:.2f} s is damaged")
            start = frame.pts_s if start is None else start
            reaches = frame.pts_s - start + (frame.duration_s / 2 if frame.duration_s > 0 else 0.0)
            taken = [p for p in waiting if times_s[p] <= reaches]
            if taken:
                newest = fitter.all_contracts(frame)
        finally:
            frame.release()
        _keep(made, newest, taken, fitter)
        waiting = waiting[len(taken) :]
        if not waiting:
            return made
    if not newest:
        raise SourceError("the video has no frame there")
    _keep(made, newest, waiting, fitter)
    return made


def _keep(
    made: dict[tuple[object, ...], dict[int, NDArray[np.uint8]]],
    newest: dict[tuple[object, ...], NDArray[np.uint8]],
    positions: Iterable[int],
    fitter: Fitter,
) -> None:
    for position in positions:
        for key, picture in newest.items():
            if fitter.wants(key, position):
                made.setdefault(key, {})[position] = picture


class ClipStore:
    """Clips that are looked at again and again, kept in a temporary file: a clip may have ten megabytes."""

    def __init__(self, clips: Iterable[Fitted]) -> None:
        self._file = tempfile.TemporaryFile(prefix="memedge-clips-")  # noqa: SIM115 - closed with the store
        self._index: list[dict[tuple[object, ...], dict[int, tuple[int, tuple[int, ...]]]]] = []
        end = 0
        for clip in clips:
            places: dict[tuple[object, ...], dict[int, tuple[int, tuple[int, ...]]]] = {}
            known: dict[int, int] = {}
            for key, pictures in clip.items():
                for position, picture in pictures.items():
                    if id(picture) not in known:
                        known[id(picture)] = end
                        end += self._file.write(np.ascontiguousarray(picture).tobytes())
                    places.setdefault(key, {})[position] = (known[id(picture)], picture.shape)
            self._index.append(places)
        self._file.flush()

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, row: int) -> Fitted:
        """One clip."""
        return {
            key: {position: self._picture(*place) for position, place in places.items()}
            for key, places in self._index[row].items()
        }

    def _picture(self, begin: int, shape: tuple[int, ...]) -> NDArray[Any]:
        self._file.seek(begin)
        return np.frombuffer(self._file.read(int(np.prod(shape))), np.uint8).reshape(shape)

    def close(self) -> None:
        """Forget the clips."""
        self._file.close()
