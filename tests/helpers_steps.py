"""Recipes run for a few steps: systems made narrow, and what each phase changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from memedge_engines.manifest import Preprocess
from memedge_export import models, weights
from memedge_export.data.records import DataSet
from memedge_export.models import system
from memedge_export.models.frame import FrameModel
from memedge_export.models.system import System, SystemEntry, build_system, system_entry
from memedge_export.train import state
from memedge_export.train.loop import Job, train
from memedge_export.train.recipe import Phase
from memedge_export.train.recipes import recipe_for

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def thin(name: str, by: float, *, dropout: bool = True, **fixed: Any) -> SystemEntry:
    """A system ``by`` times as wide, with ``fixed`` options of its builder; without ``dropout``, which hides in a few
    steps what is learnt, where that is said."""
    real = system_entry(name)
    assert real is not None

    def build(width: float = 1.0, **given: Any) -> System:
        network = real.build(by * width, **{**fixed, **given})
        for module in network.modules():
            if isinstance(module, torch.nn.Dropout) and not dropout:
                module.p = 0.0
        return network

    return dataclasses.replace(real, build=build)


def use_thin(monkeypatch: pytest.MonkeyPatch, name: str, by: float, **how: Any) -> SystemEntry:
    """The system is thin wherever its id is asked for."""
    entry = thin(name, by, **how)
    monkeypatch.setitem(system._systems, name, entry)
    return entry


def use_thin_resnet(monkeypatch: pytest.MonkeyPatch, name: str, preset: Preprocess) -> None:
    """A published ResNet a sixteenth as wide, on pictures of ``preset``. Its branches add little: without statistics
    of their own, 33 blocks of random weights would explode."""
    real = models.entry(name)

    def build(width: float) -> FrameModel:
        network = real.build(width / 16)
        with torch.no_grad():
            for key, tensor in network.named_parameters():
                if key.endswith(("bn2.weight", "bn3.weight")):
                    tensor.fill_(0.2)
        return network

    monkeypatch.setitem(models._entries, name, dataclasses.replace(real, build=build, preprocess=preset))


@dataclass(frozen=True)
class Learnt:
    """What a phase did.

    Attributes:
        phase: the recipe's, shortened. first: whether it is the first one, before which parts are fitted.
        losses: of its epochs.
        before, after: the network's state.
    """

    phase: Phase
    first: bool
    losses: list[float]
    before: Mapping[str, Tensor]
    after: Mapping[str, Tensor]

    def changed(self) -> set[str]:
        """Names of the tensors that are not what they were."""
        return {name for name, tensor in self.before.items() if not torch.equal(tensor, self.after[name])}

    def check(self, network: System | FrameModel, still: Collection[str] = ()) -> None:
        """What is frozen is the same to the bit, each trained group moved, the loss is finite and fell. ``still``:
        groups that no gradient reaches."""
        names = {name for name, _ in network.named_parameters()}
        groups = [{n for n in names if n == p or n.startswith(f"{p}.")} for p in self.phase.rates]
        trained = set().union(*groups)
        parts = network.fitted if isinstance(network, System) and (self.first or self.phase.refit) else ()
        fitted = tuple(f"{part.part}." for part in parts)
        moved = self.changed()
        for group, prefix in zip(groups, self.phase.rates, strict=True):
            assert bool(group & moved) == (prefix not in still), f"{prefix} in phase {self.phase.name}"
        frozen = {name for name in moved - trained if not name.startswith(fitted)}
        told = {name for name in frozen if not self._follows(name, trained)}
        assert not told, f"phase {self.phase.name} changed what it freezes: {sorted(told)}"
        assert torch.isfinite(torch.tensor(self.losses)).all()
        assert self.losses[-1] < self.losses[0], f"phase {self.phase.name}: {self.losses}"

    def _follows(self, name: str, trained: set[str]) -> bool:
        """Whether it is a statistic of a batch-norm that the phase runs in training mode."""
        norm, _, last = name.rpartition(".")
        mode = self.phase.batch_norm if f"{norm}.weight" in trained else self.phase.frozen_batch_norm
        return last in _STATISTICS and mode == "train"


def fresh(name: str, seed: int = 0, options: Mapping[str, str] | None = None) -> System | FrameModel:
    """A registered model as training begins with it."""
    entry = system_entry(name)
    if entry is None:
        return weights.build(models.entry(name), seed=seed)
    return build_system(entry, seed=seed, options=options)


def learn(
    name: str,
    data: DataSet,
    out: Path,
    *,
    epochs: int,
    least: float = 0.0,
    batch: int = 8,
    options: Mapping[str, str] | None = None,
) -> list[Learnt]:
    """Train a registered model by its default recipe, ``epochs`` of each phase. ``least``: smaller rates, which are
    meant for thousands of steps, are raised to it."""
    recipe = recipe_for(name)
    phases = tuple(
        msgspec.structs.replace(
            phase, epochs=epochs, rates={key: max(rate, least) for key, rate in phase.rates.items()}
        )
        for phase in recipe.phases
    )
    job = Job(name, [data], msgspec.structs.replace(recipe, phases=phases, batch=batch), out, options=options or {})
    states = [fresh(name, job.seed, job.options).state_dict()]
    rows: list[dict[str, Any]] = []

    def keep(run: state.Run) -> None:
        rows[:] = run.history
        if run.epoch == epochs:
            states.append(torch.load(out / state.STATE, weights_only=True)["model"])

    train(job, after_epoch=keep)
    found = []
    for number, phase in enumerate(phases):
        losses = [float(row["loss"]) for row in rows[number * epochs : (number + 1) * epochs]]
        found.append(Learnt(phase, not number, losses, states[number], states[number + 1]))
    return found
