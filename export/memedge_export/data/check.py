"""``memedge data check``: what a copy of a data set holds, beside the published figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .files import absent, duplicates
from .lamem import mean_scores
from .published import MEAN_OF_FIVE, Between, Figures, Published, published
from .readers import open_data, parse
from .records import SPLITS, DataSet

_NAMED = 5


@dataclass(frozen=True)
class Row:
    """One figure: what it is of, what was found, between what it was expected, where that is published."""

    what: str
    found: float
    expected: Between | None = None

    @property
    def agrees(self) -> bool | None:
        """Whether it lies in between; none where nothing is published."""
        return None if self.expected is None else self.expected[0] <= round(self.found, 4) <= self.expected[1]

    def line(self) -> str:
        """``train score mean  0.602  published 0.601 to 0.603  ok``."""
        words = [f"{self.what:<28}", f"{_text(self.found):>8}"]
        if self.expected is not None:
            low, high = self.expected
            range_text = _text(low) if low == high else f"{_text(low)} to {_text(high)}"
            words += [f"  published {range_text:<18}", "ok" if self.agrees else "differs"]
        return " ".join(words).rstrip()


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        data: the set, missing files included.
        missing: records whose file is not there: id and path.
        equal: ids of records that are the same file.
        source: where the published figures come from; empty where there are none.
    """

    data: DataSet
    rows: tuple[Row, ...]
    missing: tuple[tuple[str, Path], ...]
    equal: tuple[tuple[str, ...], ...]
    source: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether no file is missing and no figure differs from the published one."""
        return not self.missing and all(row.agrees is not False for row in self.rows)

    def lines(self) -> list[str]:
        """For people."""
        data = self.data
        lines = [f"{data.name}: {data.title or 'no title'}"]
        lines += [f"scores: {data.kind}"] if data.kind else []
        lines += [row.line() for row in self.rows]
        shown = ", ".join(f"'{path}'" for _, path in self.missing[:_NAMED])
        if self.missing:
            more = ", ..." if len(self.missing) > _NAMED else ""
            lines.append(f"missing: {len(self.missing)} of {len(data.records)} {data.unit}s: {shown}{more}")
        for group in self.equal[:_NAMED]:
            lines.append(f"the same file: {', '.join(group)}")
        if len(self.equal) > _NAMED:
            lines.append(f"and {len(self.equal) - _NAMED} more groups of equal files")
        lines += list(self.notes)
        lines.append(f"published figures: {self.source}" if self.source else "published figures: none")
        return lines

    def to_json(self) -> dict[str, Any]:
        """For programs; lists are whole."""
        return {
            "data": self.data.name,
            "unit": self.data.unit,
            "targets": list(self.data.targets),
            "passed": self.passed,
            "figures": [
                {"what": row.what, "found": row.found, "published": row.expected, "agrees": row.agrees}
                for row in self.rows
            ],
            "missing": [str(path) for _, path in self.missing],
            "duplicates": [list(group) for group in self.equal],
            "notes": list(self.notes),
            "source": self.source,
        }


def check(spec: str) -> Report:
    """Read the set that ``spec`` names and compare it.

    Raises:
        UsageError, DataError: it cannot be read at all; the file that was expected is named.
    """
    parsed = parse(spec, "memedge data check")
    data = open_data(spec, missing="keep")
    known = published(parsed, data)
    missing = absent(data.records)
    equal = [tuple(data.records[i].id for i in group) for group in duplicates([r.path for r in data.records])]
    rows = list(_counts(data, known))
    for target in data.targets:
        rows += _scores(data, target, known.targets.get(target) if known else None)
    rows += _people(data, known)
    count = known.duplicates if known else None
    rows.append(Row("groups of equal files", len(equal), None if count is None else (count, count)))
    notes: list[str] = []
    if parsed.kind == "lamem":
        try:
            rows += _figures("mean of five splits", list(mean_scores(parsed.path).values()), MEAN_OF_FIVE)
        except DataError as error:
            notes.append(f"the mean of the five splits was not formed: {error}")
    names = tuple((record.id, record.path) for record in missing)
    return Report(data, tuple(rows), names, tuple(equal), known.source if known else "", tuple(notes))


def _counts(data: DataSet, known: Published | None) -> Iterator[Row]:
    yield Row(f"scored {data.unit}s", len(data.records), (known.items, known.items) if known else None)
    for split in SPLITS:
        wanted = known.splits.get(split) if known else None
        found = sum(record.split == split for record in data.records)
        yield Row(split, found, None if wanted is None else (wanted, wanted))


def _scores(data: DataSet, target: str, known: Figures | None) -> Iterator[Row]:
    values = [score for record in data.records if (score := record.value(target)) is not None]
    yield Row(f"{target} scores", len(values))
    yield from _figures(target, values, known)
    responses = [record.responses[target] for record in data.records if target in record.responses]
    if responses:
        yield Row(f"{target} responses each", float(np.mean(responses)), known.responses if known else None)


def _figures(name: str, values: Sequence[float], known: Figures | None) -> Iterator[Row]:
    if not len(values):
        return
    scores = np.asarray(values, np.float64)
    found = known or Figures()
    yield Row(f"{name} mean", float(scores.mean()), found.mean)
    yield Row(f"{name} deviation", float(scores.std()), found.deviation)
    yield Row(f"{name} lowest", float(scores.min()), found.low)
    yield Row(f"{name} highest", float(scores.max()), found.high)


def _people(data: DataSet, known: Published | None) -> Iterator[Row]:
    """Human consistency, where the set ships halves."""
    from ..eval.people import consistency

    agreement = None if data.halves is None else consistency(data.halves, {})
    if agreement is not None:
        yield Row("human consistency", agreement.spearman, known.human if known else None)


def _text(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) > 1 else f"{value:.4g}"
