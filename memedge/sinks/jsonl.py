"""JSON Lines: one reading a line, then one summary line per source and bundle."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..errors import SinkError, UsageError
from ..reading import LARGEST_LISTED_OUTPUT, Reading
from .base import Picture, Sink, SinkContext, Summary
from .files import OutputFile, sink_error

KEPT_FILES = 10


class JsonlSink(Sink):
    """Writes one line a reading, in the kernel's hands before ``write`` returns.

    With ``rotate_mb`` a file that would grow beyond this many megabytes (1e6 bytes) is renamed to ``NAME.1``, an older
    ``NAME.1`` to ``NAME.2`` and so on; ten files in all are kept, the oldest is deleted. Lines are never split.

    Args:
        path: a file (replaced), a pipe, or ``-`` for the standard output.
        rotate_mb: size at which a new file starts; files only.
    """

    def __init__(self, path: str | Path, rotate_mb: float | None = None) -> None:
        if rotate_mb is not None and not (math.isfinite(rotate_mb) and rotate_mb > 0):
            raise UsageError(f"--rotate-mb {rotate_mb:g}; expected more than 0")
        if rotate_mb is not None and str(path) == "-":
            raise UsageError("--rotate-mb rotates a file: it needs --jsonl FILE")
        self._path = str(path)
        self._limit = None if rotate_mb is None else max(1, int(rotate_mb * 1e6))
        self._file: OutputFile | None = None
        self._encoder = msgspec.json.Encoder(enc_hook=_plain)

    def start(self, context: SinkContext) -> None:
        """Open the file at the first source; later sources are appended."""
        if self._file is None:
            self._file = OutputFile(self._path)

    def write(self, reading: Reading, picture: Picture | None, stats: dict[str, Any]) -> None:
        """One line."""
        bad = not_finite(reading)
        if bad is not None:
            raise SinkError(f"reading of frame {reading.frame_index} of {reading.source}: {bad} is not a finite number")
        listed = {
            name: value
            for name, value in reading.outputs.items()
            if not (isinstance(value, np.ndarray) and value.size > LARGEST_LISTED_OUTPUT)
        }
        if len(listed) < len(reading.outputs):
            reading = msgspec.structs.replace(reading, outputs=listed)
        self._line(self._encoder.encode(reading))

    def finish(self, summary: Summary) -> None:
        """The summary line of one bundle."""
        self._line(self._encoder.encode({"summary": summary}))

    def close(self) -> None:
        """Sync and close the file."""
        if self._file is not None:
            self._file.close()

    def _line(self, line: bytes) -> None:
        if self._file is None:
            raise SinkError("JSON Lines written before the source started")
        full = self._limit is not None and self._file.size + len(line) + 1 > self._limit
        if full and self._file.size and self._file.regular:
            self._rotate()
        self._file.write(line + b"\n")

    def _rotate(self) -> None:
        assert self._file is not None
        self._file.close()
        try:
            for number in range(KEPT_FILES - 1, 0, -1):
                old = self._path if number == 1 else f"{self._path}.{number - 1}"
                if os.path.exists(old):
                    os.replace(old, f"{self._path}.{number}")
        except OSError as error:
            raise sink_error(f"'{self._path}.1'", error) from None
        self._file = OutputFile(self._path)


def not_finite(reading: Reading) -> str | None:
    """Name of the first field that holds NaN or an infinity, or none: JSON has no such numbers."""
    for name in ("time_s", "score", "rolling", "percentile", "coverage", "staleness_s", "latency_ms"):
        value = getattr(reading, name)
        if value is not None and not math.isfinite(value):
            return name
    for target, values in reading.targets.items():
        for name in ("score", "rolling", "percentile"):
            value = getattr(values, name)
            if value is not None and not math.isfinite(value):
                return f"{name} of target {target}"
    for name, value in reading.outputs.items():
        if not _finite(value):
            return f"output {name}"
    return None


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, (list, tuple)):
        return all(_finite(item) for item in value)
    if isinstance(value, dict):
        return all(_finite(item) for item in value.values())
    if isinstance(value, (np.ndarray, np.floating)):
        return bool(np.isfinite(value).all()) if np.issubdtype(value.dtype, np.number) else True
    return True


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise NotImplementedError(f"output of type {type(value).__name__}; expected numbers, text or arrays")
