"""Cross-validation: folds of pictures or whole videos, alike in their scores, duplicates together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .files import duplicates
from .records import DataSet, Record

LEAST = 2


def folds(records: Sequence[Record], count: int, seed: int = 0) -> NDArray[np.intp]:
    """The fold 0 .. ``count`` - 1 of each record, ``[N]``.

    Records are sorted by score and cut into runs of ``count``; each run is dealt out at random, one to each fold, so
    that every fold has every score quantile and sizes differ by the size of a group of duplicates at most. Files of the
    same bytes are one: they go together, at their mean score. The result depends on ids, scores, duplicates and
    ``seed``, not on the order of the records.

    Raises:
        DataError: fewer than two folds, or fewer records than folds.
    """
    groups = _groups(records)
    if not LEAST <= count <= len(groups):
        raise DataError(f"{count} folds of {len(groups)} different files; expected 2 to as many as there are files")
    names = [min(records[index].id for index in group) for group in groups]
    scores = [float(np.mean([records[index].score for index in group])) for group in groups]
    order = sorted(range(len(groups)), key=lambda g: (scores[g], names[g]))
    rng = np.random.default_rng(seed)
    found = np.empty(len(records), np.intp)
    for begin in range(0, len(order), count):
        for group, fold in zip(order[begin : begin + count], rng.permutation(count), strict=False):
            found[groups[group]] = fold
    return found


def with_fold(data: DataSet, number: int, count: int, seed: int = 0) -> DataSet:
    """The set with fold ``number`` (from 1) of train and val as its val, the other folds as its train; test stays out.

    Raises:
        DataError: no such fold, or too few records.
    """
    if not 1 <= number <= count:
        raise DataError(f"fold {number} of {count}; expected 1 to {count}")
    inner = [index for index, record in enumerate(data.records) if record.split in ("train", "val")]
    fold = folds([data.records[index] for index in inner], count, seed)
    changed = list(data.records)
    for index, part in zip(inner, fold, strict=True):
        changed[index] = replace(changed[index], split="val" if part == number - 1 else "train")
    return replace(data, records=tuple(changed))


def _groups(records: Sequence[Record]) -> list[list[int]]:
    """Indexes of records that are one file, each record in one group."""
    found = duplicates([record.path for record in records])
    taken = {index for group in found for index in group}
    return found + [[index] for index in range(len(records)) if index not in taken]
