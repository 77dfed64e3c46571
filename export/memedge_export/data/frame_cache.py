"""Frames of videos for training: decoded once, reduced, kept in memory and in a folder, both within stated budgets."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np

from memedge.console import status
from memedge_engines.frame import Frame
from memedge_engines.preprocess import to_rgb

from .frames import sampled
from .pictures import Picture, read_picture, reduced

_MEMORY = 1 << 30
_DISK = 32 << 30
# The lowest effort that compresses: higher ones take several times as long for a tenth less.
_PNG_EFFORT = 1


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
        disk_bytes: int = _DISK,
    ) -> None:
        self.short_side = short_side
        self.preset = preset
        self.folder = folder
        self.limit_bytes = limit_bytes
        self.disk_bytes = disk_bytes
        self._kept: OrderedDict[Path, tuple[Picture, ...]] = OrderedDict()
        self._which: dict[Path, tuple[int, ...]] = {}
        self._bytes = 0
        self._written: int | None = None
        self._lock = threading.Lock()

    def one(self, path: Path, rng: np.random.Generator) -> Picture:
        """One frame of the preset, each with the same chance: RGB uint8 ``[h, w, 3]``.

        Raises:
            SourceError, PictureError: the video, or a kept frame, cannot be read.
            DataError: see :func:`memedge_export.data.frames.sampled`.
        """
        with self._lock:
            kept, which = self._kept.get(path), self._which.get(path)
            if kept is not None:
                self._kept.move_to_end(path)
        if kept is not None and which is not None:
            return kept[which[rng.integers(len(which))]]
        stored = None if self.folder is None else self.folder / self._key(path)
        if stored is not None:
            names = _stored(stored)
            if names:
                return read_picture(stored / names[rng.integers(len(names))])
        return self._decoded(path, stored, rng)

    def _decoded(self, path: Path, stored: Path | None, rng: np.random.Generator) -> Picture:
        found = sampled(path, self.preset, self._reduce)
        with self._lock:
            if path not in self._kept:
                self._kept[path], self._which[path] = found.pictures, found.which
                self._bytes += sum(picture.nbytes for picture in found.pictures)
            while self._bytes > self.limit_bytes and self._kept:
                dropped, pictures = self._kept.popitem(last=False)
                del self._which[dropped]
                self._bytes -= sum(picture.nbytes for picture in pictures)
        if stored is not None and self._has_room(stored.parent):
            self._store(stored, found.pictures, found.which)
        return found.pictures[found.which[rng.integers(len(found.which))]]

    def _reduce(self, frame: Frame) -> Picture:
        return reduced(to_rgb(frame), self.short_side)

    def _key(self, path: Path) -> str:
        try:
            found = path.stat()
            state = f"{found.st_size} {found.st_mtime_ns}"
        except OSError:
            state = ""
        text = f"{path.resolve()}\n{state}\n{self.preset} {self.short_side}"
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def _has_room(self, folder: Path) -> bool:
        with self._lock:
            if self._written is None:
                self._written = sum(file.stat().st_size for file in folder.glob("*/*.png"))
            return self._written < self.disk_bytes

    def _store(self, stored: Path, pictures: tuple[Picture, ...], which: tuple[int, ...]) -> None:
        """Write the frames; a folder that cannot be written is told once and then left alone."""
        from PIL import Image

        work = None
        try:
            stored.parent.mkdir(parents=True, exist_ok=True)
            work = Path(tempfile.mkdtemp(prefix=".", dir=stored.parent))
            size = 0
            for index, picture in enumerate(pictures):
                # How often a frame counts is part of its name.
                file = work / f"{index:04d}x{which.count(index)}.png"
                Image.fromarray(picture).save(file, compress_level=_PNG_EFFORT)
                size += file.stat().st_size
            os.replace(work, stored)
        except OSError as error:
            if work is not None:
                shutil.rmtree(work, ignore_errors=True)
            if not stored.is_dir():  # else another thread or process was faster
                status(f"frames are not kept in '{stored.parent}': {error.strerror or error}")
                self.folder = None
            return
        with self._lock:
            self._written = (self._written or 0) + size
            full = self._written >= self.disk_bytes
        if full:
            status(f"'{stored.parent}' holds {self._written >> 20} MiB of frames: further videos are decoded each time")


def _stored(folder: Path) -> list[str]:
    """Names of a video's kept frames, each as often as it counts; none where nothing is kept."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".png"))
    except OSError:
        return []
    return [name for name in names for _ in range(int(name[:-4].partition("x")[2]))]
