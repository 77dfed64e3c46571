"""Trainings of the tiny systems on small videos, for several test modules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from helpers_systems import ENTRIES
from memedge_export.data import open_data
from memedge_export.models import system
from memedge_export.models.system import System, SystemEntry
from memedge_export.train.loop import Job
from memedge_export.train.recipe import Augmentation, Phase, Recipe

PARTS = {
    "frame": ("head", "trunk"),
    "clip": ("head", "conv1"),
    "sequence": ("head", "picture"),
    "hybrid": ("head", "picture"),
}
PLAIN = Augmentation(place="center", mirror=False)


def two_phases(key: str, epochs: int = 2, **fields: object) -> Recipe:
    head, trunk = PARTS[key]
    phases = (
        Phase(name="head", epochs=epochs, rates={head: 1e-2}),
        Phase(name="all", epochs=epochs, rates={head: 1e-2, trunk: 1e-3}, batch_norm="train"),
    )
    return Recipe(phases=phases, batch=4, **fields)  # type: ignore[arg-type]


def job(clips: Path, out: Path, key: str, recipe: Recipe | None = None, **fields: object) -> Job:
    data = open_data(f"videomem:{clips}#split=split.csv")
    return Job(f"tiny-{key}", [data], recipe or two_phases(key), out, **fields)  # type: ignore[arg-type]


def use(monkeypatch: pytest.MonkeyPatch, key: str, change: Callable[[System], System]) -> None:
    """A system of a kind, changed after it was built."""
    entry = ENTRIES[key]
    made = SystemEntry(entry.id, lambda *a, **k: change(entry.build(*a, **k)), entry.options)
    monkeypatch.setitem(system._systems, entry.id, made)
