"""What is kept so that it need not be made again: in memory by bytes, in folders within a budget of disk."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, TypeVar

from memedge.console import status

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
DISK_BYTES = 32 << 30


class Recent(Generic[K, V]):
    """Values up to ``limit_bytes`` in memory, least recently used out first. Thread-safe.

    Attributes:
        bytes: held now.
    """

    def __init__(self, limit_bytes: int, size: Callable[[V], int]) -> None:
        self._limit_bytes = limit_bytes
        self._size = size
        self._kept: OrderedDict[K, V] = OrderedDict()
        self.bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K) -> V | None:
        """The kept value, or none."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: K, value: V) -> None:
        """Keep a value; one that is there already stays."""
        with self._lock:
            if key not in self._kept:
                self._kept[key] = value
                self.bytes += self._size(value)
            while self.bytes > self._limit_bytes and self._kept:
                _, dropped = self._kept.popitem(last=False)
                self.bytes -= self._size(dropped)


class Folders:
    """A folder for each video within a budget of disk. Folders appear in one step; several processes may share them.

    Args:
        folder: where they lie, or none: nothing is kept.
        disk_bytes: beyond this nothing more is written.
    """

    def __init__(self, folder: Path | None, disk_bytes: int = DISK_BYTES) -> None:
        self.folder = folder
        self.disk_bytes = disk_bytes
        self._written: int | None = None
        self._lock = threading.Lock()

    def place(self, path: Path, how: str) -> Path | None:
        """The folder of a file: named by a hash of its path, size and time of change, and of ``how``."""
        if self.folder is None:
            return None
        try:
            found = path.stat()
            state = f"{found.st_size} {found.st_mtime_ns}"
        except OSError:
            state = ""
        text = f"{path.resolve()}\n{state}\n{how}"
        return self.folder / hashlib.sha256(text.encode()).hexdigest()[:24]

    def write(self, place: Path | None, fill: Callable[[Path], None]) -> None:
        """Make a folder and its files with ``fill``, while there is room; one that cannot be written is told once."""
        if place is None or not self._has_room(place.parent):
            return
        work = None
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            work = Path(tempfile.mkdtemp(prefix=".", dir=place.parent))
            fill(work)
            size = sum(file.stat().st_size for file in work.iterdir())
            os.replace(work, place)
        except OSError as error:
            if work is not None:
                shutil.rmtree(work, ignore_errors=True)
            if not place.is_dir():  # else another thread or process was faster
                status(f"frames are not kept in '{place.parent}': {error.strerror or error}")
                self.folder = None
            return
        with self._lock:
            self._written = (self._written or 0) + size
            full = self._written >= self.disk_bytes
        if full:
            status(f"'{place.parent}' holds {self._written >> 20} MiB of frames: further videos are decoded each time")

    def _has_room(self, folder: Path) -> bool:
        with self._lock:
            if self._written is None:
                self._written = sum(file.stat().st_size for file in folder.glob("*/*"))
            return self._written < self.disk_bytes
