"""A comparison as a picture: B's scores against A's, and where and how much they differ."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from .bench.plot import check_name
from .compare import CompareReport
from .errors import MemedgeError

_POINTS, _WORST, _LINE, _BAND = "#4e79a7", "#e15759", "#222222", "#f2f2f2"


def plot(report: CompareReport, path: str | os.PathLike[str]) -> None:
    """See :meth:`CompareReport.plot`."""
    check_name(path)
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MemedgeError("a plot needs matplotlib", fix="pip install 'memedge[plot]'") from None

    a, b, difference = report.a_scores, report.b_scores, report.difference
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    low, high = float(min(a.min(), b.min())), float(max(a.max(), b.max()))
    room = max(0.02 * (high - low), 1e-3)
    limits = (low - room, high + room)
    left.plot(limits, limits, color=_LINE, linewidth=0.8, zorder=1, label="equal scores")
    worst = report.worst()
    size = 14 if len(a) <= 500 else 6
    left.scatter(a, b, s=size, color=_POINTS, alpha=0.6, linewidths=0, zorder=2)
    left.scatter(a[worst], b[worst], s=40, facecolors="none", edgecolors=_WORST, zorder=3, label="differ most")
    left.set(xlim=limits, ylim=limits, aspect="equal", xlabel=_axis("A", report.a), ylabel=_axis("B", report.b))
    left.legend(frameon=False, fontsize=8, loc="upper left")

    edge = report.percentiles["p95"]
    right.axhspan(-edge, edge, color=_BAND, zorder=0, label=f"95 % within {edge:.4f}")
    right.axhline(0, color=_LINE, linewidth=0.8, zorder=1)
    right.axhline(difference.mean(), color=_WORST, linewidth=0.8, linestyle="--", zorder=1,
                  label=f"mean {difference.mean():+.4f}")  # fmt: skip
    right.scatter(a, difference, s=size, color=_POINTS, alpha=0.6, linewidths=0, zorder=2)
    right.scatter(a[worst], difference[worst], s=40, facecolors="none", edgecolors=_WORST, zorder=3)
    reach = max(report.max_abs * 1.15, 1e-4)
    right.set(xlabel="score of A", ylabel="B - A", ylim=(-reach, reach), xlim=limits)
    right.legend(frameon=False, fontsize=8, loc="upper left", ncols=2)

    rho, ratio = report.spearman, report.std_ratio
    figures = (
        f"Spearman {'none' if rho is None else format(rho, '.4f')}, mean |difference| {report.mean_abs:.4f}, "
        f"largest {report.max_abs:.4f}, spread {'none' if ratio is None else format(ratio, '.3f')} of A's"
    )
    source = report.source if len(report.source) <= 80 else "..." + report.source[-77:]
    # Names of files may hold what would be read as a formula.
    figure.suptitle(f"{len(a)} pictures of {source}\n{figures}", fontsize=10, parse_math=False)
    try:
        with warnings.catch_warnings():
            # A name in a script that the font lacks is drawn as boxes; that is no reason to say anything.
            warnings.simplefilter("ignore")
            figure.savefig(Path(path), dpi=120)
    except OSError as error:
        raise MemedgeError(f"cannot write '{path}': {error.strerror or error}") from None


def _axis(letter: str, side: object) -> str:
    return f"score of {letter}: {side}".replace("$", r"\$")
