"""What is learnt: records of several data sets and their scores on one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..checkpoint import ScoreScale
from ..data.records import DataSet, Record
from ..errors import DataError
from .inputs import Inputs
from .losses import ScoreStatistics


@dataclass(frozen=True)
class Material:
    """Training records and what is learnt of them.

    Attributes:
        targets: float32 ``[N, T]``, nan where a record has no such score, all sets on the first one's scale.
        extra: further numbers, float32 ``[N]`` each, nan where a record has none.
        scales: of each set, for the checkpoint.
    """

    records: list[Record]
    targets: NDArray[np.float32]
    extra: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    scales: tuple[ScoreScale, ...] = ()

    def statistics(self) -> ScoreStatistics:
        """Of the targets: what losses and heads start from."""
        first = self.targets[np.isfinite(self.targets[:, 0]), 0].astype(np.float64)
        cuts = {k: tuple(float(v) for v in np.quantile(first, np.arange(1, k) / k)) for k in range(2, 9)}
        means = tuple(float(v) for v in np.nanmean(self.targets.astype(np.float64), axis=0))
        return ScoreStatistics(float(first.mean()), float(first.std()), cuts, means)


@dataclass(frozen=True)
class Sample:
    """One batch: what the network is shown, targets ``[N,T]``, further numbers ``[N]``."""

    inputs: Inputs
    targets: Tensor
    extra: Mapping[str, Tensor]


def training_scores(
    sets: Sequence[DataSet], targets: Sequence[str] = (), how: Literal["moments", "minmax"] = "moments"
) -> Material:
    """Training records of all sets and their targets, on the first set's scale.

    A further set's scores y become ``m + (y - m_d) * s / s_d`` with each set's training mean m and deviation s
    (``moments``), or are stretched from its range to the first one's (``minmax``); both are clipped to 0..1.

    Raises:
        DataError: no training record has a score of a target.
    """
    wanted = tuple(targets) or sets[0].targets[:1]
    records: list[Record] = []
    columns: list[NDArray[np.float64]] = []
    scales: list[ScoreScale] = []
    reference: dict[str, ScoreScale] = {}
    for data in sets:
        part = data.split("train")
        found = np.full((len(part), len(wanted)), np.nan)
        for column, target in enumerate(wanted):
            scores = np.array([_value(record, target) for record in part])
            known = scores[np.isfinite(scores)]
            if not len(known):
                continue
            scale = ScoreScale(
                data=data.name,
                target=target,
                mean=float(known.mean()),
                deviation=float(known.std()),
                low=float(known.min()),
                high=float(known.max()),
            )
            scales.append(scale)
            found[:, column] = _rescaled(scores, scale, reference.setdefault(target, scale), how)
        records += part
        columns.append(found)
    values = np.concatenate(columns).astype(np.float32)
    for column, target in enumerate(wanted):
        if not np.isfinite(values[:, column]).any():
            there = sorted({name for data in sets for name in data.targets})
            raise DataError(f"no training record has a score of target '{target}'; the sets have {', '.join(there)}")
    names = sorted({name for record in records for name in record.extra})
    extra = {name: np.array([r.extra.get(name, np.nan) for r in records], np.float32) for name in names}
    return Material(records, values, extra, tuple(scales))


def values_of(records: Sequence[Record], targets: Sequence[str]) -> NDArray[np.float64]:
    """Scores ``[N, T]``, nan where a record has none."""
    return np.array([[_value(record, target) for target in targets] for record in records], np.float64)


def _value(record: Record, target: str) -> float:
    score = record.value(target)
    return float("nan") if score is None else score


def _rescaled(
    scores: NDArray[np.float64], own: ScoreScale, first: ScoreScale, how: Literal["moments", "minmax"]
) -> NDArray[np.float64]:
    if own is first:
        return scores
    if how == "minmax":
        width = own.high - own.low
        moved = first.low + (scores - own.low) * ((first.high - first.low) / width if width > 0 else 1.0)
    elif own.deviation > 0:
        moved = first.mean + (scores - own.mean) * first.deviation / own.deviation
    else:
        moved = scores
    clipped: NDArray[np.float64] = moved.clip(0, 1)
    return clipped
