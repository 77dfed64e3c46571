"""The training loop: phases of a recipe, best checkpoint by validation Spearman, resumable after a kill.

A run is a folder: ``best.safetensors`` (weights and what they are), ``state.pt`` (everything needed to go on),
``history.csv`` and ``curves.png``. Each file is replaced in one step, the state every few minutes and after each epoch.
What is random in a step follows from (seed, epoch, step, process) alone, so a run that was killed at any moment and
resumed gives the same bytes.

Devices, mixed precision and several GPUs are Lightning Fabric's. Why not Accelerate: Fabric takes an explicit number of
devices and a precision without a configuration file of its own, and brings no client of a model hub.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memedge.console import progress, status
from memedge_engines.manifest import Preprocess, Quantiles, Training

from .. import models
from ..checkpoint import CheckpointInfo, save
from ..data.records import DataSet, split_hash
from ..errors import TrainingError
from ..eval.metrics import Result, evaluate, quantiles
from ..models.frame import FrameModel
from ..models.system import System
from . import losses, state
from .devices import Devices, open_fabric
from .inputs import Inputs
from .learners import Learner, open_learner
from .losses import Batch
from .material import training_scores
from .optimise import blend, check_rates, prepare, set_modes, set_rates
from .processes import together
from .recipe import Phase, Recipe
from .state import BEST, STATE, Run

# Fewer pictures than this give no percentiles worth the name.
_FEWEST_FOR_QUANTILES = 50
SAVE_EVERY_S = 300.0
# Drawing takes a third of a second: epochs of small sets are shorter.
_DRAW_EVERY_S = 20.0
Network = FrameModel | System


@dataclass
class Job:
    """What is to be trained.

    Attributes:
        init: weights to start from: a file, ``imagenet``, or none; of a system several words, see
            :mod:`memedge_export.system_weights`.
        preprocess: the preset; none takes the model's own.
        options: of a system. words: word vectors for titles, of a system that takes them.
        width: multiplies the channels.
        notes: how to do it again, for the card.
        targets: which scores of the sets are learnt; empty: the first set's first one.
        devices: where it runs.
        save_every_s: seconds between two saved states within an epoch.
    """

    model: str
    sets: Sequence[DataSet]
    recipe: Recipe
    out: Path
    seed: int = 1
    init: str | Sequence[str] | None = None
    preprocess: Preprocess | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    words: Path | None = None
    width: float = 1.0
    notes: str = ""
    targets: tuple[str, ...] = ()
    devices: Devices = field(default_factory=Devices)
    save_every_s: float = SAVE_EVERY_S

    @property
    def inits(self) -> tuple[str, ...]:
        """``init`` as words."""
        return () if self.init is None else (self.init,) if isinstance(self.init, str) else tuple(self.init)


@dataclass
class _Session:
    """What the phases of one job share."""

    job: Job
    fabric: Any
    learner: Learner
    average: Network | None
    identity: str
    run: Run
    drawn_at: float = field(default_factory=time.monotonic)

    @property
    def network(self) -> Network:
        """The weights that are trained."""
        return self.learner.network

    @property
    def judged(self) -> Network:
        """The weights that are validated and kept."""
        return self.network if self.average is None else self.average

    def validated(self) -> tuple[NDArray[np.float64], Result]:
        """Scores of the validation records, ``[N, T]``, and the figures of the first target, which decides: sets
        without any validation score of it cannot get here."""
        validation = self.learner.validation
        predicted = validation.predict(self.judged)
        return predicted, evaluate(predicted[:, 0], validation.targets[:, 0])

    def save(self, optimiser: torch.optim.Optimizer) -> None:
        """Save where the run stands."""
        if not self.fabric.is_global_zero:
            return
        parts = {
            "model": self.network.state_dict(),
            "average": {} if self.average is None else self.average.state_dict(),
            "optimiser": optimiser.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }
        state.save_state(self.job.out / STATE, self.identity, self.run, parts)

    def draw(self) -> None:
        """Draw the learning curves."""
        title = f"{self.job.model} on {', '.join(data.name for data in self.job.sets)}"
        state.draw_curves(self.job.out, self.run, title)
        self.drawn_at = time.monotonic()


def train(job: Job, *, resume: bool = False, after_epoch: Callable[[Run], None] | None = None) -> Path:
    """Run the job; returns the path of ``best.safetensors``.

    Args:
        resume: go on with the run that lies in ``job.out``; without one there, start it.
        after_epoch: called when an epoch has been saved.

    Raises:
        TrainingError: another run lies there or is under way there, the run there is of another job, a device is not
            there, or the loss is not finite.
        DataError, PictureError, WeightsError: see the modules.
    """
    if not resume and ((job.out / STATE).exists() or (job.out / BEST).exists()):
        raise TrainingError(f"a run lies in '{job.out}' already", fix="--resume to go on with it, or another --out")
    if job.devices.count > 1 and any(phase.optimiser == "lbfgs" for phase in job.recipe.phases):
        raise TrainingError("L-BFGS takes the whole set in one process", fix="--devices 1")
    fabric = open_fabric(job.devices, job.recipe.precision, partial=job.model not in models.names())
    with together(fabric):
        if not fabric.is_global_zero:
            return _train(job, fabric, resume, None)
        with state.locked(job.out):
            return _train(job, fabric, resume, after_epoch)


def _train(job: Job, fabric: Any, resume: bool, after_epoch: Callable[[Run], None] | None) -> Path:
    session, saved = _open(job, fabric, resume)
    run, learner = session.run, session.learner
    while run.phase < len(job.recipe.phases):
        phase = job.recipe.phases[run.phase]
        optimiser = prepare(session.network, phase)
        _begin(session, phase)
        loss = losses.build(phase.loss, learner.feed.material.statistics())
        if saved and (run.epoch or run.step):
            optimiser.load_state_dict(saved["optimiser"])
            fabric.strategy.precision.load_state_dict(saved["precision"])
        saved = {}
        wrapped, driver = fabric.setup(session.network, optimiser)
        while run.epoch < phase.epochs and not (phase.patience and run.since_best >= phase.patience):
            started = time.monotonic()
            _epoch(session, wrapped, driver, loss, phase)
            _finish_epoch(session, driver, phase, time.monotonic() - started)
            if after_epoch is not None:
                after_epoch(run)
        run.phase, run.epoch, run.since_best = run.phase + 1, 0, 0
    if fabric.is_global_zero:
        learner.record_domain(job.out / BEST)
        session.draw()
        status(f"best validation Spearman {run.best:.3f}; weights in '{job.out / BEST}', curves in '{job.out}'")
    return job.out / BEST


def _open(job: Job, fabric: Any, resume: bool) -> tuple[_Session, dict[str, Any]]:
    targets = job.targets or job.sets[0].targets[:1]
    material = training_scores(job.sets, targets, job.recipe.normalise)
    least = min(job.recipe.batch, len(material.records))
    if least < fabric.world_size:
        raise TrainingError(f"a batch of {least} for {fabric.world_size} processes; expected one each, or more")
    learner = open_learner(job, targets, material, (fabric.global_rank, fabric.world_size))
    for phase in job.recipe.phases:
        check_rates(learner.network, phase)
    learner.network.to(fabric.device)
    average = copy.deepcopy(learner.network) if job.recipe.average else None
    what = [job.model, job.width, job.seed, list(targets), fabric.world_size, split_hash(job.sets)]
    same = state.identity(*what, *learner.what, msgspec.to_builtins(job.recipe), init=job.init)
    run = Run()
    saved: dict[str, Any] = {}
    if resume and (job.out / STATE).exists():
        run, saved = state.read_state(job.out / STATE, same)
        learner.network.load_state_dict(saved["model"])
        if average is not None:
            average.load_state_dict(saved["average"])
        status(f"resumed '{job.out}' after {run.total} epochs{f' and {run.step} steps' if run.step else ''}")
    return _Session(job, fabric, learner, average, same, run), saved


def _begin(session: _Session, phase: Phase) -> None:
    """A phase begins, or goes on: what it freezes is known; before its first step, parts that are fitted are fitted."""
    learner, run, network = session.learner, session.run, session.network
    set_modes(network, phase)
    learner.feed.begin(network, phase)
    learner.validation.begin(network, phase)
    if not run.epoch and not run.step and learner.fit(run.phase, phase) and session.average is not None:
        session.average.load_state_dict(network.state_dict())


def _epoch(session: _Session, wrapped: Any, driver: Any, loss: losses.Loss, phase: Phase) -> None:
    """The steps of one epoch that are not done yet."""
    run, feed, recipe, fabric = session.run, session.learner.feed, session.job.recipe, session.fabric
    set_modes(session.network, phase)
    whole = phase.optimiser == "lbfgs"
    steps = 1 if whole else len(feed)
    saved_at = time.monotonic()
    part = run.epoch / (phase.epochs - 1) if phase.epochs > 1 else 0.0
    with progress(f"epoch {run.total + 1}", steps) as bar:
        bar.advance(run.step)
        for step, sample in feed.epoch(run.total, run.step, whole=whole):
            torch.manual_seed(_step_seed(session.job.seed, run.total, step, fabric.global_rank))
            set_rates(driver.optimizer, phase, run.epoch + step / steps)
            inputs = sample.inputs.to(fabric.to_device)
            extra = {name: fabric.to_device(values) for name, values in sample.extra.items()}
            batch = Batch(fabric.to_device(sample.targets), extra, part=part, epoch=run.epoch)
            own = _step(session, wrapped, driver, phase, _Compute(session, wrapped, loss, inputs, batch))
            value = float(fabric.all_reduce(torch.tensor(own), reduce_op="mean"))
            if not value < float("inf"):
                raise TrainingError(f"loss {value} in epoch {run.total + 1}", fix="lower rates; the last state is kept")
            run.loss += value
            run.step = step + 1
            if session.average is not None:
                # A young average would remember the start: its decay grows with the number of steps.
                done = run.total * steps + step + 1
                blend(session.average, session.network, min(recipe.average, done / (done + 10)))
            bar.advance(1, f"loss {run.loss / run.step:.5f}")
            if time.monotonic() - saved_at > session.job.save_every_s and run.step < steps:
                session.save(driver.optimizer)
                saved_at = time.monotonic()


@dataclass(frozen=True)
class _Compute:
    """The loss of one batch, as often as it is asked for."""

    session: _Session
    wrapped: Any
    loss: losses.Loss
    inputs: Inputs
    batch: Batch

    def __call__(self) -> Tensor:
        return self.loss(self.inputs.outputs(self.wrapped, self.session.network), self.batch)


def _step(session: _Session, wrapped: Any, driver: Any, phase: Phase, compute: Callable[[], Tensor]) -> float:
    """One step of the optimiser; the loss before it. L-BFGS asks for the loss several times."""
    last: list[float] = []

    def closure() -> Tensor:
        driver.zero_grad(set_to_none=True)
        found = compute()
        if phase.optimiser == "lbfgs" and phase.weight_decay:
            moving = [p for p in session.network.parameters() if p.requires_grad]
            found = found + 0.5 * phase.weight_decay * torch.stack([(p**2).sum() for p in moving]).sum()
        session.fabric.backward(found)
        if phase.clip:
            session.fabric.clip_gradients(wrapped, driver, max_norm=phase.clip, error_if_nonfinite=False)
        last.append(float(found.detach()))
        return found

    if phase.optimiser == "lbfgs":
        driver.step(closure)
    else:
        closure()
        if last[0] < float("inf"):
            driver.step()
    return last[0]


def _finish_epoch(session: _Session, driver: Any, phase: Phase, seconds: float) -> None:
    """Validate, write what is to be kept, and count the epoch."""
    run, job, fabric = session.run, session.job, session.fabric
    loss = run.loss / max(run.step, 1)
    # Batch-norm statistics differ between processes: the first one's weights are validated, and it decides for all.
    predicted, result = session.validated() if fabric.is_global_zero else (None, None)
    result = fabric.broadcast(result)
    run.epoch, run.total, run.step, run.loss = run.epoch + 1, run.total + 1, 0, 0.0
    spearman = result.spearman if result.spearman is not None else 0.0
    better = spearman > run.best
    run.since_best = 0 if better else run.since_best + 1
    run.best = max(run.best, spearman)
    run.history.append(
        {"epoch": run.total, "phase": phase.name, "loss": round(loss, 6), "val_spearman": round(spearman, 4),
         "val_mse": round(result.mse, 6), "best": int(better)}
    )  # fmt: skip
    if fabric.is_global_zero:
        if better:
            save(job.out / BEST, session.judged.state_dict(), _info(session, result, predicted))
        session.save(driver.optimizer)
        state.write_history(job.out, run)
        if time.monotonic() - session.drawn_at > _DRAW_EVERY_S:
            session.draw()
        status(
            f"epoch {run.total} ({phase.name} {run.epoch}/{phase.epochs}): loss {loss:.5f}, "
            f"val Spearman {spearman:.3f}{' (best)' if better else ''}, {seconds:.0f} s"
        )


def _info(session: _Session, result: Result, predicted: Any) -> CheckpointInfo:
    """What the checkpoint of this epoch says of itself; what its start weights say of themselves is part of it."""
    job, learner, run = session.job, session.learner, session.run
    licences = [*(data.licence for data in job.sets), *learner.licences]
    sets = ", ".join(data.name for data in job.sets)
    chosen = f"Epoch {run.total} gave the best validation Spearman of the run, {run.best:.3f}."
    unit = f"{job.sets[0].unit}s"
    reference: dict[str, Quantiles] = {}
    if len(predicted) >= _FEWEST_FOR_QUANTILES:
        reference = {
            target: Quantiles(dataset=f"{sets} val ({len(predicted)} {unit})", values=quantiles(predicted[:, column]))
            for column, target in enumerate(session.network.targets)
        }
    return CheckpointInfo(
        model=job.model,
        training=Training(
            status="trained",
            datasets=(
                *(f"{data.title or data.name} [{len(data.split('train'))} train {unit}]" for data in job.sets),
                *(f"before that: {name}" for start in learner.start for name in start.training.datasets),
            ),
            held_out=f"{sets} val ({result.count} {unit}; the epoch was chosen on it)",
            spearman=result.spearman,
            spearman_interval=result.spearman_interval,
            notes="\n".join(part for part in (*_notes(learner.start), job.notes, chosen) if part),
        ),
        width=job.width,
        targets=session.network.targets,
        cuts=session.network.cuts,
        quantiles=reference.pop(session.network.targets[0], None),
        more_quantiles=reference,
        licence="; ".join(dict.fromkeys(part for part in licences if part)),
        data=tuple(data.name for data in job.sets),
        split_sha256=split_hash(job.sets),
        score_scales=learner.feed.material.scales,
        recipe=msgspec.to_builtins(job.recipe),
        seed=job.seed,
        epoch=run.total,
        val_spearman=result.spearman,
        **learner.says,
    )


def _notes(start: Sequence[CheckpointInfo]) -> list[str]:
    return [info.training.notes for info in start]


def _step_seed(*numbers: int) -> int:
    """A seed of 63 bits for one step of one process."""
    digest = hashlib.sha256(" ".join(map(str, numbers)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
