"""Starts the training of ``memedge-s``: pretraining on ``tiny32``, then LNSIM or another small scored set."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from memedge.console import progress, status
from memedge.errors import UsageError
from memedge_engines.manifest import Quantiles, Training

from .. import models, weights
from ..blocks.scene_trunk import SceneTrunk
from ..checkpoint import CheckpointInfo, replace_file, save
from ..data.folds import folds
from ..data.pictures import read_picture
from ..data.readers import open_data, parse
from ..data.records import DataSet, Record, split_hash
from ..errors import DataError, TrainingError
from ..eval.metrics import quantiles, spearman
from . import domain
from .crop_pretrain import STATE, TRUNK, pretrain_crops
from .pretrain import TINY32_LICENCE, TINY32_TITLE
from .scene import SceneRecipe, out_of_fold, train_scene

MODEL = "memedge-s"
BEST = "best.safetensors"
FOLDS_FILE = "out_of_fold.csv"
FOLDS = 5
EPOCHS = 10


def pretraining(data: str, out: Path, *, epochs: int | None, seed: int, resume: bool) -> Path:
    """Pretrain the residual network; returns the path of its weights.

    Raises:
        UsageError: fewer than one epoch. DataError: no tiny32 there. TrainingError: a run lies in ``out`` already.
    """
    if epochs is not None and epochs < 1:
        raise UsageError(f"--epochs {epochs}; expected 1 or more")
    spec = parse(data)
    if not (spec.path / "train.npz").is_file():
        raise DataError(f"tiny32: '{spec.path}' has no train.npz; expected train.npz with jpeg, offset and label")
    if (out / STATE).exists() and not resume:
        raise TrainingError(f"a run lies in '{out}' already", fix="--resume to go on with it, or another --out")
    network = _trunk(weights.build(models.entry(MODEL), seed=seed)).network
    count = epochs or EPOCHS
    note = f"Network pretrained with `memedge train --model {MODEL} --data tiny32:DIR --epochs {count} --seed {seed}`."
    info = CheckpointInfo(
        model=MODEL,
        preprocess=models.squash_preset(32, 32),
        training=Training(status="trained", datasets=(TINY32_TITLE,), notes=note),
        licence=TINY32_LICENCE,
        seed=seed,
    )
    return pretrain_crops(network, network.features, spec.path, out, epochs=count, seed=seed, report=status, info=info)


def training(
    data: str,
    out: Path,
    *,
    init: str | None,
    pretrain: str | None,
    epochs: int | None = None,
    seed: int = 1,
    resume: bool = False,
    recipe: SceneRecipe | None = None,
) -> Path:
    """Cross-validate on train and val, then train on all of both; returns the path of the checkpoint.

    ``out_of_fold.csv`` beside it holds what was predicted for each picture by networks that had not seen it.

    Args:
        init: pretrained weights of the residual network; or ``pretrain``: ``tiny32:DIR`` to make them in ``out``.
        epochs: of the pretraining.

    Raises:
        UsageError: neither or both of ``init`` and ``pretrain``.
        DataError, PictureError, WeightsError, TrainingError: see the modules.
    """
    if (init is None) == (pretrain is None):
        raise UsageError(
            f"{MODEL} starts from a pretrained network: give either --pretrain tiny32:DIR or --init FILE",
            fix=f"memedge train --model {MODEL} --data {data} --pretrain tiny32:DIR",
        )
    if (out / BEST).exists() and not resume:
        raise TrainingError(f"a run lies in '{out}' already", fix="another --out")
    chosen = recipe or SceneRecipe()
    scored = open_data(data)
    if pretrain is not None:
        made = out / TRUNK
        file = made if made.is_file() else pretraining(pretrain, out, epochs=epochs, seed=seed, resume=resume)
    else:
        file = Path(str(init))
    network = weights.build(models.entry(MODEL), seed=seed)
    start = load_trunk(network, file)
    contract = models.entry(MODEL).preprocess
    records = [record for record in scored.records if record.split in ("train", "val")]
    scores = np.array([record.score for record in records])
    fold = folds(records, FOLDS)

    def picture(index: int) -> NDArray[np.uint8]:
        return read_picture(records[index].path)

    with progress("pictures", FOLDS + 1):
        found, away = out_of_fold(network, picture, scores, fold, contract, chosen, seed=seed, report=status)
        train_scene(network, picture, scores, contract, chosen, seed=seed, report=status)
    each = [spearman(found[fold == number], scores[fold == number]) or 0.0 for number in range(FOLDS)]
    status(f"{FOLDS}-fold Spearman {np.mean(each):.3f} (standard deviation over folds {np.std(each):.3f})")
    _write_folds(out / FOLDS_FILE, records, fold, scores, found)
    info = _info(scored, records, fold, found, each, start, chosen, seed)
    save(out / BEST, network.state_dict(), info)
    # All pictures were trained on; how far unseen ones of the kind lie is known from the folds.
    domain.record(out / BEST, network, records, [], seed, away=away)
    return out / BEST


def _write_folds(
    path: Path,
    records: list[Record],
    fold: NDArray[np.intp],
    scores: NDArray[np.float64],
    found: NDArray[np.float64],
) -> None:
    """What networks that had not seen a picture said of it: id, fold, score, predicted."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("id", "fold", "score", "predicted"))
    for record, number, score, predicted in zip(records, fold, scores, found, strict=True):
        writer.writerow((record.id, int(number), f"{score:.6f}", f"{predicted:.6f}"))
    replace_file(path, text.getvalue().encode())


def load_trunk(network: object, file: Path) -> CheckpointInfo | None:
    """Load pretrained weights of the residual network into a ``memedge-s``; returns what they say of themselves.

    Raises:
        WeightsError: the file cannot be read. TrainingError: it holds another network.
    """
    state, info = weights.read_state(file)
    trunk = _trunk(network).network
    expected = trunk.state_dict()
    if state.keys() != expected.keys() or any(state[k].shape != v.shape for k, v in expected.items()):
        raise TrainingError(
            f"'{file}' does not hold the residual network of {MODEL}",
            fix=f"memedge train --model {MODEL} --data tiny32:DIR",
        )
    trunk.load_state_dict(state)
    return info


def _trunk(network: object) -> SceneTrunk:
    trunk = getattr(network, "trunk", None)
    assert isinstance(trunk, SceneTrunk)
    return trunk


def fold_hash(records: list[Record], fold: NDArray[np.intp]) -> str:
    """SHA-256 of every record's id and fold: names a division."""
    lines = sorted(f"{record.id}\t{number}" for record, number in zip(records, fold, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _info(
    scored: DataSet,
    records: list[Record],
    fold: NDArray[np.intp],
    found: NDArray[np.float64],
    each: list[float],
    start: CheckpointInfo | None,
    recipe: SceneRecipe,
    seed: int,
) -> CheckpointInfo:
    counts = ", ".join(f"{sum(r.split == part for r in records)} {part}" for part in ("train", "val"))
    notes = [
        start.training.notes if start else "",
        f"Trained with `memedge train --model {MODEL} --data {scored.name}:DIR --init {TRUNK} --seed {seed}`.",
        f"{FOLDS}-fold cross-validation on train and val (folds {fold_hash(records, fold)[:12]}): mean Spearman "
        f"{np.mean(each):.3f}, standard deviation over folds {np.std(each):.3f}.",
    ]
    return CheckpointInfo(
        model=MODEL,
        preprocess=models.entry(MODEL).preprocess,
        training=Training(
            status="trained",
            datasets=(
                f"{scored.title or scored.name} [{counts} pictures]",
                *(f"before that: {name}" for name in (start.training.datasets if start else ())),
            ),
            held_out=f"{scored.name} train and val, out of fold ({len(records)} pictures)",
            spearman=float(np.mean(each)),
            notes="\n".join(part for part in notes if part),
        ),
        quantiles=Quantiles(
            dataset=f"{scored.name} train and val, out of fold ({len(records)} pictures)",
            values=quantiles(found.clip(0, 1)),
        ),
        licence="; ".join(part for part in (scored.licence, start.licence if start else "") if part),
        data=(scored.name,),
        split_sha256=split_hash([scored]),
        recipe=msgspec.to_builtins(recipe),
        seed=seed,
        val_spearman=float(np.mean(each)),
    )


def set_threads(count: int) -> None:
    """Threads of torch's operators; 0 leaves torch's own choice."""
    if count:
        torch.set_num_threads(count)
