"""Clips of a data set, made once: in memory, and of videos in folders, both within budgets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import msgspec
import numpy as np
from numpy.typing import NDArray

from memedge.sources.names import is_picture

from ..data.frame_cache import PNG_EFFORT
from ..data.kept import Folders, Recent
from ..data.pictures import Picture
from ..data.records import Record
from .clips import Clip, Eye, Key, Place

_MEMORY = 1 << 30
_STAMPS, _HOSTS = "stamps.npy", "hosts.npz"


class ClipStore:
    """Clips of records as one system sees them. Thread-safe.

    Args:
        folder: where clips of videos are kept, or none.
        how: what of the eye's conversion is not in the dataflow; clips of another one are not taken for it.
        limit_bytes: of clips in memory.
    """

    def __init__(self, eye: Eye, folder: Path | None = None, how: str = "", limit_bytes: int = _MEMORY) -> None:
        self.eye = eye
        nodes = msgspec.json.encode([msgspec.structs.replace(node, files={}) for node in eye.viewer.manifest.nodes])
        asked = msgspec.json.encode(eye.viewer.manifest.targets)
        self._how = hashlib.sha256(nodes + asked + how.encode()).hexdigest()
        self._keys = list(eye.layout.contracts)
        self._recent: Recent[tuple[Path, str], Clip] = Recent(limit_bytes, lambda clip: clip.nbytes)
        self._folders = Folders(folder)

    def open(self, record: Record, caller: Mapping[str, NDArray[np.float32]] | None = None) -> Clip:
        """The record's clip. Raises SourceError, PictureError, DataError: as :meth:`Eye.look`."""
        key = (record.path, record.id)
        kept = self._recent.get(key)
        if kept is not None:
            return kept
        place = None if is_picture(record.path) else self._folders.place(record.path, self._how)
        stored = None if place is None else self._stored(place, caller or {})
        if stored is not None:
            return stored
        clip = self.eye.look(record.path, caller)
        self._recent.put(key, clip)
        self._folders.write(place, lambda work: self._write(work, clip))
        return clip

    def _write(self, work: Path, clip: Clip) -> None:
        from PIL import Image

        np.save(work / _STAMPS, np.array([(t.pts_s, t.duration_s) for t in clip.viewing.times], np.float64))
        arrays: dict[str, Any] = {f"{n} {name}": a for n, one in clip.hosts.items() for name, a in one.items()}
        np.savez(work / _HOSTS, **arrays)
        for (key, position), picture in clip.pictures.items():
            file = work / self._name(key, position)
            if not file.exists():
                flat = picture[..., 0] if picture.shape[2] == 1 else picture
                Image.fromarray(flat).save(file, compress_level=PNG_EFFORT)

    def _name(self, key: Key, position: int) -> str:
        return f"{0 if self.eye.shared else self._keys.index(key)}-{position:06d}.png"

    def _stored(self, place: Path, caller: Mapping[str, NDArray[np.float32]]) -> Clip | None:
        try:
            stamps = np.load(place / _STAMPS)
            hosts: dict[int, dict[str, NDArray[np.float32]]] = {}
            with np.load(place / _HOSTS) as archive:
                for name in archive.files:
                    number, _, output = name.partition(" ")
                    hosts.setdefault(int(number), {})[output] = archive[name]
        except (OSError, ValueError, BadZipFile):
            return None
        viewing = self.eye.viewer.of_video([(float(pts_s), float(duration_s)) for pts_s, duration_s in stamps])
        graph = [call for call in viewing.calls.values() if call.node in self.eye.layout.live]
        places = {p: place / self._name(*p) for call in graph for p in self.eye.layout.places(call)}
        return Clip(viewing, hosts, _OnDisk(places), caller)


class _OnDisk(Mapping[Place, Picture]):
    """Pictures that are read when they are asked for."""

    def __init__(self, files: Mapping[Place, Path]) -> None:
        self._files = files

    def __getitem__(self, place: Place) -> Picture:
        from PIL import Image

        with Image.open(self._files[place]) as image:
            picture = np.asarray(image)
        return picture if picture.ndim == 3 else picture[..., None]

    def __iter__(self) -> Iterator[Place]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def light(clip: Clip) -> Clip:
    """The clip without its pictures."""
    return replace(clip, pictures={})
