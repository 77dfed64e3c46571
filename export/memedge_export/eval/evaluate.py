"""Evaluate a checkpoint, a bundle or a model's newest run on a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from memedge.console import progress, status
from memedge.errors import UsageError

from .. import checkpoint, models, weights
from ..data.records import DataSet, Record
from ..errors import WeightsError
from .metrics import Result, evaluate

_CHUNK = 32


def predictions(target: Path, records: Sequence[Record], model: str | None = None) -> NDArray[np.float64]:
    """Scores of the pictures, 0..1, float64 ``[N]``.

    Args:
        target: a bundle's folder (run as a device runs it), or a weights file (run by torch).
        model: the model of a weights file that does not name its own.

    Raises:
        UsageError: no such target, or a weights file that does not say which model it is of.
    """
    if target.is_dir():
        return _of_bundle(target, records)
    if not target.is_file():
        raise UsageError(f"nothing to evaluate at '{target}'; expected a bundle's folder or a weights file")
    from ..train.feed import ValidationFeed

    _, info = weights.read_state(target)
    known = info.model if info is not None else model
    if known is None:
        raise UsageError(f"'{target}' does not say which model it is of", fix="--model")
    loaded = weights.load(known, str(target))
    for note in loaded.notes:
        status(note)
    with progress("scoring", len(records)) as bar:
        return ValidationFeed(records, loaded.preprocess).predict(loaded.model, progress=bar)[:, 0]


def _of_bundle(folder: Path, records: Sequence[Record]) -> NDArray[np.float64]:
    import memedge

    scores: list[float] = []
    with memedge.load(folder) as scorer, progress("scoring", len(records)) as bar:
        status(f"bundle '{scorer.bundle.manifest.name}', engine {scorer.engine}, {scorer.precision}")
        for begin in range(0, len(records), _CHUNK):
            part = [record.path for record in records[begin : begin + _CHUNK]]
            scores += [score.value for score in scorer.score_batch(part)]
            bar.advance(len(part))
    return np.array(scores)


def record_result(path: Path, data: DataSet, split: str, result: Result) -> None:
    """Write a result into a checkpoint's metadata, from where bundles and model cards take it.

    Raises:
        WeightsError: the file is not a checkpoint of ours.
    """
    state, info = weights.read_state(path)
    if info is None:
        raise WeightsError(f"'{path}' is not a checkpoint of memedge train; the result cannot be recorded in it")
    models.entry(info.model)
    training = msgspec.structs.replace(
        info.training,
        held_out=f"{data.name} {split} ({result.count} pictures)",
        spearman=result.spearman,
        spearman_interval=result.spearman_interval,
    )
    checkpoint.save(path, state, msgspec.structs.replace(info, training=training))


__all__ = ["evaluate", "predictions", "record_result"]
