"""One record shape for every data set."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Record:
    """One scored picture or video.

    Attributes:
        id: its name in the data set, always text.
        path: of the picture or the video.
        score: of the data set's first target, 0..1; nan where nobody scored it.
        split: train, val or test.
        targets: every target's score by its name (``short_term``, ``long_term``), 0..1; empty: the first one only.
        responses: target to the number of responses behind its score, where the set tells.
        extra: further numbers by name (``alpha``: decay a video between).
        labels: words by name (``caption``, ``action``), where the set has them.
    """

    id: str
    path: Path
    score: float
    split: str
    targets: Mapping[str, float] = field(default_factory=dict)
    responses: Mapping[str, int] = field(default_factory=dict)
    extra: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def value(self, target: str) -> float | None:
        """The score of ``target``, or none where this record has none."""
        return self.targets.get(target) if self.targets else self.score


@dataclass(frozen=True)
class DataSet:
    """Records with what a model card has to say of them.

    Attributes:
        name: kind of the data set (``lnsim``) or name of its file.
        title: for people, with the citation.
        licence: what is known of it.
        unit: what a record is.
        targets: names of its targets, the first one being ``Record.score``.
        sampling: the preset by which the field samples frames of its videos (``S7``); empty for pictures.
        kind: what the scores are, for people (``hit rate corrected for the delay``).
        unscored: records that the set lists without any score, such as a task's test set: for predictions only.
        halves: scores by two halves of the people who scored it, float64 ``[2, R, records]`` over R random halvings,
            for the human consistency; none where the set ships none.
    """

    name: str
    records: tuple[Record, ...]
    title: str = ""
    licence: str = ""
    unit: Literal["picture", "video"] = "picture"
    targets: tuple[str, ...] = ("short_term",)
    sampling: str = ""
    kind: str = ""
    unscored: tuple[Record, ...] = ()
    halves: NDArray[np.float64] | None = field(default=None, compare=False, repr=False)

    def split(self, name: str) -> list[Record]:
        """The records of one split; ``all`` gives every record.

        Raises:
            DataError: no such split, or nothing in it.
        """
        if name == "all":
            return list(self.records)
        found = [record for record in self.records if record.split == name]
        if not found:
            there = sorted({record.split for record in self.records})
            predict = any(record.split == name for record in self.unscored)
            raise DataError(
                f"data set '{self.name}' has no split '{name}'{' with scores' if predict else ''}; it has "
                f"{', '.join(there) or 'no pictures'}",
                fix="memedge eval --split unscored predicts what has no score" if predict else None,
            )
        return found


def split_hash(sets: Sequence[DataSet]) -> str:
    """SHA-256 of every record's data set, id, score and split, in an order of its own: names a division of the data."""
    lines = sorted(f"{s.name}\t{r.id}\t{r.score:.6f}\t{r.split}" for s in sets for r in s.records)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def hashed(name: str, seed: int = 0) -> float:
    """A number of 0..1 that depends on the name and the seed alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big") / 2**64


def hashed_split(ids: Iterable[str], seed: int = 0, same: Mapping[str, str] | None = None) -> dict[str, str]:
    """A split for sets that come without one: 80 % train, 10 % val, 10 % test, by a seeded hash of the id.

    ``same``: a duplicate's id to that of the record it is a duplicate of, so that both are in one split.
    """
    chosen = {}
    for name in ids:
        part = hashed((same or {}).get(name, name), seed)
        chosen[name] = "train" if part < 0.8 else "val" if part < 0.9 else "test"
    return chosen


def score_of(text: str, table: Path, line: int) -> float | None:
    """The score 0..1 of a table's cell, or none where it is empty or not finite.

    Raises:
        DataError: not a number, or outside 0..1; the table and the line are named.
    """
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise DataError(f"'{table}' line {line}: score '{text}' is not a number") from None
    if not math.isfinite(value):
        return None
    if not 0 <= value <= 1:
        raise DataError(f"'{table}' line {line}: score {value:g}; expected 0..1")
    return value
