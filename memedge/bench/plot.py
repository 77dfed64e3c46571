"""A report as a picture: stages stacked, and the spread of the end-to-end time."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import MemedgeError, UsageError
from .report import STAGES, BenchReport

_ENDINGS = (".png", ".svg", ".pdf")
_COLOURS = {
    "decode": "#4e79a7",
    "preprocess": "#76b7b2",
    "infer": "#f28e2b",
    "queue": "#bab0ac",
    "rolling": "#59a14f",
    "sinks": "#b07aa1",
}


def plot(report: BenchReport, path: str | os.PathLike[str]) -> None:
    """See :meth:`BenchReport.plot`."""
    check_name(path)
    if not report.results:
        raise UsageError("the report has no results to draw")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MemedgeError("a plot needs matplotlib", fix="pip install 'memedge[plot]'") from None

    labels = [f"{r.label}\n{r.throughput_fps:.1f} frames/s" for r in report.results]
    rows = list(range(len(labels)))
    figure = Figure(figsize=(11, 2.2 + 0.9 * len(labels)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    offsets = [0.0] * len(labels)
    for stage in STAGES:
        widths = [r.stages[stage].mean if stage in r.stages else 0.0 for r in report.results]
        if any(widths):
            left.barh(rows, widths, left=offsets, color=_COLOURS[stage], label=stage)
            offsets = [a + b for a, b in zip(offsets, widths, strict=True)]
    left.set_yticks(rows, labels)
    left.invert_yaxis()
    left.set_xlabel("mean milliseconds a frame, one stage after the other")
    below = (0.5, -0.12 - 0.25 / len(labels))
    left.legend(loc="upper center", bbox_to_anchor=below, ncols=6, frameon=False, fontsize=8)
    for row, result in zip(rows, report.results, strict=True):
        spread = result.end_to_end
        right.plot([spread.p50, spread.max], [row, row], color="#bab0ac", linewidth=2, zorder=1)
        for value, marker, name in (
            (spread.p50, "o", "p50"), (spread.p90, "s", "p90"), (spread.p99, "D", "p99"), (spread.max, "|", "max"),
        ):  # fmt: skip
            right.scatter(
                [value], [row], marker=marker, color="#222222" if name == "p50" else "#f28e2b", zorder=2,
                label=name if row == 0 else None,
            )  # fmt: skip
    wide = max(r.end_to_end.max for r in report.results) > 20 * min(max(r.end_to_end.p50, 1e-4) for r in report.results)
    right.set_xscale("log" if wide else "linear")
    right.set_xlim(left=None if wide else 0)
    right.set_xlabel(f"end to end, milliseconds{' (logarithmic)' if wide else ''}")
    right.legend(frameon=False, fontsize=8)
    where = report.environment
    title = f"memedge bench, {where.board or where.cpu}, {where.usable_cores} cores: {report.settings.source}"
    figure.suptitle(title, fontsize=10)
    try:
        figure.savefig(Path(path), dpi=120)
    except OSError as error:
        raise MemedgeError(f"cannot write '{path}': {error.strerror or error}") from None


def check_name(path: str | os.PathLike[str]) -> None:
    """Raise UsageError when a plot cannot have this name; callable before the measurement."""
    if Path(path).suffix.lower() not in _ENDINGS:
        raise UsageError(f"'{path}' does not end in one of {', '.join(_ENDINGS)}")
