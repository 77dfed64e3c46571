"""Small scored picture sets that a test writes, and tiny recipes to train on them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from memedge_export import models
from memedge_export.train import recipes


def shrink(monkeypatch: pytest.MonkeyPatch, side: int = 16, batch: int = 4) -> None:
    """``resnet-s`` at a quarter of its width and ``side`` pixels; its recipe with one epoch a phase."""
    entry = models.entry("resnet-s")
    small = models.ModelEntry(entry.id, lambda width: entry.build(0.25 * width), models.squash_preset(side, side))
    monkeypatch.setitem(models._entries, "resnet-s", small)
    ours = recipes.named()["resnet-s"]
    phases = tuple(msgspec.structs.replace(phase, epochs=1) for phase in ours.phases)
    monkeypatch.setitem(recipes.named(), "resnet-s", msgspec.structs.replace(ours, phases=phases, batch=batch))


def write_set(folder: Path, count: int = 40, seed: int = 0, size: tuple[int, int] = (40, 32)) -> Path:
    """``list.csv`` (file, score, split) with pictures whose score is their brightness; returns the CSV file."""
    rng = np.random.default_rng(seed)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    lines = ["file,score,split"]
    for number in range(count):
        score = rng.uniform(0.1, 0.9)
        levels = np.clip(255 * score + rng.normal(0, 20, (size[1], size[0], 3)), 0, 255).astype(np.uint8)
        name = f"pictures/{number:03d}.png"
        Image.fromarray(levels).save(folder / name)
        split = "train" if number % 4 < 2 else "val" if number % 4 == 2 else "test"
        lines.append(f"{name},{score:.4f},{split}")
    table = folder / "list.csv"
    table.write_text("\n".join(lines) + "\n")
    return table
