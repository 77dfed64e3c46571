"""What the loop trains: a frame model or a system, each with what it is fed and what a checkpoint says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from memedge.console import status
from memedge.errors import UsageError

from .. import models, system_weights, weights
from ..checkpoint import CheckpointInfo
from ..errors import TrainingError
from ..models.frame import FrameModel
from ..models.system import System, SystemEntry, build_system, system_entry
from . import domain, losses
from .batches import Batches
from .callers import caller_of
from .feed import SAMPLING, TrainingFeed, ValidationFeed
from .fit_data import fit_parts, start_at_mean
from .losses import Classes, ScoreStatistics
from .material import Material
from .recipe import Phase
from .system_domain import record_domain
from .system_feed import SystemTrainingFeed, SystemValidationFeed

if TYPE_CHECKING:
    from .loop import Job

FRAMES = "frames"
"""Decoded frames of videos, below the run's folder."""


class Validation(Protocol):
    """Records that the weights are judged by."""

    targets: NDArray[np.float64]

    def begin(self, network: Any, phase: Phase) -> None:
        """A phase begins; the network is in its modes."""
        ...

    def predict(self, network: Any) -> NDArray[np.float64]:
        """Scores ``[N, T]``, 0..1."""
        ...


class Feed(Protocol):
    """What a training is fed: :class:`Batches` that are told when a phase begins."""

    material: Material

    def __len__(self) -> int: ...

    @property
    def epoch(self) -> Any:
        """See :meth:`Batches.epoch`."""
        ...

    def begin(self, network: Any, phase: Phase) -> None:
        """A phase begins; the network is in its modes."""
        ...


@dataclass
class Learner:
    """One training's network and all that hangs on its kind.

    Attributes:
        start: what checkpoints among the start weights say of themselves.
        what: beside the job's, what must be the same for a run to be resumed.
        says: fields of :class:`CheckpointInfo` that depend on the kind.
        fit: called when a phase begins afresh, the network being on its device; whether the network has changed.
        record_domain: writes the statistics of training's embeddings into a checkpoint.
    """

    network: FrameModel | System
    feed: Feed
    validation: Validation
    start: Sequence[CheckpointInfo]
    what: list[object]
    says: Mapping[str, Any]
    fit: Callable[[int, Phase], bool]
    record_domain: Callable[[Path], None]
    licences: Sequence[str] = field(default_factory=list)


def open_learner(job: Job, targets: Sequence[str], material: Material, part: tuple[int, int]) -> Learner:
    """The learner of a job.

    Args:
        part: (number, count) of this process.

    Raises:
        UsageError: unknown model or option. TrainingError, WeightsError, DataError: see the modules.
    """
    statistics = material.statistics()
    cuts = _cuts(job, targets, statistics)
    entry = None if job.model in models.names() else system_entry(job.model)
    if entry is not None:
        return _system(job, entry, targets, cuts, material, part)
    return _frame(job, targets, cuts, material, part)


def _cuts(job: Job, targets: Sequence[str], statistics: ScoreStatistics) -> tuple[float, ...]:
    kinds = {phase.loss for phase in job.recipe.phases if isinstance(phase.loss, Classes)}
    cuts = {losses.class_cuts(kind, statistics) for kind in kinds}
    if len(cuts) > 1 or (cuts and not all(isinstance(phase.loss, Classes) for phase in job.recipe.phases)):
        raise TrainingError("a recipe trains classes in all of its phases, with the same cuts, or in none")
    if cuts and len(targets) > 1:
        raise TrainingError(f"classes are of one target; found {', '.join(targets)}", fix="a model for each --target")
    return next(iter(cuts), ())


def _held_out(job: Job) -> list[Any]:
    return [record for data in job.sets for record in data.split("val")]


def _frame(
    job: Job, targets: Sequence[str], cuts: Sequence[float], material: Material, part: tuple[int, int]
) -> Learner:
    entry = models.entry(job.model)
    if job.options or job.words is not None or len(job.inits) > 1:
        raise UsageError(f"{job.model} has no options, takes no words and one --init")
    contract = job.preprocess or entry.preprocess
    sampling = job.recipe.sampling or next((data.sampling for data in job.sets if data.sampling), SAMPLING)
    feed = TrainingFeed(material, contract, job.recipe, job.seed, part=part, sampling=sampling, frames=job.out / FRAMES)
    validation = ValidationFeed(_held_out(job), contract, targets, sampling=sampling)
    network = weights.build(entry, seed=job.seed, width=job.width, targets=targets, cuts=cuts)
    has_head, start = False, None
    if job.inits:
        has_head, notes, start = weights.initial(entry, network, job.inits[0])
        for note in notes:
            status(note)
    if not has_head and not network.cuts:
        with torch.no_grad():
            for layer, mean in zip(network.linears, material.statistics().means, strict=True):
                layer.weight.mul_(0.1)
                layer.bias.fill_(mean)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def recorded(path: Path) -> None:
        domain.record(path, network, material.records, validation.records, job.seed, feed=feed, validation=validation)

    return Learner(
        network,
        feed,
        validation,
        [start] if start is not None else [],
        [msgspec.to_builtins(contract)],
        {"preprocess": contract},
        lambda number, phase: False,
        recorded,
        [start.licence] if start is not None and start.licence else [],
    )


def _system(
    job: Job,
    entry: SystemEntry,
    targets: Sequence[str],
    cuts: Sequence[float],
    material: Material,
    part: tuple[int, int],
) -> Learner:
    if job.preprocess is not None:
        raise UsageError(f"{job.model} has a preset for each of its inputs; expected none for all")
    options = system_weights.start_options(entry, job.inits, job.options)
    network = build_system(entry, seed=job.seed, width=job.width, targets=targets, cuts=cuts, options=options)
    if list(network.targets) != list(targets) or tuple(network.cuts) != tuple(cuts):
        raise TrainingError(f"{job.model} takes targets {list(network.targets)} and cuts {list(network.cuts)}")
    given = system_weights.start_weights(entry, network, job.inits)
    for note in given.notes:
        status(note)
    caller = caller_of(network, job.words)
    folder = job.out / FRAMES
    feed = SystemTrainingFeed(network, material, job.recipe, job.seed, part=part, folder=folder, caller_of=caller)
    validation = SystemValidationFeed(network, _held_out(job), caller_of=caller)
    fresh = system_weights.missing_keys(network, given.keys)
    known = [one.part for one in network.fitted if not _lacks(network, one.part, fresh)]

    def fit(number: int, phase: Phase) -> bool:
        again = phase.refit and number > 0
        changed = bool(number == 0 or again) and fit_parts(network, feed, job.seed, () if phase.refit else known)
        if number == 0 and not network.cuts:
            start_at_mean(network, feed, fresh)
        if changed or number == 0:
            feed.settle()
            validation.forget()
        return changed or number == 0

    return Learner(
        network,
        feed,
        validation,
        given.infos,
        [{name: str(value) for name, value in sorted(options.items())}, None if job.words is None else job.words.name],
        {"options": options, "extractors": network.extractors},
        fit,
        lambda path: record_domain(path, network, feed, validation, job.seed),
        given.licences,
    )


def _lacks(network: nn.Module, part: str, fresh: Sequence[str]) -> bool:
    """Whether start weights left a buffer or parameter of the part unset."""
    prefix = f"{part}." if part else ""
    return any(name.startswith(prefix) for name in fresh) or not network.get_submodule(part).state_dict()


__all__ = ["FRAMES", "Batches", "Learner", "open_learner"]
