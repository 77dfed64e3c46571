"""Starts a training or a pretraining from what was typed on the command line."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import torch

from memedge.console import status
from memedge.errors import UsageError
from memedge_engines.manifest import Training

from .. import models, weights
from ..checkpoint import CheckpointInfo
from ..data.files import Missing
from ..data.folds import with_fold
from ..data.readers import open_data, parse
from ..errors import DataError, TrainingError
from ..models.system import system_entry
from .devices import Devices, torch_device
from .loop import Job, train
from .pretrain import TINY32_LICENCE, TINY32_TITLE
from .recipes import recipe_for


def training(
    model: str,
    data: Sequence[str],
    out: Path,
    *,
    init: Sequence[str] = (),
    options: Mapping[str, str] | None = None,
    words: Path | None = None,
    recipe: str | None = None,
    overrides: Sequence[str] = (),
    targets: Sequence[str] = (),
    epochs: int | None = None,
    batch: int | None = None,
    seed: int = 1,
    resume: bool = False,
    bf16: bool | None = None,
    threads: int = 0,
    devices: Devices | None = None,
    fold: tuple[int, int] | None = None,
    missing: Missing = "refuse",
) -> Path:
    """Train on scored pictures or videos; returns the path of the best checkpoint.

    Args:
        init: start weights; of a system several words, see :mod:`memedge_export.system_weights`.
        options: of a system, as typed. words: word vectors for titles, of a system that takes them.
        recipe: name or TOML file of a recipe, none for the model's own; ``overrides``: ``key=value`` each.
        targets: scores to learn, a head each; empty: the first data set's first one.
        fold: (number from 1, count): train on the other folds of train and val, validate on this one.
        missing: what to do with records whose file is not there.

    Raises:
        UsageError: unknown model or data set, numbers that cannot be meant.
        DataError, WeightsError, TrainingError: see the modules.
    """
    if model in models.names() or system_entry(model) is None:
        models.entry(model)
    if len(set(targets)) < len(targets):
        raise UsageError(f"--target {' --target '.join(targets)}; expected each target once")
    chosen = recipe_for(model, recipe=recipe, overrides=overrides, epochs=epochs, batch=batch)
    if bf16 is not None:
        chosen = msgspec.structs.replace(chosen, precision="bf16" if bf16 else "fp32")
    _set_threads(threads)  # for reading; every process sets its own again
    sets = [open_data(spec, missing=missing) for spec in data]
    if fold is not None:
        sets = [with_fold(one, *fold) for one in sets]
    for one in sets:
        one.split("val")
        status(f"{one.name}: {', '.join(f'{len(one.split(s))} {s}' for s in ('train', 'val'))} {one.unit}s")
    said = [f"--option {shlex.quote(f'{key}={value}')}" for key, value in (options or {}).items()]
    said += [f"--words {words.name}"] if words is not None else []
    said += [f"--recipe {Path(recipe).name}"] if recipe is not None else []
    said += [f"--set {shlex.quote(word)}" for word in overrides] + [f"--target {target}" for target in targets]
    said += [f"--fold {fold[0]}/{fold[1]}"] if fold is not None else []
    said += ["--allow-missing"] if missing == "drop" else []
    job = Job(
        model,
        sets,
        chosen,
        out,
        seed=seed,
        init=tuple(init) if len(init) > 1 else next(iter(init), None),
        options=dict(options or {}),
        words=words,
        notes=f"Trained with `{_command(model, data, init, epochs, batch, seed, bf16, said)}`.",
        targets=tuple(targets),
        devices=replace(devices or Devices(), threads=threads),
    )
    return train(job, resume=resume)


def pretraining(
    model: str,
    data: str,
    out: Path,
    *,
    init: str | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    seed: int = 1,
    resume: bool = False,
    bf16: bool | None = None,
    threads: int = 0,
) -> Path:
    """Pretrain a trunk on labelled small pictures; returns the path of the trunk's weights.

    Raises:
        UsageError: unknown model, numbers that cannot be meant, or ``init``, which pretraining does not take.
        DataError, TrainingError: see the modules.
    """
    from .pretrain import pretrain

    entry = models.entry(model)
    if init is not None:
        raise UsageError("--init and pretraining exclude each other: pretraining starts from nothing")
    if (epochs is not None and epochs < 1) or (batch is not None and batch < 2):
        raise UsageError(f"--epochs {epochs} --batch {batch}; expected at least 1 epoch and 2 pictures")
    root = parse(data).path
    if not (root / "train.npz").is_file():
        raise DataError(f"tiny32: '{root}' has no train.npz; expected train.npz with jpeg, offset and label")
    if (out / "state.pt").exists() and not resume:
        raise TrainingError(f"a run lies in '{out}' already", fix="--resume to go on with it, or another --out")
    _set_threads(threads)
    network = weights.build(entry, seed=seed)
    return pretrain(
        network.trunk,
        network.trunk.features,
        root,
        out,
        epochs=epochs or 10,
        batch=batch or 256,
        seed=seed,
        amp=bf16 is not False,
        report=status,
        info=_pretraining_info(entry, [data], epochs, batch, seed, bf16),
    )


def sorting(out: Path, *, batch: int | None = None, seed: int = 1, threads: int = 0, device: str = "auto") -> Path:
    """Train SoDeep's sorter for ``batch`` scores (100, as published); returns ``out``.

    Raises:
        UsageError: a batch or a name that cannot be meant.
        TrainingError: no such device. WeightsError: ``out`` cannot be written.
    """
    from .sorter import LENGTH, train_sorter

    length = LENGTH if batch is None else batch
    if length < 2:
        raise UsageError(f"--batch {length}; expected 2 or more")
    if out.suffix != ".safetensors" or not out.parent.is_dir():
        raise UsageError(f"--sorter '{out}'; expected a name that ends in .safetensors, in an existing folder")
    _set_threads(threads)
    error = train_sorter(out, length=length, seed=seed, device=torch_device(device))
    status(f"mean error of a rank on held-out sequences: {error:.4f} of 0..1; use it with --batch {length}")
    return out


def _pretraining_info(
    entry: models.ModelEntry, data: Sequence[str], epochs: int | None, batch: int | None, seed: int, bf16: bool | None
) -> CheckpointInfo:
    command = _command(entry.id, data, (), epochs, batch, seed, bf16)
    training = Training(status="trained", datasets=(TINY32_TITLE,), notes=f"Trunk pretrained with `{command}`.")
    return CheckpointInfo(
        model=entry.id, preprocess=models.squash_preset(32, 32), training=training, licence=TINY32_LICENCE, seed=seed
    )


def _set_threads(threads: int) -> None:
    if threads:
        torch.set_num_threads(threads)


def _command(
    model: str,
    data: Sequence[str],
    init: Sequence[str],
    epochs: int | None,
    batch: int | None,
    seed: int,
    bf16: bool | None,
    more: Sequence[str] = (),
) -> str:
    """The command that does it again. Folders are written as DIR, files by their names: cards travel."""
    words = ["memedge train", f"--model {model}"]
    words += [f"--data {parse(spec).portable}" for spec in data]
    for word in init:
        part, equals, file = ("", "", word) if Path(word).is_file() else word.rpartition("=")
        words.append(f"--init {part}{equals}{Path(file).name}")
    words += [f"--{name} {value}" for name, value in (("epochs", epochs), ("batch", batch)) if value is not None]
    if bf16 is not None:
        words.append("--bf16" if bf16 else "--no-bf16")
    return " ".join([*words, *more, f"--seed {seed}"])
