"""Figures of the released data sets, to compare a copy with.

Counted or measured on the released files, or stated by their papers; one unit in the last place is allowed. LaMem's
five splits differ, so its figures are ranges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .readers import Spec
from .records import DataSet

Between = tuple[float, float]


def _near(value: float, unit: float = 0.001) -> Between:
    return (round(value - unit, 6), round(value + unit, 6))


@dataclass(frozen=True)
class Figures:
    """Of one target's scores; an absent figure is not published."""

    mean: Between | None = None
    deviation: Between | None = None
    low: Between | None = None
    high: Between | None = None
    responses: Between | None = None


@dataclass(frozen=True)
class Published:
    """What a complete copy holds.

    Attributes:
        items: scored records.
        splits: records of each released split; empty where the split is not released.
        targets: figures by target.
        human: mean Spearman correlation of two halves of the people.
        duplicates: groups of equal files, where they were counted.
        source: where the figures come from.
    """

    items: int
    splits: Mapping[str, int] = field(default_factory=dict)
    targets: Mapping[str, Figures] = field(default_factory=dict)
    human: Between | None = None
    duplicates: int | None = None
    source: str = ""


_LAMEM = Published(
    58741,
    {"train": 45000, "val": 3741, "test": 10000},
    {"short_term": Figures((0.754, 0.758), (0.122, 0.126), (0.183, 0.28), (0.99, 1.0))},
    source="the released split files",
)
MEAN_OF_FIVE = Figures((0.755, 0.757), (0.115, 0.117), (0.265, 0.275), (0.995, 1.0))
"""LaMem's scores averaged over its five splits."""
_VIDEOMEM_TARGETS = {
    "short_term": Figures(_near(0.859), None, _near(0.388), _near(0.989), _near(36.3, 0.1)),
    "long_term": Figures(_near(0.779), None, _near(0.0), _near(1.0), _near(12.8, 0.1)),
}
_VIDEOMEM_DEV = Published(8000, targets=_VIDEOMEM_TARGETS, source="the development table of 2018 and 2019")
_VIDEOMEM = Published(
    10000,
    {"train": 6500, "val": 1500, "test": 2000},
    source="the paper's counts; the test scores' figures are not known",
)
_MEMENTO = Published(
    10000,
    {"train": 7000, "val": 1500, "test": 1500},
    {"short_term": Figures(_near(0.801, 0.002), _near(0.105, 0.002), _near(0.383), _near(1.0))},
    source="the paper's counts; MediaEval's tables of train and dev",
)
_MEMENTO_OPEN = Published(8500, {"train": 7000, "val": 1500}, _MEMENTO.targets, source=_MEMENTO.source)
_SUN = Published(
    2222,
    targets={
        "short_term": Figures(_near(0.675), _near(0.136), _near(0.189), _near(0.975)),
        "corrected": Figures(_near(0.568), None, _near(0.102), _near(0.960)),
    },
    human=_near(0.75, 0.01),
    source="the release's table of the targets; the paper",
)
_LNSIM_SCORES = {"short_term": Figures(_near(0.602), _near(0.136), _near(0.141), _near(0.946))}
_LNSIM = Published(2632, {}, _LNSIM_SCORES, _near(0.7785), 1, "the released files")
_LNSIM_PREPARED = Published(
    2371, {"train": 1844, "val": 263, "test": 264}, _LNSIM_SCORES, _near(0.779), 1, "the prepared copy's description"
)


def published(spec: Spec, data: DataSet) -> Published | None:
    """Figures of a complete copy in this form; none for a person's own data."""
    if spec.kind == "lamem":
        return _LAMEM
    if spec.kind == "videomem":
        if spec.option:
            return None  # another division, of the same files
        released = (spec.path / "test-set" / "ground-truth").is_dir()
        return _VIDEOMEM if released else _VIDEOMEM_DEV
    if spec.kind == "memento10k":
        return _MEMENTO if any(record.split == "test" for record in data.records) else _MEMENTO_OPEN
    if spec.kind == "sun":
        return _SUN
    if spec.kind == "lnsim":
        return _LNSIM_PREPARED if (spec.path / "scores.csv").is_file() else _LNSIM
    return None
