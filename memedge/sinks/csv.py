"""CSV: one row a reading; the columns are fixed before the first row."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import SinkError
from ..reading import Reading
from .base import Picture, Sink, SinkContext, Summary
from .files import OutputFile
from .jsonl import not_finite

FIXED = (
    "source", "bundle", "frame_index", "time_s", "wall_time", "score", "rolling", "percentile", "coverage", "complete",
    "staleness_s", "latency_ms", "engine", "precision", "flags",
)  # fmt: skip
_PER_TARGET = ("score", "rolling", "percentile")


class CsvSink(Sink):
    """Writes RFC 4180 rows with one header, UTF-8, LF line ends; flags are separated by spaces.

    After the fixed columns each target has ``NAME.score``, ``NAME.rolling`` and ``NAME.percentile``, in the order
    of the bundles; a value that is none is an empty cell. The targets are those of the first frame's readings of
    all bundles.

    Args:
        path: a file (replaced), a pipe, or ``-`` for the standard output.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = str(path)
        self._file: OutputFile | None = None
        self._targets: tuple[str, ...] | None = None
        self._bundles = 1
        self._first: list[Reading] = []

    def start(self, context: SinkContext) -> None:
        """Open the file at the first source; later sources are appended."""
        self._bundles = max(1, len(context.bundles))
        if self._file is None:
            self._file = OutputFile(self._path)

    def write(self, reading: Reading, picture: Picture | None, stats: dict[str, Any]) -> None:
        """One row."""
        bad = not_finite(reading)
        if bad is not None:
            raise SinkError(f"reading of frame {reading.frame_index} of {reading.source}: {bad} is not a finite number")
        if self._targets is not None:
            self._row(reading)
            return
        # The header needs every bundle's targets: the first frame's readings wait for each other.
        self._first.append(reading)
        if len(self._first) >= self._bundles:
            self._header()

    def _header(self) -> None:
        names = dict.fromkeys(name for reading in self._first for name in reading.targets)
        self._targets = tuple(names)
        columns = [*FIXED, *(f"{target}.{part}" for target in self._targets for part in _PER_TARGET)]
        waiting, self._first = self._first, []
        self._put(_encode(columns) + b"".join(self._encode_row(reading) for reading in waiting))

    def _row(self, reading: Reading) -> None:
        self._put(self._encode_row(reading))

    def _encode_row(self, reading: Reading) -> bytes:
        targets = self._targets or ()
        unknown = [name for name in reading.targets if name not in targets]
        if unknown:
            raise SinkError(f"target '{unknown[0]}' is not in the header of '{self._path}'")
        cells: list[object] = []
        for name in FIXED:
            value = getattr(reading, name)
            cells.append(" ".join(value) if name == "flags" else str(value).lower() if name == "complete" else value)
        for target in targets:
            values = reading.targets.get(target)
            cells += [None if values is None else getattr(values, part) for part in _PER_TARGET]
        return _encode(cells)

    def _put(self, data: bytes) -> None:
        if self._file is None:
            raise SinkError("CSV written before the source started")
        self._file.write(data)

    def finish(self, summary: Summary) -> None:
        """Nothing: rows are readings; see ``--summary-csv``."""

    def close(self) -> None:
        """Write the header of an empty run, sync and close the file."""
        if self._file is None:
            return
        try:
            if self._targets is None:
                self._header()
        except SinkError:
            pass  # a closed or full file was reported when it was written to
        finally:
            self._file.close()
            self._targets = self._targets or ()


def _encode(cells: Sequence[object]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(["" if cell is None else cell for cell in cells])
    return line.getvalue().encode("utf-8", "backslashreplace")
