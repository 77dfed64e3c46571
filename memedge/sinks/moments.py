"""The most memorable moments as pictures: JPEG files and ``moments.json``, current at any time.

A bundle that gives attention has a second picture of each moment, with the heat map over it.

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
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from memedge_engines.frame import Frame, MemoryKind

from ..errors import SinkError
from ..moments import Candidate, Moments
from ..reading import Reading
from ..shown import NewestOutputs
from .base import Picture, Sink, SinkContext, Summary
from .files import replace_file, sink_error
from .heat import HeatMap

if TYPE_CHECKING:
    from PIL.Image import Image

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
    outputs: NewestOutputs
    written: dict[tuple[float, float], _Files] = field(default_factory=dict)


@dataclass(frozen=True)
class _Files:
    """Names of a moment's pictures; ``attention`` none where the bundle gave no map."""

    picture: str
    attention: str | None

    def names(self) -> list[str]:
        """Those that there are."""
        return [name for name in (self.picture, self.attention) if name is not None]


@dataclass(frozen=True)
class _Shot:
    """A moment's frame, copied, and what the network attended to."""

    frame: Frame
    heat: HeatMap | None


@dataclass(frozen=True)
class _Sealed:
    """The same as JPEG files."""

    picture: bytes
    attention: bytes | None


class MomentsSink(Sink):
    """Keeps the pictures of the best moments in a folder.

    A picture is called ``SOURCE_t0012.480s_s0.873.jpg`` (with the bundle's name after the source's where there are
    several), the one with the attention ``..._attention.jpg``; ``moments.json`` holds for each: source, bundle, rank,
    time_s, score, file, attention (a name or null), untrained. Pictures are at most 1,280 pixels wide or high.
    Pictures that an earlier run listed in the folder's ``moments.json`` are removed at the start.

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
            outputs = NewestOutputs(context.shown.get(bundle, ()))
            lane = _Lane(context.source.label, bundle, prefix, bundle in context.untrained, moments, outputs)
            self._lanes[bundle] = lane
        self._refreshed = time.monotonic()

    def write(self, reading: Reading, picture: Picture | None, stats: dict[str, Any]) -> None:
        """Take a scored frame; refresh the files when a second has passed."""
        lane = self._lanes.get(reading.bundle)
        if lane is None:
            raise SinkError(f"cannot write '{self._path}': no source with bundle '{reading.bundle}' has started")
        lane.outputs.update(reading)
        if reading.score is not None and picture is not None:
            lane.moments.offer(reading.time_s, reading.score, lambda: _Shot(_snapshot(picture), _heat(lane.outputs)))
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
            files = {key: lane.written.get(key) or self._write_pictures(lane, c) for key, c in chosen.items()}
            stale += [name for key, old in lane.written.items() if key not in files for name in old.names()]
            lane.written = files
        if changed:
            self._write_list()
        for name in stale:
            with contextlib.suppress(OSError):
                (self._path / name).unlink()

    def _write_pictures(self, lane: _Lane, candidate: Candidate) -> _Files:
        sealed = candidate.payload = _seal(candidate.payload)
        name = f"{lane.prefix}_t{candidate.time_s:08.3f}s_s{candidate.score:.3f}"
        replace_file(self._path / f"{name}.jpg", sealed.picture)
        if sealed.attention is None:
            return _Files(f"{name}.jpg", None)
        replace_file(self._path / f"{name}_attention.jpg", sealed.attention)
        return _Files(f"{name}.jpg", f"{name}_attention.jpg")

    def _write_list(self) -> None:
        entries = [*self._done, *(entry for lane in self._lanes.values() for entry in _entries(lane))]
        data = msgspec.json.format(msgspec.json.encode({"moments": entries}), indent=2)
        replace_file(self._path / LIST_NAME, data + b"\n")

    def _forget_earlier(self) -> None:
        try:
            listed = msgspec.json.decode((self._path / LIST_NAME).read_bytes())["moments"]
            names = [entry.get(key) for entry in listed for key in ("file", "attention")]
        except (OSError, msgspec.DecodeError, KeyError, TypeError, AttributeError):
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
            "file": files.picture,
            "attention": files.attention,
            "untrained": lane.untrained,
        }
        for rank, (key, files) in enumerate(lane.written.items(), 1)
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


def _heat(outputs: NewestOutputs) -> HeatMap | None:
    """The attention that belongs to the frame at hand."""
    found = outputs.values("attention")
    return HeatMap(found[0][2], found[0][0].contract) if found else None


def _seal(payload: _Shot | _Sealed) -> _Sealed:
    """A shot as JPEG files; what is sealed stays as it is."""
    if isinstance(payload, _Sealed):
        return payload
    from PIL import Image

    image = Image.fromarray(Picture(payload.frame).rgb())
    size = image.size
    image.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE), Image.Resampling.BILINEAR)
    plain, attention = _jpeg(image), None
    if payload.heat is not None:
        canvas = np.array(image)
        payload.heat.draw(canvas, size)
        attention = _jpeg(Image.fromarray(canvas))
    return _Sealed(plain, attention)


def _jpeg(image: Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=_QUALITY)
    return data.getvalue()
