"""Summary CSV: one row per source, for folders of videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import SinkError
from ..reading import Reading
from .base import Picture, Sink, SinkContext, Summary
from .csv import _encode
from .files import OutputFile


class SummaryCsvSink(Sink):
    """Writes one row a source as soon as it ended: ``file``, each target's video score, ``frames_scored``.

    Columns: ``file``, ``frames_seen``, ``frames_scored``, ``duration_s``, ``ended``, then each target's video score
    under its name. With several bundles: ``BUNDLE:TARGET`` and ``BUNDLE:frames_scored``. A score that is none is an
    empty cell.

    Args:
        path: a file (replaced), a pipe, or ``-`` for the standard output.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = str(path)
        self._file: OutputFile | None = None
        self._columns: list[tuple[str, str]] | None = None
        self._bundles: tuple[str, ...] = ()
        self._summaries: list[Summary] = []

    def start(self, context: SinkContext) -> None:
        """Open the file at the first source."""
        self._bundles = context.bundles
        self._summaries = []
        if self._file is None:
            self._file = OutputFile(self._path)

    def write(self, reading: Reading, picture: Picture | None, stats: dict[str, Any]) -> None:
        """Nothing: only summaries count."""

    def finish(self, summary: Summary) -> None:
        """Collect one bundle's summary; the last bundle's writes the row."""
        self._summaries.append(summary)
        if len(self._summaries) < max(1, len(self._bundles)):
            return
        summaries, self._summaries = self._summaries, []
        several = len(summaries) > 1
        data = b""
        if self._columns is None:
            self._columns = [(s.bundle, target) for s in summaries for target in s.video_score]
            names = [f"{bundle}:{target}" if several else target for bundle, target in self._columns]
            counts = [f"{s.bundle}:frames_scored" for s in summaries] if several else ["frames_scored"]
            data = _encode(["file", "frames_seen", *counts, "duration_s", "ended", *names])
        scores = {(s.bundle, target): value for s in summaries for target, value in s.video_score.items()}
        first = summaries[0]
        counts_row = [s.frames_scored for s in summaries]
        cells = [scores.get(column) for column in self._columns]
        data += _encode([first.source, first.frames_seen, *counts_row, first.duration_s, first.ended, *cells])
        if self._file is None:
            raise SinkError("summary written before the source started")
        self._file.write(data)

    def close(self) -> None:
        """Sync and close the file."""
        if self._file is not None:
            self._file.close()
