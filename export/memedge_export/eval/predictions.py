"""Predictions as files: a CSV with every model's scores beside the human ones, and MediaEval's run file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np

from memedge.errors import UsageError

from .parts import Part


def to_csv(parts: Sequence[Part]) -> bytes:
    """Columns data, id, split, target, human, and one for each model; empty where there is no score.

    One row for each record and target, in the order of the data sets. Records that could not be read have no
    predictions.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    labels = list(dict.fromkeys(label for part in parts for label in part.predicted))
    writer.writerow(["data", "id", "split", "target", "human", *labels])
    for part in parts:
        for target, human in part.human.items():
            models = part.models(target)
            for number, record in enumerate(part.records):
                values = [models[label][number] if label in models else np.nan for label in labels]
                cells = ["" if np.isnan(value) else f"{value:.6f}" for value in (human[number], *values)]
                writer.writerow([part.name, record.id, record.split, target, *cells])
    return out.getvalue().encode()


def check_run(found: Sequence[str]) -> None:
    """Raise UsageError unless exactly one run, in words, was found."""
    if len(found) != 1:
        raise UsageError(
            f"--run-file holds one model's scores of one target on one set; found {len(found)}: {'; '.join(found)}",
            fix="--target, and one MODEL, --data, --engine and --precision",
        )


def to_run_file(parts: Sequence[Part], confidence: float | None = None) -> bytes:
    """``name,score`` or ``name,score,confidence`` lines as the MediaEval task takes them, without a header.

    Args:
        confidence: written in every row, for years whose form asks for it; none leaves the column out.

    Raises:
        UsageError: more than one data set, target or model, or a record without a score: a run is one and whole.
    """
    found = [(part, target, label) for part in parts for target in part.human for label in part.models(target)]
    check_run([f"{label} on {part.name}, {target}" for part, target, label in found])
    part, target, label = found[0]
    scores = part.models(target)[label]
    if np.isnan(scores).any():
        first = part.records[int(np.flatnonzero(np.isnan(scores))[0])]
        raise UsageError(f"--run-file needs a score of every {part.data.unit}; '{first.id}' has none")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    more = [] if confidence is None else [f"{confidence:g}"]
    writer.writerows([record.id, f"{score:.6f}", *more] for record, score in zip(part.records, scores, strict=True))
    return out.getvalue().encode()
