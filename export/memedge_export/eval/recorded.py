"""Results of our own, from where they were recorded: ``*.eval.json`` files, checkpoints and bundles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from memedge.errors import UsageError
from memedge_engines.bundle import MANIFEST, Bundle
from memedge_engines.manifest import Training

from .. import weights
from .bootstrap import Interval
from .evaluate import held_out
from .report import SUFFIX, read

Metric = Literal["spearman", "pearson"]
FIVE_SPLITS = "mean of the five splits"
_CHECKPOINT = ".safetensors"
_LAMEM = "lamem"
_NUMBERS = ("1", "2", "3", "4", "5")


@dataclass(frozen=True)
class Recorded:
    """One recorded result.

    Attributes:
        model: registered id. data, split, target: what it was measured on.
        value, interval: of the metric; no interval where none was recorded.
        count: records, or none for a mean over splits.
        of: which weights, engine and precision.
        note: what is special about it.
        created: UTC text where known; later ones replace earlier ones of the same weights.
    """

    model: str
    data: str
    split: str
    target: str
    metric: Metric
    value: float
    interval: Interval | None
    count: int | None
    of: str
    note: str = ""
    created: str = ""


def collect(places: Sequence[Path], metric: Metric = "spearman") -> list[Recorded]:
    """What was recorded in files, bundles and everything below folders; of the same figures the first found counts.

    Untrained models and results without a correlation are left out.

    Raises:
        UsageError: nothing there.
        DataError, WeightsError, BundleError: a file that was named, or found, cannot be read.
    """
    found: list[Recorded] = []
    for place in places:
        if place.is_dir() and not (place / MANIFEST).is_file():
            paths = sorted(p for p in place.rglob("*") if p.name.endswith((SUFFIX, "best.safetensors")))
        elif place.exists():
            paths = [place]
        else:
            raise UsageError(
                f"there is no '{place}'; expected *{SUFFIX} files, checkpoints, bundles or folders of them"
            )
        for path in paths:
            found += _of(path, metric)
    return _each_once([*found, *_five_splits(found)])


def _of(path: Path, metric: Metric) -> list[Recorded]:
    if path.is_dir():
        manifest = Bundle.open(path).manifest
        target = manifest.primary.name
        return _of_training(
            manifest.provenance.training, manifest.provenance.model, target, f"bundle {manifest.name}", metric
        )
    if path.name.endswith(_CHECKPOINT):
        _, info = weights.read_state(path)
        if info is None:
            return []
        name = path.parent.name if path.stem == "best" else path.stem
        return _of_training(info.training, info.model, info.targets[0], f"checkpoint {name}", metric)
    return _of_report(path, metric)


def _of_report(path: Path, metric: Metric) -> list[Recorded]:
    report = read(path)
    found = []
    for row in report.results:
        model, figures = report.model(row.model), row.figures
        value = getattr(figures, metric)
        if value is None or model.untrained:
            continue
        skipped = f"{row.skipped} left out" if row.skipped else ""
        found.append(
            Recorded(
                model=model.model,
                data=row.data,
                split=row.split,
                target=row.target,
                metric=metric,
                value=value,
                interval=getattr(figures, f"{metric}_interval"),
                count=figures.count,
                of=model.label if model.kind == "bundle" else f"{model.label} {model.engine} {model.precision}",
                note=skipped,
                created=report.created,
            )
        )
    return found


def _of_training(training: Training, model: str, target: str, of: str, metric: Metric) -> list[Recorded]:
    said = held_out(training.held_out)
    if said is None or training.spearman is None or training.status == "untrained" or metric != "spearman":
        return []
    return [
        Recorded(
            model,
            said.data,
            said.split,
            target,
            metric,
            training.spearman,
            training.spearman_interval,
            said.count,
            of,
            said.note,
        )
    ]


def _five_splits(found: Iterable[Recorded]) -> list[Recorded]:
    """Means over LaMem's five splits, where a model was measured on each: what the field reports."""
    groups: dict[tuple[str, str, str, str], dict[str, Recorded]] = {}
    for row in found:
        name, _, number = row.data.partition("#")
        if name == _LAMEM and (number or "1") in _NUMBERS:
            how = row.of.rpartition(" ")[2] if row.created else row.of.partition(" ")[0]
            group = groups.setdefault((row.model, row.split, row.target, how), {})
            known = group.get(number or "1")
            if known is None or row.created > known.created:
                group[number or "1"] = row
    means = []
    for (_, _, _, how), group in groups.items():
        if len(group) == len(_NUMBERS):
            values = [row.value for row in group.values()]
            note = f"{FIVE_SPLITS}, standard deviation {np.std(values, ddof=1):.3f}"
            first = group["1"]
            means.append(
                replace(
                    first, value=float(np.mean(values)), interval=None, count=None, of=f"five models, {how}", note=note
                )
            )
    return means


def _each_once(found: Iterable[Recorded]) -> list[Recorded]:
    kept: dict[tuple[object, ...], Recorded] = {}
    for row in found:
        same = (row.model, row.data, row.split, row.target, f"{row.value:.5f}", row.count)
        kept.setdefault(same, row)
    newest: dict[tuple[object, ...], Recorded] = {}
    for row in kept.values():
        key = (row.model, row.data, row.split, row.target, row.of)
        known = newest.get(key)
        if known is None or row.created > known.created:
            newest[key] = row
    return list(newest.values())
