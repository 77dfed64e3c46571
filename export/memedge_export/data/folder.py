"""A person's own data: a CSV file beside pictures or videos.

Columns ``file`` and ``score``; ``split`` (train, val, test), else one is made by a hash; ``alpha`` (decay),
``caption``, ``action`` and ``responses`` where there are some. Every further column of numbers 0..1 is a target of its
name (``long_term``). Files are relative to the CSV's folder, and are all pictures or all videos.
"""

from __future__ import annotations

import math
from pathlib import Path

from memedge.console import status
from memedge.errors import UsageError
from memedge.sources.names import is_picture

from ..errors import DataError
from .records import SPLITS, DataSet, Record, hashed_split, score_of
from .table import Table, below, read_table, tell_left_out

FIRST = "short_term"
_OWN = {"file", "score", "split", "id", "alpha", "caption", "action", "responses"}
_USUAL = "scores.csv"


def read(root: Path, option: str = "", splits: tuple[str, ...] = SPLITS) -> DataSet:
    """``folder:FILE.csv``, or ``folder:DIR`` with ``scores.csv`` or one CSV file in it.

    Raises:
        UsageError: an option; there are none.
        DataError: no such file, or a malformed one; the line is named.
    """
    if option:
        raise UsageError(f"folder:FILE.csv#{option}; there is nothing to choose")
    path = _table(root)
    found = records_of(read_table(path, ("file", "score")), path.parent)
    return DataSet(
        path.stem if root.is_file() else root.resolve().name,
        found.records,
        f"{found.unit}s listed in {path.name}",
        unit=found.unit,
        targets=found.targets,
        sampling="S7" if found.unit == "video" else "",
        unscored=found.unscored,
    )


def _table(root: Path) -> Path:
    if not root.is_dir():
        if not root.is_file():
            raise DataError(f"folder: there is no file '{root}'; expected a CSV file with columns file,score[,split]")
        return root
    tables = sorted(root.glob("*.csv"))
    usual = root / _USUAL
    if usual in tables:
        return usual
    if len(tables) != 1:
        raise DataError(f"folder: '{root}' holds {len(tables)} CSV files; expected {_USUAL}, or one alone")
    return tables[0]


def records_of(table: Table, root: Path) -> DataSet:
    """The records of a table whose files lie below ``root``; title and licence are left to the caller.

    Raises:
        DataError: a row has another form, pictures and videos are mixed, or nothing has a score.
    """
    path = table.path
    targets = _targets(table)
    names = table.column("file")
    has_split = "split" in table.columns
    parts = {} if has_split else hashed_split(names)
    found: dict[str, Record] = {}
    unscored: dict[str, Record] = {}
    for index, row in enumerate(table.rows):
        name, place = row["file"], table.place(index)
        file = below(root, name, place)
        score = score_of(row["score"], path, index + 2)
        split = row["split"] if has_split else parts[name]
        if split not in SPLITS:
            raise DataError(f"{place}: split '{split}'; expected {', '.join(SPLITS)}")
        if name in found or name in unscored:
            raise DataError(f"{place}: {name} for the second time; expected each file once")
        if score is None:
            unscored[name] = Record(name, file, math.nan, split)
            continue
        values = {t: s for t in targets if (s := score_of(row[t], path, index + 2)) is not None}
        alpha, count = _number(row, "alpha", place), _number(row, "responses", place)
        found[name] = Record(
            name,
            file,
            score,
            split,
            {FIRST: score, **values},
            {} if count is None else {FIRST: int(count)},
            {} if alpha is None else {"alpha": alpha},
            {key: (row[key],) for key in ("caption", "action") if row.get(key)},
        )
    if not found and not unscored:
        raise DataError(f"'{path}' holds no scored pictures or videos")
    tell_left_out(path, len(unscored))
    listed = [*found.values(), *unscored.values()]
    videos = [record for record in listed if not is_picture(record.path)]
    pictures = len(listed) - len(videos)
    if videos and pictures:
        raise DataError(
            f"'{path}' names {pictures} pictures and {len(videos)} videos, first {videos[0].id}; expected one kind",
            fix="two CSV files, each with its own --data",
        )
    return DataSet(
        path.stem,
        tuple(found.values()),
        unit="video" if videos else "picture",
        targets=(FIRST, *targets),
        unscored=tuple(unscored.values()),
    )


def _targets(table: Table) -> list[str]:
    """Further columns that are scores of 0..1; the others are named on stderr."""
    found = []
    for name in table.columns:
        if name in _OWN:
            continue
        cells = [cell for cell in table.column(name) if cell]
        wrong = next((cell for cell in cells if not _is_score(cell)), None)
        if wrong is not None or not cells:
            status(f"{table.path}: column {name} is no target: '{wrong or ''}'; expected scores of 0..1")
        elif name == FIRST:
            raise DataError(f"'{table.path}': column {FIRST}; the column score is that target already")
        else:
            found.append(name)
    return found


def _is_score(cell: str) -> bool:
    try:
        value = float(cell)
    except ValueError:
        return False
    return not math.isfinite(value) or 0 <= value <= 1


def _number(row: dict[str, str], column: str, place: str) -> float | None:
    text = row.get(column, "")
    try:
        value = float(text) if text else math.nan
    except ValueError:
        raise DataError(f"{place}: {column} '{text}' is not a number") from None
    return value if math.isfinite(value) else None
