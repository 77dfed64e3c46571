"""The training loop: phases of a recipe, best checkpoint by validation Spearman, resumable after a kill.

A run is a folder: ``best.safetensors`` (weights and what they are), ``state.pt`` (everything needed to go on) and
``history.csv``. Each file is replaced in one step at the end of an epoch, and all randomness of an epoch follows from
the seed and the epoch's number or from the saved random state, so a run that was killed and resumed gives the same
bytes.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from memedge.console import progress, status
from memedge_engines.manifest import Preprocess, Quantiles, Training

from .. import models, weights
from ..checkpoint import CheckpointInfo, replace_file, save
from ..data.records import DataSet, split_hash
from ..errors import TrainingError
from ..eval.metrics import Result, evaluate, quantiles
from ..models.frame import FrameModel
from .feed import TrainingFeed, ValidationFeed, training_scores
from .recipe import Phase, Recipe

STATE, BEST, HISTORY = "state.pt", "best.safetensors", "history.csv"
# Fewer pictures than this give no percentiles worth the name.
_FEWEST_FOR_QUANTILES = 50


@dataclass
class Job:
    """What is to be trained.

    Attributes:
        init: weights to start from: a file, ``imagenet``, or none.
        preprocess: the preset; none takes the model's own.
        width: multiplies the channels.
        notes: how to do it again, for the card.
    """

    model: str
    sets: Sequence[DataSet]
    recipe: Recipe
    out: Path
    seed: int = 1
    init: str | None = None
    preprocess: Preprocess | None = None
    width: float = 1.0
    notes: str = ""


@dataclass
class Run:
    """Where a run stands; ``epoch`` counts finished epochs of phase number ``phase``."""

    phase: int = 0
    epoch: int = 0
    total: int = 0
    best: float = float("-inf")
    since_best: int = 0
    history: list[dict[str, float | int | str]] = field(default_factory=list)


def train(job: Job, *, resume: bool = False, after_epoch: Callable[[Run], None] | None = None) -> Path:
    """Run the job; returns the path of ``best.safetensors``.

    Args:
        resume: go on with the run that lies in ``job.out``; without one there, start it.
        after_epoch: called when an epoch has been saved.

    Raises:
        TrainingError: another run lies there, the run there is of another job, or the loss is not finite.
        DataError, PictureError, WeightsError: see the modules.
    """
    state_file = job.out / STATE
    if not resume and (state_file.exists() or (job.out / BEST).exists()):
        raise TrainingError(f"a run lies in '{job.out}' already", fix="--resume to go on with it, or another --out")
    entry = models.entry(job.model)
    contract = job.preprocess or entry.preprocess
    records, scores = training_scores(job.sets)
    held_out = [record for data in job.sets for record in data.split("val")]
    feed = TrainingFeed(records, scores, contract, job.recipe, job.seed)
    validation = ValidationFeed(held_out, contract)
    network, start = _start(job, entry, float(scores.mean()))
    average = copy.deepcopy(network) if job.recipe.average else None
    identity = _identity(job, contract)
    run = Run()
    saved = _read_state(state_file, identity) if resume and state_file.exists() else None
    if saved is not None:
        run = Run(**json.loads(saved["run"]))
        network.load_state_dict(saved["model"])
        if average is not None:
            average.load_state_dict(saved["average"])
        torch.set_rng_state(saved["rng"])
        status(f"resumed '{job.out}' after {run.total} epochs")
    else:
        torch.manual_seed(job.seed)
    while run.phase < len(job.recipe.phases):
        phase = job.recipe.phases[run.phase]
        optimiser = prepare(network, phase)
        if saved is not None and run.epoch:
            optimiser.load_state_dict(saved["optimiser"])
        saved = None
        while run.epoch < phase.epochs and not (phase.patience and run.since_best >= phase.patience):
            started = time.monotonic()
            loss = _epoch(network, average, optimiser, feed, job.recipe, run)
            judged = network if average is None else average
            predicted = validation.predict(judged)
            result = evaluate(predicted, validation.scores)
            run.epoch += 1
            run.total += 1
            spearman = result.spearman if result.spearman is not None else 0.0
            better = spearman > run.best
            run.since_best = 0 if better else run.since_best + 1
            run.best = max(run.best, spearman)
            run.history.append(
                {"epoch": run.total, "phase": phase.name, "loss": round(loss, 6), "val_spearman": round(spearman, 4),
                 "val_mse": round(result.mse, 6), "best": int(better)}
            )  # fmt: skip
            if better:
                save(job.out / BEST, judged.state_dict(), _info(job, start, contract, run, result, predicted))
            _save_state(state_file, identity, run, network, average, optimiser)
            replace_file(job.out / HISTORY, _history(run).encode())
            status(
                f"epoch {run.total} ({phase.name} {run.epoch}/{phase.epochs}): loss {loss:.5f}, "
                f"val Spearman {spearman:.3f}{' (best)' if better else ''}, {time.monotonic() - started:.0f} s"
            )
            if after_epoch is not None:
                after_epoch(run)
        run.phase, run.epoch, run.since_best = run.phase + 1, 0, 0
    status(f"best validation Spearman {run.best:.3f}; weights in '{job.out / BEST}'")
    return job.out / BEST


def prepare(network: FrameModel, phase: Phase) -> torch.optim.Optimizer:
    """Freeze what the phase does not train and make its optimiser."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        fitting = [prefix for prefix in phase.rates if name == prefix or name.startswith(prefix + ".")]
        parameter.requires_grad_(bool(fitting))
        parameter.grad = None
        if fitting:
            groups.setdefault(phase.rates[max(fitting, key=len)], []).append(parameter)
    if not groups:
        raise TrainingError(f"phase '{phase.name}' trains nothing: no parameter is named like {', '.join(phase.rates)}")
    listed: list[dict[str, Any]] = [{"params": found, "lr": rate, "peak": rate} for rate, found in groups.items()]
    if phase.optimiser == "sgd":
        return torch.optim.SGD(listed, momentum=phase.momentum, weight_decay=phase.weight_decay)
    made = torch.optim.Adam if phase.optimiser == "adam" else torch.optim.AdamW
    return made(listed, weight_decay=phase.weight_decay)


def set_modes(network: FrameModel, phase: Phase) -> None:
    """Training mode, except for batch-norms that the phase wants in evaluation mode."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            mode = phase.batch_norm if module.weight.requires_grad else phase.frozen_batch_norm
            module.train(mode == "train")


def _start(job: Job, entry: models.ModelEntry, mean: float) -> tuple[FrameModel, CheckpointInfo | None]:
    """The network before the first epoch: initial weights where there are some, and a head that gives the mean
    score."""
    network = weights.build(entry, seed=job.seed, width=job.width)
    has_head, info = False, None
    if job.init is not None:
        has_head, notes, info = weights.initial(entry, network, job.init)
        for note in notes:
            status(note)
    if not has_head:
        with torch.no_grad():
            network.linear.weight.mul_(0.1)
            network.linear.bias.fill_(mean)
    return network.to(memory_format=torch.channels_last), info  # type: ignore[call-overload]


def _epoch(
    network: FrameModel,
    average: FrameModel | None,
    optimiser: torch.optim.Optimizer,
    feed: TrainingFeed,
    recipe: Recipe,
    run: Run,
) -> float:
    phase = recipe.phases[run.phase]
    set_modes(network, phase)
    total, steps = 0.0, len(feed)
    with progress(f"epoch {run.total + 1}", steps) as bar:
        for step, (pictures, scores) in enumerate(feed.epoch(run.total)):
            factor = phase.schedule.at(run.epoch + step / steps, phase.epochs)
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * factor
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
                predicted = network(pictures.contiguous(memory_format=torch.channels_last))[0]
            loss = nn.functional.mse_loss(predicted.float(), scores)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            value = loss.item()
            if not value < float("inf"):
                raise TrainingError(f"loss {value} in epoch {run.total + 1}", fix="lower rates; the last epoch is kept")
            total += value
            if average is not None:
                # A young average would remember the start: its decay grows with the number of steps.
                done = run.total * steps + step + 1
                _blend(average, network, min(recipe.average, done / (done + 10)))
            bar.advance(1, f"loss {total / (step + 1):.5f}")
    return total / steps


@torch.no_grad()
def _blend(average: FrameModel, network: FrameModel, decay: float) -> None:
    for kept, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def _info(
    job: Job, start: CheckpointInfo | None, contract: Preprocess, run: Run, result: Result, predicted: Any
) -> CheckpointInfo:
    """What the checkpoint of this epoch says of itself; what its start weights say of themselves is part of it."""
    sets = ", ".join(data.name for data in job.sets)
    chosen = f"Epoch {run.total} gave the best validation Spearman of the run, {run.best:.3f}."
    reference = None
    if len(predicted) >= _FEWEST_FOR_QUANTILES:
        reference = Quantiles(dataset=f"{sets} val ({len(predicted)} pictures)", values=quantiles(predicted))
    return CheckpointInfo(
        model=job.model,
        preprocess=contract,
        training=Training(
            status="trained",
            datasets=(
                *(f"{data.title or data.name} [{len(data.split('train'))} train pictures]" for data in job.sets),
                *(f"before that: {name}" for name in (start.training.datasets if start else ())),
            ),
            held_out=f"{sets} val ({result.count} pictures; the epoch was chosen on it)",
            spearman=result.spearman,
            spearman_interval=result.spearman_interval,
            notes="\n".join(part for part in (start.training.notes if start else "", job.notes, chosen) if part),
        ),
        width=job.width,
        quantiles=reference,
        licence="; ".join(
            part for part in (*(data.licence for data in job.sets), start.licence if start else "") if part
        ),
        data=tuple(data.name for data in job.sets),
        split_sha256=split_hash(job.sets),
        recipe=msgspec.to_builtins(job.recipe),
        seed=job.seed,
        epoch=run.total,
        val_spearman=result.spearman,
    )


def _identity(job: Job, contract: Preprocess) -> str:
    """What must be the same for a run to be resumed. Start weights count by their bytes."""
    import hashlib

    init = job.init
    if init is not None and Path(init).is_file():
        init = hashlib.sha256(Path(init).read_bytes()).hexdigest()
    what = [job.model, job.width, job.seed, init, split_hash(job.sets), msgspec.to_builtins(contract)]
    return json.dumps([*what, msgspec.to_builtins(job.recipe)], sort_keys=True)


def _save_state(
    path: Path,
    identity: str,
    run: Run,
    network: FrameModel,
    average: FrameModel | None,
    optimiser: torch.optim.Optimizer,
) -> None:
    buffer = io.BytesIO()
    torch.save(
        {
            "identity": identity,
            "run": json.dumps(run.__dict__),
            "model": network.state_dict(),
            "average": average.state_dict() if average is not None else {},
            "optimiser": optimiser.state_dict(),
            "rng": torch.get_rng_state(),
        },
        buffer,
    )
    replace_file(path, buffer.getvalue())


def _read_state(path: Path, identity: str) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
        same = state["identity"] == identity
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise TrainingError(f"cannot resume: '{path}' is damaged: {str(error).splitlines()[0]}") from None
    if not same:
        raise TrainingError(
            f"cannot resume: the run in '{path.parent}' has another model, data, recipe, seed or start weights",
            fix="give the same arguments, or another --out",
        )
    return state


def _history(run: Run) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(run.history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(run.history)
    return text.getvalue()
