"""The most memorable moments as pictures: JPEG files and ``moments.json``, current at any time.

Pictures are written again at most once a second while the choice changes, and at the end; every file is replaced as
a whole, and ``moments.json`` names only pictures that are there. So a kill leaves the moments of a second ago.
"""

from __future__ import annotations

import contextlib
import io
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from memedge_engines.frame import Frame, MemoryKind

from ..errors import SinkError
from ..moments import Candidate, Moments
from ..reading import Reading
from .base import Picture, Sink, SinkContext, Summary
from .files import replace_file, sink_error

LIST_NAME = "moments.json"
REFRESH_S = 1.0
_LARGEST_SIDE = 1280
_QUALITY = 90


@dataclass
class _Lane:
    """The moments of one bundle on one source."""

    source: str
    bundle: str
    prefix: str
    untrained: bool
    moments: Moments
    written: dict[tuple[float, float], str] = field(default_factory=dict)


class MomentsSink(Sink):
    """Keeps the pictures of the best moments in a folder.

    A picture is called ``SOURCE_t0012.480s_s0.873.jpg`` (with the bundle's name after the source's where there are
    several); ``moments.json`` holds for each: source, bundle, rank, time_s, score, file, untrained. Pictures are at
    most 1,280 pixels wide or high. Pictures that an earlier run listed in the folder's ``moments.json`` are removed
    at the start.

    Args:
        path: the folder; made when it is missing.
        count: number of moments per source and bundle.
        min_gap_s: least distance of two moments in seconds; see :mod:`memedge.moments`.
    """

    needs_pictures = True

    def __init__(self, path: str | Path, count: int = 5, min_gap_s: float = 2.0) -> None:
        Moments(count, min_gap_s)  # says what is wrong with them
        self._path = Path(path)
        self._count = count
        self._min_gap_s = min_gap_s
        self._lanes: dict[str, _Lane] = {}
        self._done: list[dict[str, Any]] = []
        self._prefixes: set[str] = set()
        self._opened = False
        self._refreshed = 0.0

    def start(self, context: SinkContext) -> None:
        """Make the folder and forget what an earlier run left there; later sources are added."""
        self._finish_lanes()
        if not self._opened:
            try:
                self._path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise sink_error(f"'{self._path}'", error) from None
            self._forget_earlier()
            self._opened = True
            self._write_list()
        name = self._prefix(context.source.label)
        for bundle in context.bundles:
            prefix = f"{name}_{_slug(bundle)}" if len(context.bundles) > 1 else name
            moments = Moments(self._count, self._min_gap_s, seal=_seal)
            lane = _Lane(context.source.label, bundle, prefix, bundle in context.untrained, moments)
            self._lanes[bundle] = lane
        self._refreshed = time.monotonic()

    def write(self, reading: Reading, picture: Picture | None, stats: dict[str, Any]) -> None:
        """Take a scored frame; refresh the files when a second has passed."""
        lane = self._lanes.get(reading.bundle)
        if lane is None:
            raise SinkError(f"cannot write '{self._path}': no source with bundle '{reading.bundle}' has started")
        if reading.score is not None and picture is not None:
            lane.moments.offer(reading.time_s, reading.score, lambda: _snapshot(picture))
        now = time.monotonic()
        if now - self._refreshed >= REFRESH_S:
            self._refreshed = now
            self._refresh()

    def finish(self, summary: Summary) -> None:
        """Write one bundle's final pictures."""
        lane = self._lanes.get(summary.bundle)
        if lane is not None:
            self._refresh()
            self._done += _entries(lane)
            del self._lanes[summary.bundle]

    def close(self) -> None:
        """Write what is there; safe to call twice."""
        self._finish_lanes()

    def _finish_lanes(self) -> None:
        if self._lanes:
            self._refresh()
            for lane in self._lanes.values():
                self._done += _entries(lane)
            self._lanes.clear()

    def _refresh(self) -> None:
        stale: list[str] = []
        changed = False
        for lane in self._lanes.values():
            chosen = {(c.time_s, c.score): c for c in lane.moments.best()}
            if list(chosen) == list(lane.written):
                continue
            changed = True
            names = {key: lane.written.get(key) or self._write_picture(lane, c) for key, c in chosen.items()}
            stale += [name for key, name in lane.written.items() if key not in names]
            lane.written = names
        if changed:
            self._write_list()
        for name in stale:
            with contextlib.suppress(OSError):
                (self._path / name).unlink()

    def _write_picture(self, lane: _Lane, candidate: Candidate) -> str:
        candidate.payload = _seal(candidate.payload)
        name = f"{lane.prefix}_t{candidate.time_s:08.3f}s_s{candidate.score:.3f}.jpg"
        replace_file(self._path / name, candidate.payload)
        return name

    def _write_list(self) -> None:
        entries = [*self._done, *(entry for lane in self._lanes.values() for entry in _entries(lane))]
        data = msgspec.json.format(msgspec.json.encode({"moments": entries}), indent=2)
        replace_file(self._path / LIST_NAME, data + b"\n")

    def _forget_earlier(self) -> None:
        try:
            listed = msgspec.json.decode((self._path / LIST_NAME).read_bytes())["moments"]
            names = [entry["file"] for entry in listed]
        except (OSError, msgspec.DecodeError, KeyError, TypeError):
            return
        for name in names:
            if isinstance(name, str) and name.endswith(".jpg") and Path(name).name == name:
                with contextlib.suppress(OSError):
                    (self._path / name).unlink()

    def _prefix(self, label: str) -> str:
        base = _slug(Path(label).stem) if label != "-" else "stdin"
        name, number = base, 2
        while name in self._prefixes:
            name, number = f"{base}-{number}", number + 1
        self._prefixes.add(name)
        return name


def _entries(lane: _Lane) -> list[dict[str, Any]]:
    return [
        {
            "source": lane.source,
            "bundle": lane.bundle,
            "rank": rank,
            "time_s": key[0],
            "score": key[1],
            "file": name,
            "untrained": lane.untrained,
        }
        for rank, (key, name) in enumerate(lane.written.items(), 1)
    ]


def _slug(text: str) -> str:
    """A plain file name: letters, digits, dot, dash, underscore; at most 60 characters."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:60] or "source"


def _snapshot(picture: Picture) -> Frame:
    """A copy that outlives the frame: its planes as they are, converted only if the moment stays."""
    frame = picture.frame
    if frame.memory is MemoryKind.DEVICE:
        return Frame.from_rgb(picture.rgb().copy())
    return Frame.from_planes(
        [plane.copy() for plane in frame.host_planes()],
        frame.format,
        frame.width,
        frame.height,
        rotation=frame.rotation,
        matrix=frame.matrix,
        color_range=frame.color_range,
        siting=frame.siting,
    )


def _seal(payload: Any) -> Any:
    """A snapshot as JPEG bytes; bytes stay as they are."""
    if not isinstance(payload, Frame):
        return payload
    from PIL import Image

    image = Image.fromarray(Picture(payload).rgb())
    image.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE), Image.Resampling.BILINEAR)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=_QUALITY)
    return data.getvalue()
