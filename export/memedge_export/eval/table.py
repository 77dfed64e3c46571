"""Ours beside the published figures: one row for each figure of a card and each result of our own."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

from memedge.models import Figure, cards, references

from .recorded import Metric, Recorded
from .text import figure


@dataclass(frozen=True)
class Row:
    """One line of the table; texts, empty where nothing was published or measured."""

    model: str
    data: str
    split: str
    target: str
    metric: str
    published: str = ""
    source: str = ""
    published_note: str = ""
    ours: str = ""
    low: str = ""
    high: str = ""
    n: str = ""
    of: str = ""
    ours_note: str = ""


def rows(found: Sequence[Recorded], metric: Metric = "spearman", *, model: str = "", data: str = "") -> list[Row]:
    """All rows, in the order of the cards, results of unknown models and what people reach last.

    Args:
        model, data: only rows of this model and of this data set; empty: of all.
    """
    out: list[Row] = []
    left = [row for row in found if row.metric == metric]
    for card in cards():
        mine = [row for row in left if row.model == card.id]
        left = [row for row in left if row.model != card.id]
        used: set[int] = set()
        for published in card.figures:
            if published.metric != metric:
                continue
            matching = [i for i, row in enumerate(mine) if _same(published, row)]
            used.update(matching)
            out += [_row(card.id, published, mine[i]) for i in matching] or [_row(card.id, published, None)]
        out += [_row(card.id, None, row) for i, row in enumerate(mine) if i not in used]
    out += [_row(row.model, None, row) for row in left]
    out += [_row(reference.who, reference, None) for reference in references() if reference.metric == metric]
    return [
        row
        for row in out
        if (not model or row.model == model) and (not data or row.data.casefold().partition("#")[0] == data.casefold())
    ]


def _same(published: Figure, ours: Recorded) -> bool:
    """Whether both are of the same data set, split and target; LaMem's five splits are one set."""
    name = ours.data.partition("#")[0].casefold()
    return (name, ours.split, ours.target) == (published.data.casefold(), published.split, published.target)


def _row(model: str, published: Figure | None, ours: Recorded | None) -> Row:
    one = published or ours
    assert one is not None
    low, high = ("", "") if ours is None or ours.interval is None else (f"{end:.3f}" for end in ours.interval)
    return Row(
        model=model,
        data=_spelled(ours.data if ours is not None and "#" in ours.data else one.data),
        split=one.split,
        target=one.target,
        metric=one.metric,
        published="" if published is None else f"{published.value:g}",
        source="" if published is None else published.source,
        published_note="" if published is None else published.note,
        ours="" if ours is None else f"{ours.value:.3f}",
        low=low,
        high=high,
        n="" if ours is None or ours.count is None else str(ours.count),
        of="" if ours is None else ours.of,
        ours_note="" if ours is None else ours.note,
    )


def _spelled(data: str) -> str:
    """A data set's name as papers spell it, where a published figure names it."""
    name, hash_, number = data.partition("#")
    known = (one.data for one in (*(f for card in cards() for f in card.figures), *references()))
    return next((spelling for spelling in known if spelling.casefold() == name.casefold()), name) + hash_ + number


def to_csv(found: Sequence[Row]) -> str:
    """Every field by its name."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([field.name for field in fields(Row)])
    writer.writerows(astuple(row) for row in found)
    return out.getvalue()


def to_markdown(found: Sequence[Row]) -> str:
    """A table for people: notes in brackets after what they belong to."""
    head = ("Model", "Data set", "Split", "Target", "Published", "Source", "Ours [95 %]", "n", "Of")
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for row in found:
        interval = (float(row.low), float(row.high)) if row.low else None
        cells = (
            row.model,
            row.data,
            row.split,
            row.target,
            row.published,
            _noted(row.source, row.published_note),
            figure(float(row.ours), interval) if row.ours else "",
            row.n,
            _noted(row.of, row.ours_note),
        )
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _noted(text: str, note: str) -> str:
    return f"{text} ({note})" if note else text
