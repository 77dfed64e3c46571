"""Frames of videos for training: decoded once, reduced, kept in memory and in a folder, both within stated budgets."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from memedge_engines.frame import Frame
from memedge_engines.preprocess import to_rgb

from .frames import Sampled, sampled
from .kept import DISK_BYTES, Folders, Recent
from .pictures import Picture, read_picture, reduced

_MEMORY = 1 << 30
# The lowest effort that compresses: higher ones take several times as long for a tenth less.
PNG_EFFORT = 1


class FrameCache:
    """One frame of a video at a time, its short side reduced to ``short_side`` pixels (never enlarged). Thread-safe.

    Decoding a clip takes a second, so its frames are kept: in memory, least recently used out first, and as PNG files
    (lossless) in a folder for each video, named by a hash of the video's path, size and time of change, of the preset
    and of the size. Folders appear in one step; several processes may share them.

    Args:
        preset: which frames, see :mod:`memedge_export.data.frames`.
        folder: where PNG files are kept, or none.
        limit_bytes: of pictures in memory; ``disk_bytes``: of files, beyond which videos are decoded again each time.
    """

    def __init__(
        self,
        short_side: int,
        preset: str = "S7",
        folder: Path | None = None,
        limit_bytes: int = _MEMORY,
        disk_bytes: int = DISK_BYTES,
    ) -> None:
        self.short_side = short_side
        self.preset = preset
        self._recent: Recent[Path, Sampled] = Recent(limit_bytes, lambda kept: sum(p.nbytes for p in kept.pictures))
        self._folders = Folders(folder, disk_bytes)

    def one(self, path: Path, rng: np.random.Generator) -> Picture:
        """One frame of the preset, each with the same chance: RGB uint8 ``[h, w, 3]``.

        Raises:
            SourceError, PictureError: the video, or a kept frame, cannot be read.
            DataError: see :func:`memedge_export.data.frames.sampled`.
        """
        kept = self._recent.get(path)
        if kept is None:
            place = self._folders.place(path, f"{self.preset} {self.short_side}")
            names = [] if place is None else _stored(place)
            if place is not None and names:
                return read_picture(place / names[rng.integers(len(names))])
            kept = found = sampled(path, self.preset, self._reduce)
            self._recent.put(path, found)
            self._folders.write(place, lambda work: _write(work, found))
        return kept.pictures[kept.which[rng.integers(len(kept.which))]]

    def _reduce(self, frame: Frame) -> Picture:
        return reduced(to_rgb(frame), self.short_side)


def _write(work: Path, found: Sampled) -> None:
    from PIL import Image

    for index, picture in enumerate(found.pictures):
        # How often a frame counts is part of its name.
        file = work / f"{index:04d}x{found.which.count(index)}.png"
        Image.fromarray(picture).save(file, compress_level=PNG_EFFORT)


def _stored(folder: Path) -> list[str]:
    """Names of a video's kept frames, each as often as it counts; none where nothing is kept."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".png"))
    except OSError:
        return []
    return [name for name in names for _ in range(int(name[:-4].partition("x")[2]))]
