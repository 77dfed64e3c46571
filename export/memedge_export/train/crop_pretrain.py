"""Cheap pretraining on ``tiny32``: small crops first, whole pictures at the end.

Most steps see a random 24 x 24 crop (0.56 of the arithmetic of 32 x 32, and an augmentation), later ones 28 x 28, the
last ones the whole picture shifted by up to 2 pixels. Objects keep their scale throughout. No change of colour, which
memorability hangs on, and no label smoothing, which costs transfer. SGD with Nesterov momentum; the rate rises
linearly for the first 15 % of the steps and falls linearly to 0.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..checkpoint import CheckpointInfo, replace_file, save
from .pretrain import load_tiny32, normalise

STATE, TRUNK = "state.pt", "trunk.safetensors"
BATCH = 128
PEAK_RATE = 0.12
WARM = 0.15
HELD_OUT = 2000
# Part of the steps after which crops of this side begin.
SIDES = ((0.0, 24), (0.72, 28), (0.9, 32))


def side_at(part: float) -> int:
    """Side of the crops at ``part`` (0..1) of the steps."""
    return next(side for begin, side in reversed(SIDES) if part >= begin)


def rate_at(part: float) -> float:
    """Learning rate at ``part`` (0..1) of the steps."""
    return PEAK_RATE * (0.05 + 0.95 * part / WARM if part < WARM else (1 - part) / (1 - WARM))


def crops(pictures: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Random places, half of them mirrored: uint8 ``[B,32,32,3]`` to normalised float32 ``[B,3,side,side]``.

    At the full side the pictures are first padded by 2 reflected pixels.
    """
    batch = pictures.permute(0, 3, 1, 2).float() / 255
    count, _, height, _ = batch.shape
    if side == height:
        batch = nn.functional.pad(batch, (2, 2, 2, 2), mode="reflect")
    room = batch.shape[2] - side + 1
    top = torch.randint(0, room, (count,), generator=generator)
    left = torch.randint(0, room, (count,), generator=generator)
    mirrored = torch.rand(count, generator=generator) < 0.5
    along = torch.arange(side).expand(count, side)
    columns = torch.where(mirrored[:, None], side - 1 - along, along) + left[:, None]
    rows = top[:, None] + along
    each, channel = torch.arange(count)[:, None, None, None], torch.arange(3)[None, :, None, None]
    return normalise(batch[each, channel, rows[:, None, :, None], columns[:, None, None, :]])


def pretrain_crops(
    trunk: nn.Module,
    features: int,
    data: Path,
    out: Path,
    *,
    epochs: int,
    seed: int,
    report: Callable[[str], None],
    info: CheckpointInfo | None = None,
    batch: int = BATCH,
    held_out: int = HELD_OUT,
    last: int | None = None,
) -> Path:
    """Train ``trunk`` as a classifier; state after every epoch (resumable), then ``out/trunk.safetensors``.

    Returns the path of the trunk's weights. ``held_out`` pictures (a fifth at most), drawn with the seed, serve for
    the accuracy.
    ``last``: stop after this epoch (of ``epochs``), to go on later.
    """
    pictures, labels = load_tiny32(data)
    order = np.random.default_rng(seed).permutation(len(labels))
    held_out = min(held_out, len(labels) // 5)
    batch = min(batch, len(labels) - held_out)
    held, kept = order[:held_out], order[held_out:]
    torch.manual_seed(seed)
    classifier = nn.Sequential(trunk, nn.Linear(features, int(labels.max()) + 1))
    model = classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = _optimiser(model)
    steps = len(kept) // batch
    first = _resume(out / STATE, model, optimiser)
    for epoch in range(first, epochs if last is None else last):
        generator = torch.Generator().manual_seed(seed * 1000 + epoch)
        shuffled = np.random.default_rng(seed * 1000 + epoch).permutation(kept)
        model.train()
        total = 0.0
        for step in range(steps):
            part = (epoch * steps + step) / (epochs * steps)
            for group in optimiser.param_groups:
                group["lr"] = rate_at(part)
            index = shuffled[step * batch : (step + 1) * batch]
            x = crops(torch.from_numpy(pictures[index]), side_at(part), generator)
            loss = nn.functional.cross_entropy(
                model(x.contiguous(memory_format=torch.channels_last)), torch.from_numpy(labels[index])
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            total += loss.item()
        right = accuracy(model, pictures[held], labels[held])
        report(f"epoch {epoch + 1}/{epochs} loss {total / steps:.3f} held-out accuracy {right:.3f}")
        buffer = io.BytesIO()
        torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(), "epoch": epoch + 1}, buffer)
        replace_file(out / STATE, buffer.getvalue())
    save(out / TRUNK, trunk.state_dict(), info)
    return out / TRUNK


def accuracy(model: nn.Module, pictures: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
    """Part of whole pictures whose class is right; leaves the model in evaluation mode."""
    model.eval()
    right = 0
    with torch.inference_mode():
        for begin in range(0, len(labels), 250):
            x = normalise(torch.from_numpy(pictures[begin : begin + 250]).permute(0, 3, 1, 2).float() / 255)
            right += int((model(x).argmax(1).numpy() == labels[begin : begin + 250]).sum())
    return right / len(labels)


def _optimiser(model: nn.Module) -> torch.optim.SGD:
    """Weight decay for matrices and filters only."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 5e-4}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=PEAK_RATE, momentum=0.9, nesterov=True)


def _resume(state_file: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    if not state_file.exists():
        return 0
    state = torch.load(state_file, weights_only=True)
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["epoch"])
