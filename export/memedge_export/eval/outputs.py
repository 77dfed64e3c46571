"""The files of an evaluation: checked before anything is scored, written whole or not at all once everything is."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from memedge.console import status
from memedge.errors import MemedgeError, UsageError
from memedge.sinks.files import replace_file

from .parts import Part
from .report import SUFFIX, Report

PLOTS = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Outputs:
    """Which files to write.

    Attributes:
        save: the report as JSON, ``*.eval.json``. predictions: CSV. run_file: MediaEval's form.
        confidence: third column of the run file, or none.
        scatter: PNG, SVG or PDF. page: HTML; ``page_count``: records under each of its headings.
        matrix: CSV, PNG, SVG or PDF each.
    """

    save: Path | None = None
    predictions: Path | None = None
    run_file: Path | None = None
    confidence: float | None = None
    scatter: Path | None = None
    page: Path | None = None
    page_count: int = 12
    matrix: tuple[Path, ...] = ()

    @property
    def unscored(self) -> bool:
        """Whether records without a human score are wanted, too."""
        return self.predictions is not None or self.run_file is not None

    def check(self) -> None:
        """Raise UsageError, or MemedgeError where matplotlib is absent, for what would fail after hours of scoring."""
        if self.confidence is not None and (self.run_file is None or not math.isfinite(self.confidence)):
            raise UsageError("--confidence is a number for every row of --run-file FILE")
        if not 1 <= self.page_count <= 100:
            raise UsageError(f"--page-count {self.page_count}; expected 1 to 100")
        wanted: list[tuple[str, Path | None, tuple[str, ...]]] = [
            ("--save", self.save, (SUFFIX,)),
            ("--predictions", self.predictions, ()),
            ("--run-file", self.run_file, ()),
            ("--scatter", self.scatter, PLOTS),
            ("--page", self.page, (".html", ".htm")),
            *(("--matrix-file", path, (".csv", *PLOTS)) for path in self.matrix),
        ]
        seen: dict[Path, str] = {}
        for flag, path, endings in wanted:
            if path is None:
                continue
            if endings and not path.name.lower().endswith(endings):
                raise UsageError(f"{flag} '{path}'; expected a name that ends in {', '.join(endings)}")
            if path.is_dir() or not path.parent.is_dir():
                found = "is a folder" if path.is_dir() else f"lies in '{path.parent}', which is not there"
                raise UsageError(f"{flag} '{path}' {found}; expected a file to write in an existing folder")
            other = seen.setdefault(path.resolve(), flag)
            if other != flag or sum(path == p for p in self.matrix) > 1:
                raise UsageError(f"{other} and {flag} have the same path '{path}'")
        drawn = [path for path in (self.scatter, *self.matrix) if path is not None and path.suffix.lower() in PLOTS]
        if drawn and importlib.util.find_spec("matplotlib") is None:
            raise MemedgeError("a plot needs matplotlib", fix="pip install 'memedge[plot]'")

    def check_runs(self, found: Sequence[str]) -> None:
        """Raise UsageError where the runs (model, data set and target in words) are not what a file can hold."""
        from .plots import check_panels
        from .predictions import check_run

        if self.run_file is not None:
            check_run(found)
        if self.scatter is not None:
            check_panels(len(found))


def write(outputs: Outputs, report: Report, parts: Sequence[Part]) -> None:
    """Write what was asked for, each file in one step; where it went is said on stderr.

    Raises:
        UsageError: nothing to draw, or a record without a score in a run file.
        SinkError: a file cannot be written.
    """
    from . import matrix, page, plots, predictions
    from .report import to_json

    def put(path: Path, data: bytes) -> None:
        replace_file(path, data)
        status(f"wrote {path}")

    if outputs.save is not None:
        put(outputs.save, to_json(report))
    if outputs.predictions is not None:
        put(outputs.predictions, predictions.to_csv(parts))
    if outputs.run_file is not None:
        put(outputs.run_file, predictions.to_run_file(parts, outputs.confidence))
    if (outputs.scatter or outputs.page or outputs.matrix) and not report.results:
        raise UsageError("no record has a human score: there is nothing to draw")
    if outputs.scatter is not None:
        put(outputs.scatter, plots.scatter(report, parts, outputs.scatter))
    found = matrix.matrices(report)
    for path in outputs.matrix:
        put(path, matrix.to_csv(found) if path.suffix.lower() == ".csv" else plots.heat_map(found, path))
    if outputs.page is not None:
        put(outputs.page, page.page(report, parts, outputs.page_count))
        status("the page holds pictures of the data set: do not publish it")
