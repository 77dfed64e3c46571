"""A report as whole lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .bootstrap import Interval
from .report import Compared, Measured, Report


def figure(value: float | None, interval: Interval | None = None, digits: int = 3) -> str:
    """``0.398 [0.290, 0.495]``; ``none`` where there is no value."""
    if value is None:
        return "none"
    text = f"{value:.{digits}f}"
    return text if interval is None else f"{text} [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"


def lines(report: Report) -> Iterator[str]:
    """Each part and target: figures of every model, people, and the first model against the others."""
    for rows in _grouped(report.results):
        one = rows[0]
        key = (one.data, one.split, one.target)
        skipped = f", {one.skipped} left out" if one.skipped else ""
        kind = f" ({one.score_kind})" if one.score_kind else ""
        yield f"{one.data} {one.split}, {one.target}{kind}: {one.figures.count} {one.unit}s{skipped}"
        cells = [("model", "Spearman", "Pearson", "MSE"), *(_cells(row) for row in rows)]
        yield from aligned(cells)
        for difference in report.comparisons:
            if (difference.data, difference.split, difference.target) == key:
                yield f"  {_comparison(difference)}"
        for people in report.people:
            if (people.data, people.split, people.target) == key:
                found = people.consistency
                low, high = found.spearman_range
                yield (
                    f"  people: one half against the other {found.spearman:.3f} "
                    f"({found.halvings} random halves, {low:.3f} to {high:.3f}, {found.count} {one.unit}s)"
                )
                for label, value in found.models.items():
                    yield f"  {label} against one half of the people: {figure(value)}"
        for row in rows:
            for warning in row.warnings:
                yield f"  WARNING {row.model}: {warning}"
    if report.results:
        yield f"[ ]: 95 % intervals, bootstrap of {report.resamples} resamples"


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows of cells as indented lines, columns under each other."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _grouped(results: Sequence[Measured]) -> list[list[Measured]]:
    found: dict[tuple[str, str, str], list[Measured]] = {}
    for row in results:
        found.setdefault((row.data, row.split, row.target), []).append(row)
    return list(found.values())


def _cells(row: Measured) -> tuple[str, str, str, str]:
    found = row.figures
    return (
        row.model,
        figure(found.spearman, found.spearman_interval),
        figure(found.pearson, found.pearson_interval),
        figure(found.mse, found.mse_interval, 5),
    )


def _comparison(found: Compared) -> str:
    d = found.difference
    between = d.spearman_interval
    if between is None:
        said = "no interval"
    elif between[0] <= 0 <= between[1]:
        said = "these records do not tell them apart"
    else:
        said = f"'{found.second if between[0] > 0 else found.first}' ranks better"
    return (
        f"{found.second} minus {found.first}: Spearman {_signed(d.spearman, between)}, "
        f"Pearson {_signed(d.pearson, d.pearson_interval)}, MSE {_signed(d.mse, d.mse_interval, 5)}; {said}"
    )


def _signed(value: float | None, interval: Interval | None, digits: int = 3) -> str:
    if value is None:
        return "none"
    text = f"{value:+.{digits}f}"
    return text if interval is None else f"{text} [{interval[0]:+.{digits}f}, {interval[1]:+.{digits}f}]"
