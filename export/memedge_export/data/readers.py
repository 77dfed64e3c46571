"""Readers of data sets that lie on disk. A set is named ``kind:PATH``; nothing is fetched.

``lnsim:DIR``: ``scores.csv`` (file, score, split), pictures in ``images/``.
``folder:FILE.csv``: columns file and score, and split where there is one; files are relative to the CSV's folder.
``tiny32:DIR``: labelled small pictures for pretraining, see :mod:`memedge_export.train.pretrain`.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Callable
from pathlib import Path

from memedge.console import status
from memedge.errors import UsageError

from ..errors import DataError
from .records import SPLITS, DataSet, Record, hashed_split, score_of

PRETRAINING = "tiny32"
_LNSIM_TITLE = (
    "LNSIM, 2,632 photographs of outdoor nature scenes with human memorability scores "
    "(J. Lu, M. Xu, R. Yang, Z. Wang: Understanding and Predicting the Memorability of Outdoor Natural Scenes, "
    "IEEE Transactions on Image Processing 29, 2020); two halves of the people who scored them agree at Spearman 0.78"
)
_LNSIM_LICENCE = (
    "LNSIM: no licence is stated by its authors, so the data, and weights fitted to it, are for research only"
)


def parse(spec: str) -> tuple[str, Path]:
    """Kind and path of ``kind:PATH``.

    Raises:
        UsageError: another form, or an unknown kind.
    """
    kind, colon, path = spec.partition(":")
    known = [*_READERS, PRETRAINING]
    if not colon or not path:
        raise UsageError(f"--data '{spec}'; expected KIND:PATH, for example lnsim:DIR or folder:FILE.csv")
    if kind not in known:
        near = difflib.get_close_matches(kind, known, 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise UsageError(f"--data '{spec}': no data set of kind '{kind}'{hint} There are {', '.join(known)}")
    return kind, Path(path)


def open_data(spec: str) -> DataSet:
    """The scored data set that ``spec`` names.

    Raises:
        UsageError: see :func:`parse`; or the kind has no scores.
        DataError: the set is missing, incomplete or malformed; the file that was expected is named.
    """
    kind, path = parse(spec)
    if kind not in _READERS:
        raise UsageError(f"--data '{spec}' has labels, no scores: it can only pretrain")
    return _READERS[kind](path)


def _lnsim(root: Path) -> DataSet:
    table = root / "scores.csv"
    if not table.is_file():
        raise DataError(f"lnsim: '{root}' has no scores.csv; expected scores.csv (file,score,split) and images/")
    return DataSet("lnsim", _records(table, root / "images", need_split=True), _LNSIM_TITLE, _LNSIM_LICENCE)


def _folder(table: Path) -> DataSet:
    if not table.is_file():
        raise DataError(f"folder: there is no file '{table}'; expected a CSV file with columns file,score[,split]")
    return DataSet(table.stem, _records(table, table.parent, need_split=False), f"pictures listed in {table.name}")


def _records(table: Path, root: Path, *, need_split: bool) -> tuple[Record, ...]:
    """Records of a CSV file with the columns file, score and, perhaps, split."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            rows = [{(k or "").strip(): (v or "").strip() for k, v in row.items() if k} for row in reader]
            columns = [c.strip() for c in reader.fieldnames or []]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read '{table}': {error}") from None
    needed = ("file", "score", "split") if need_split else ("file", "score")
    absent = [name for name in needed if name not in columns]
    if absent:
        raise DataError(f"'{table}' lacks the column {', '.join(absent)}; found {', '.join(columns) or 'none'}")
    parts = {} if "split" in columns else hashed_split(row["file"] for row in rows)
    records, unscored, missing = [], 0, []
    for line, row in enumerate(rows, start=2):
        path = _inside(root, row["file"], table, line)
        score = score_of(row["score"], table, line)
        split = row["split"] if "split" in columns else parts[row["file"]]
        if split not in SPLITS:
            raise DataError(f"'{table}' line {line}: split '{split}'; expected {', '.join(SPLITS)}")
        if score is None:
            unscored += 1
        elif not path.is_file():
            missing.append(str(path))
        else:
            records.append(Record(row["file"], path, score, split))
    if missing:
        raise DataError(
            f"'{table}' names {len(missing)} of {len(rows)} pictures that are not there, first '{missing[0]}'"
        )
    if not records:
        raise DataError(f"'{table}' holds no scored pictures")
    if unscored:
        status(f"{table}: {unscored} rows without a score were left out")
    return tuple(records)


def _inside(root: Path, name: str, table: Path, line: int) -> Path:
    """``root / name``; refused when it leaves ``root``."""
    path = Path(name)
    if not name or path.is_absolute() or ".." in path.parts:
        raise DataError(f"'{table}' line {line}: file '{name}'; expected a name below '{root}'")
    return root / path


_READERS: dict[str, Callable[[Path], DataSet]] = {"lnsim": _lnsim, "folder": _folder}
