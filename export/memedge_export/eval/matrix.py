"""The cross-data-set matrix: every model on every data set, one table for each target."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

from .metrics import Result
from .report import Report
from .text import aligned, figure


@dataclass(frozen=True)
class Matrix:
    """Spearman of ``models`` (rows) on ``sets`` (columns); a pair that was not measured is absent from ``cells``."""

    target: str
    models: tuple[str, ...]
    sets: tuple[str, ...]
    cells: dict[tuple[str, str], Result]


def matrices(report: Report) -> list[Matrix]:
    """One matrix for each target, in the report's order."""
    found = []
    for target in dict.fromkeys(row.target for row in report.results):
        rows = [row for row in report.results if row.target == target]
        found.append(
            Matrix(
                target,
                tuple(dict.fromkeys(row.model for row in rows)),
                tuple(dict.fromkeys(f"{row.data} {row.split}" for row in rows)),
                {(row.model, f"{row.data} {row.split}"): row.figures for row in rows},
            )
        )
    return found


def lines(found: list[Matrix]) -> Iterator[str]:
    """The matrices as aligned text, Spearman with its interval."""
    for matrix in found:
        yield f"Spearman, {matrix.target}"
        table = [("model", *matrix.sets)]
        table += [(model, *(_cell(matrix, model, name) for name in matrix.sets)) for model in matrix.models]
        yield from aligned(table)


def _cell(matrix: Matrix, model: str, name: str) -> str:
    result = matrix.cells.get((model, name))
    return "" if result is None else figure(result.spearman, result.spearman_interval)


def to_csv(found: list[Matrix]) -> bytes:
    """One row for each target and model; four columns for each set: Spearman, both ends of its interval, count."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    sets = list(dict.fromkeys(name for matrix in found for name in matrix.sets))
    writer.writerow(["target", "model", *(f"{n}{end}" for n in sets for end in ("", " low", " high", " n"))])
    for matrix in found:
        for model in matrix.models:
            cells: list[object] = []
            for name in sets:
                result = matrix.cells.get((model, name))
                low, high = (None, None) if result is None else result.spearman_interval or (None, None)
                values = (None if result is None else result.spearman, low, high)
                cells += ["" if v is None else f"{v:.6f}" for v in values] + ["" if result is None else result.count]
            writer.writerow([matrix.target, model, *cells])
    return out.getvalue().encode()
