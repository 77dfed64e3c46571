"""LNSIM (Lu et al., IEEE TIP 2020), as released or as a prepared copy.

Released: ``Image_data/0001.jpg ... 2632.jpg``, ``Random_splits/subject_hrs1.mat`` and ``subject_hrs2.mat``, whose
column j is picture j. A picture's score is the mean over both files and all rows, which is the score of all people; the
``hrs.mat`` that the readme speaks of was never released. No split: one is made by a hash, duplicates together.

Prepared: ``scores.csv`` (file, score, split), ``images/`` and, for the human consistency, ``halves.csv`` (file, then
a_01, b_01, a_02 ...: scores of the two halves of the people in each random halving).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memedge.errors import UsageError

from ..errors import DataError
from .files import duplicates
from .folder import records_of
from .matlab import read_halves
from .records import SPLITS, DataSet, Record, hashed_split
from .table import read_table

TITLE = (
    "LNSIM, 2,632 photographs of outdoor nature scenes with human memorability scores "
    "(J. Lu, M. Xu, R. Yang, Z. Wang: Understanding and Predicting the Memorability of Outdoor Natural Scenes, "
    "IEEE Transactions on Image Processing 29, 2020); two halves of the people who scored them agree at Spearman 0.78"
)
LICENCE = "LNSIM: no licence is stated by its authors, so the data, and weights fitted to it, are for research only"
KIND = "hit rate"
_HALF = re.compile(r"([ab])_(\d+)")


def read(root: Path, option: str = "", splits: tuple[str, ...] = SPLITS) -> DataSet:
    """``lnsim:DIR``.

    Raises:
        UsageError: an option; there are none.
        DataError: neither form lies there, or it is incomplete; the file that was expected is named.
    """
    if option:
        raise UsageError(f"lnsim:DIR#{option}; there is nothing to choose")
    if (root / "scores.csv").is_file():
        return _prepared(root)
    if (root / "Image_data").is_dir() or (root / "Random_splits").is_dir():
        return _released(root)
    raise DataError(
        f"lnsim: '{root}' has no scores.csv; expected scores.csv (file,score,split) and images/, or the release:"
        " Image_data/ and Random_splits/"
    )


def _prepared(root: Path) -> DataSet:
    records = records_of(read_table(root / "scores.csv", ("file", "score", "split")), root / "images").records
    return DataSet("lnsim", records, TITLE, LICENCE, kind=KIND, halves=_prepared_halves(root / "halves.csv", records))


def _prepared_halves(path: Path, records: tuple[Record, ...]) -> NDArray[np.float64] | None:
    if not path.is_file():
        return None
    table = read_table(path, ("file",))
    halvings = sorted({m.group(2) for name in table.columns if (m := _HALF.fullmatch(name))})
    rows = {row["file"]: row for row in table.rows}
    lacking = [record.id for record in records if record.id not in rows]
    if not halvings or lacking:
        what = f"lacks {lacking[0]}" if lacking else "has no columns a_01, b_01"
        raise DataError(f"'{path}' {what}; expected file, a_01, b_01, a_02 ... for every file of scores.csv")
    found = np.empty((2, len(halvings), len(records)))
    for half, letter in enumerate("ab"):
        for place, number in enumerate(halvings):
            name = f"{letter}_{number}"
            try:
                found[half, place] = [float(rows[record.id][name] or "nan") for record in records]
            except (KeyError, ValueError):
                raise DataError(f"'{path}': column {name} is missing or holds something else than numbers") from None
    return found


def _released(root: Path) -> DataSet:
    folder = root / "Image_data"
    if not folder.is_dir():
        raise DataError(
            f"lnsim: there is no folder '{folder}'; expected the pictures 0001.jpg ... in it",
            fix="later commits pack them: join images.z01 and images.zip and unpack them there",
        )
    halves = read_halves(root / "Random_splits")
    scores = halves.mean(axis=(0, 1))
    names = [f"{number:04d}.jpg" for number in range(1, halves.shape[2] + 1)]
    paths = [folder / name for name in names]
    same = {names[index]: names[group[0]] for group in duplicates(paths) for index in group}
    split = hashed_split(names, same=same)
    wrong = [name for name, score in zip(names, scores, strict=True) if not 0 <= score <= 1]
    if wrong:
        raise DataError(f"lnsim: the scores of {len(wrong)} pictures are not in 0..1, first {wrong[0]}")
    records = tuple(Record(n, p, float(s), split[n]) for n, p, s in zip(names, paths, scores, strict=True))
    return DataSet("lnsim", records, TITLE, LICENCE, kind=KIND, halves=halves)
