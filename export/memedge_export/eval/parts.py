"""The parts of data sets that are evaluated: which records, and their human scores by target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..data.files import absent, first_names
from ..data.readers import open_data, parse
from ..data.records import SPLITS, DataSet, Record
from ..errors import DataError

ALL = "all"
UNSCORED = "unscored"
"""The split of records that nobody scored: they can only be predicted."""


@dataclass
class Part:
    """One part of one data set, and what was found on it.

    Attributes:
        name: of the data set, once in an evaluation. split: as published, ``test500`` for that part of VideoMem's test.
        records: in the data set's order; ``positions`` are their places in ``DataSet.halves``.
        human: target to human scores, float64 ``[N]``, nan where a record has none.
        predicted: label of a model to target to its scores, float64 ``[N]``, nan where a record was skipped.
        skipped: index of a record to why it could not be read.
        sampling: preset of a video's frames for models that name none.
    """

    data: DataSet
    name: str
    split: str
    records: list[Record]
    positions: list[int]
    human: dict[str, NDArray[np.float64]]
    sampling: str = ""
    predicted: dict[str, dict[str, NDArray[np.float64]]] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)

    def scored(self, target: str) -> NDArray[np.bool_]:
        """Which records have a human score of ``target`` and could be read, ``[N]``."""
        known = np.isfinite(self.human[target])
        known[list(self.skipped)] = False
        return known

    def models(self, target: str) -> dict[str, NDArray[np.float64]]:
        """Label to predictions ``[N]`` of the models that predict ``target``."""
        return {label: found[target] for label, found in self.predicted.items() if target in found}


def open_parts(
    specs: Sequence[str],
    split: str,
    target: str = ALL,
    *,
    unscored: bool = False,
    may_miss: bool = False,
    sampling: str = "",
) -> list[Part]:
    """Read every data set and choose its records.

    Args:
        specs: ``KIND:PATH[#OPTION]`` each.
        split: train, val, test, all or unscored.
        target: one target, or ``all`` that a set has.
        unscored: keep records without a human score, to predict them.
        may_miss: records whose file is not there are left to whoever reads them.
        sampling: of videos, instead of each set's own.

    Raises:
        UsageError: another form or kind of data set.
        DataError: a set is missing or malformed, has no such split, no score of the target, or lacks files.
    """
    parts: list[Part] = []
    for spec in specs:
        part = _open(spec, split, target, unscored, sampling)
        same = sum((other.data.name, other.split) == (part.data.name, part.split) for other in parts)
        if same:
            part.name = f"{part.name} ({same + 1})"
        gone = [] if may_miss else absent(part.records)
        if gone:
            raise DataError(
                f"{part.name}: {len(gone)} of {len(part.records)} {part.data.unit}s are not there, "
                f"first {first_names(gone)}",
                fix="--skip-unreadable leaves them out and counts them",
            )
        parts.append(part)
    return parts


def _open(spec: str, split: str, target: str, unscored: bool, sampling: str) -> Part:
    data = open_data(spec, splits=SPLITS if split in (ALL, UNSCORED) else (split,), missing="keep")
    if not data.records and split != UNSCORED:  # whatever else the set has is said
        open_data(spec, missing="keep").split(split)
    if target != ALL and target not in data.targets:
        raise DataError(
            f"data set '{data.name}' has no scores of '{target}'; it has {', '.join(data.targets)}",
            fix=f"--target {data.targets[0]}",
        )
    targets = data.targets if target == ALL else (target,)
    if split == UNSCORED:
        return _unscored(data, targets, sampling)
    chosen = [
        number
        for number, record in enumerate(data.records)
        if (split == ALL or record.split == split)
        and (unscored or any(record.value(name) is not None for name in targets))
    ]
    records = [data.records[number] for number in chosen]
    human = {name: np.array([_value(record, name) for record in records], np.float64) for name in targets}
    scored = {name: values for name, values in human.items() if unscored or np.isfinite(values).any()}
    if not records or not scored:
        raise DataError(f"no {data.unit} of '{data.name}' {split} has a score of {' or '.join(targets)}; expected some")
    return Part(
        data=data,
        name=data.name,
        split=_published(parse(spec).option, split),
        records=records,
        positions=chosen,
        human=scored,
        sampling=_of_videos(data, sampling),
    )


def _unscored(data: DataSet, targets: Sequence[str], sampling: str) -> Part:
    if not data.unscored:
        raise DataError(f"'{data.name}' lists no {data.unit} without a score", fix="--split test")
    nobody = np.full(len(data.unscored), np.nan)
    return Part(
        data=data,
        name=data.name,
        split=UNSCORED,
        records=list(data.unscored),
        positions=[],
        human=dict.fromkeys(targets, nobody),
        sampling=_of_videos(data, sampling),
    )


def _of_videos(data: DataSet, sampling: str) -> str:
    return (sampling or data.sampling or "S7") if data.unit == "video" else ""


def _value(record: Record, target: str) -> float:
    score = record.value(target)
    return np.nan if score is None else score


def _published(option: str, split: str) -> str:
    """What the split is called beside published figures."""
    words = option.split(",")
    if any(word.startswith("split=") for word in words):
        return f"{split} of {option.partition('split=')[2].partition(',')[0].rpartition('/')[2]}"
    return "test500" if split == "test" and "test500" in words else split
