"""LaMem as released (Khosla et al., ICCV 2015): ``splits/{train,val,test}_{1..5}.txt`` and ``images/``.

A line is a file name, a blank and a score. Train, validation and test lists of one number belong together; across
numbers they overlap and the same picture has another score, so one number is read and no other. What the field reports
over all five is the mean of five results, each of a model trained and tested on one number: :func:`over_splits`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError
from .lists import division, read_lists
from .records import SPLITS, DataSet

TITLE = (
    "LaMem, 58,741 photographs with human memorability scores (A. Khosla, A. Raju, A. Torralba, A. Oliva: Understanding"
    " and Predicting Image Memorability at a Large Scale, ICCV 2015)"
)
LICENCE = "LaMem: offered for academic research and education only"
NUMBERS = (1, 2, 3, 4, 5)


def read_lamem(root: Path, number: int = 1, splits: tuple[str, ...] = SPLITS) -> DataSet:
    """Records of one split number. Whether each picture is there is not looked up.

    Args:
        root: folder with ``splits/`` and ``images/``.
        number: 1 to 5.
        splits: which lists to read; the others need not be there.

    Raises:
        DataError: a list or ``images/`` is missing, or a line has another form; the file is named.
    """
    lists = {split: root / "splits" / f"{split}_{number}.txt" for split in splits}
    records = tuple(read_lists("lamem", root / "images", lists))
    name = "lamem" if number == 1 else f"lamem#{number}"
    return DataSet(name, records, TITLE, LICENCE, kind="hit rate corrected for the delay")


def read(root: Path, option: str, splits: tuple[str, ...]) -> DataSet:
    """``lamem:DIR`` or ``lamem:DIR#2``. Raises UsageError for another number, and as :func:`read_lamem`."""
    return read_lamem(root, division(option, len(NUMBERS), "lamem"), splits)


@dataclass(frozen=True)
class SplitFigures:
    """One figure on each of the five splits. ``deviation`` is the sample's, between splits."""

    values: tuple[float, ...]
    mean: float
    deviation: float


def over_splits(root: Path, measure: Callable[[DataSet], float]) -> SplitFigures:
    """``measure`` of each of the five splits by itself, and the mean.

    Raises:
        DataError: one of the five is not there.
    """
    values = tuple(measure(read_lamem(root, number)) for number in NUMBERS)
    return SplitFigures(values, float(np.mean(values)), float(np.std(values, ddof=1)))


def mean_scores(root: Path) -> dict[str, float]:
    """Every picture's score, averaged over the five splits, for figures of the whole set: not to train or test on.

    Raises:
        DataError: a list is missing, or a split does not hold the same pictures as the others.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for number in NUMBERS:
        for record in read_lamem(root, number).records:
            found[record.id].append(record.score)
    short = [name for name, scores in found.items() if len(scores) != len(NUMBERS)]
    if short:
        raise DataError(f"lamem: {len(short)} pictures are not in all five splits, first {short[0]}")
    return {name: float(np.mean(scores)) for name, scores in found.items()}
