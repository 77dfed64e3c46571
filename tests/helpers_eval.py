"""Small checkpoints, bundles and sets of clips that evaluation tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from helpers_video import write_video
from memedge_engines.manifest import Training
from memedge_export import models, weights
from memedge_export.checkpoint import CheckpointInfo, save

SIZE = 24


def write_checkpoint(path: Path, seed: int = 1, targets: tuple[str, ...] = ("short_term", "long_term")) -> Path:
    """A quarter-width resnet-s for 24 x 24 pixels whose scores spread around one half."""
    network = weights.build(models.entry("resnet-s"), seed=seed, width=0.25, targets=targets)
    for linear in network.linears:
        linear.bias.data.fill_(0.5)
    info = CheckpointInfo(
        model="resnet-s",
        preprocess=models.squash_preset(SIZE, SIZE),
        width=0.25,
        training=Training(status="trained", datasets=("pictures listed in list.csv [20 train pictures]",)),
        targets=targets,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, network.state_dict(), info)
    return path


def write_clips(folder: Path, count: int = 3) -> Path:
    """``clips.csv`` with clips of 2.3 s at 12 frames a second whose brightness moves; the CSV file."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["file,score,split"]
    for number in range(count):
        rng = np.random.default_rng(number)
        levels = 255 * np.clip(0.2 + 0.2 * number + 0.3 * np.sin(np.arange(28) / 3), 0, 1)
        frames = [np.clip(level + rng.normal(0, 20, (32, 48, 3)), 0, 255).astype(np.uint8) for level in levels]
        write_video(folder / f"{number}.mkv", frames, codec="ffv1", rate=12)
        lines.append(f"{number}.mkv,{0.3 + 0.2 * number},test")
    table = folder / "clips.csv"
    table.write_text("\n".join(lines) + "\n")
    return table
