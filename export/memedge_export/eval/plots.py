"""Plots of an evaluation: human against predicted scores, and the cross-data-set matrix as a heat map."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memedge.errors import MemedgeError, UsageError

from .matrix import Matrix
from .parts import Part
from .report import Measured, Report
from .text import figure

_POINTS, _LINE = "#4e79a7", "#222222"
_MOST_PANELS = 36
_WRAP = 46


def check_panels(count: int) -> None:
    """Raise UsageError for more panels than can be read."""
    if not 0 < count <= _MOST_PANELS:
        raise UsageError(f"--scatter draws 1 to {_MOST_PANELS} panels; found {count} results", fix="fewer models")


def scatter(report: Report, parts: Sequence[Part], path: Path) -> bytes:
    """One panel for each result: human score on the x axis, the model's on the y axis, with the line of equal scores.

    Both axes reach over the same range, so that a model whose scores lie closer together than people's is seen to.

    Raises:
        UsageError: more than 36 results.
        MemedgeError: matplotlib is absent.
    """
    rows = report.results
    check_panels(len(rows))
    columns = min(len(rows), 3)
    height = -(-len(rows) // columns)
    figure_, axes = _figure(4.2 * columns, 4.6 * height, height, columns)
    by_name = {(part.name, part.split): part for part in parts}
    for place, axis in enumerate(axes):
        if place >= len(rows):
            axis.set_visible(False)
            continue
        row = rows[place]
        part = by_name[row.data, row.split]
        known = part.scored(row.target)
        _panel(axis, row, part.human[row.target][known], part.models(row.target)[row.model][known])
    return _saved(figure_, path)


def _panel(axis: Any, row: Measured, human: Any, predicted: Any) -> None:
    low = float(min(human.min(), predicted.min()))
    high = float(max(human.max(), predicted.max()))
    room = max(0.03 * (high - low), 1e-3)
    limits = (low - room, high + room)
    axis.plot(limits, limits, color=_LINE, linewidth=0.8, zorder=1, label="equal scores")
    size, alpha = (14, 0.6) if len(human) <= 500 else (5, 0.35)
    axis.scatter(human, predicted, s=size, color=_POINTS, alpha=alpha, linewidths=0, zorder=2)
    axis.set(xlim=limits, ylim=limits, aspect="equal", xlabel="human score", ylabel="predicted score")
    rho = figure(row.figures.spearman, row.figures.spearman_interval)
    title = [
        *textwrap.wrap(row.model, _WRAP),
        f"{row.data} {row.split}, {row.target}: {row.figures.count} {row.unit}s",
        f"Spearman {rho}",
    ]
    # Names of files may hold what would be read as a formula.
    axis.set_title("\n".join(title), fontsize=9, parse_math=False)
    axis.legend(frameon=False, fontsize=8, loc="upper left")


def heat_map(found: Sequence[Matrix], path: Path) -> bytes:
    """One heat map for each target: models by data sets, Spearman, its interval and count written in the cells.

    Raises:
        MemedgeError: matplotlib is absent.
    """
    sets = max(len(matrix.sets) for matrix in found)
    models = sum(len(matrix.models) + 2 for matrix in found)
    figure_, axes = _figure(3.4 + 1.7 * sets, 0.6 + 0.62 * models, len(found), 1)
    image = None
    for axis, matrix in zip(axes, found, strict=True):
        image = _heat(axis, matrix)
    figure_.colorbar(image, ax=axes, label="Spearman correlation", shrink=0.8)
    return _saved(figure_, path)


def _heat(axis: Any, matrix: Matrix) -> Any:
    values = np.full((len(matrix.models), len(matrix.sets)), np.nan)
    for (model, name), result in matrix.cells.items():
        value = result.spearman
        values[matrix.models.index(model), matrix.sets.index(name)] = np.nan if value is None else value
    image = axis.imshow(values, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    for (model, name), result in matrix.cells.items():
        row, column = matrix.models.index(model), matrix.sets.index(name)
        dark = abs(values[row, column]) > 0.6
        between = result.spearman_interval
        more = "" if between is None else f"\n{between[0]:.2f} to {between[1]:.2f}"
        axis.text(
            column, row, f"{figure(result.spearman)}{more}\nn = {result.count}",
            ha="center", va="center", fontsize=8, color="white" if dark else _LINE,
        )  # fmt: skip
    axis.set_xticks(range(len(matrix.sets)), ["\n".join(textwrap.wrap(name, 18)) for name in matrix.sets], fontsize=8)
    axis.set_yticks(
        range(len(matrix.models)), ["\n".join(textwrap.wrap(name, 30)) for name in matrix.models], fontsize=8
    )
    for label in (*axis.get_xticklabels(), *axis.get_yticklabels()):
        label.set_parse_math(False)
    for place in range(1, len(matrix.sets)):
        axis.axvline(place - 0.5, color="white", linewidth=2)
    for place in range(1, len(matrix.models)):
        axis.axhline(place - 0.5, color="white", linewidth=2)
    axis.set_title(f"target {matrix.target}: models on data sets", fontsize=10, parse_math=False)
    return image


def _figure(width: float, height: float, rows: int, columns: int) -> tuple[Any, list[Any]]:
    """A figure without a window, and its axes in reading order."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MemedgeError("a plot needs matplotlib", fix="pip install 'memedge[plot]'") from None
    drawn = Figure(figsize=(width, height), layout="constrained")
    return drawn, list(drawn.subplots(rows, columns, squeeze=False).flat)


def _saved(drawn: Any, path: Path) -> bytes:
    """The picture in the format of the path's ending."""
    out = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; that is no reason to say anything.
        warnings.simplefilter("ignore")
        drawn.savefig(out, format=path.suffix[1:].lower(), dpi=120)
    return out.getvalue()
