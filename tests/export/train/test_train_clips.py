"""resnet3d34 and the perceptrons on C3D, trained by their own recipes for a few epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from helpers_sets import GRAY_LEVELS, gray_videomem
from helpers_steps import use_thin
from memedge_export import weights
from memedge_export.data import open_data
from memedge_export.models.system import build_system, system_entry
from memedge_export.train import state
from memedge_export.train.loop import Job, train
from memedge_export.train.recipes import recipe_for
from memedge_export.train.state import Run

SMALL: dict[str, dict[str, Any]] = {"resnet3d34": {"depths": (1, 1, 1, 1)}, "c3d-mlp": {}, "c3d-mlp-videomem": {}}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen clips of 16 frames, and their C3D vectors as MediaEval 2018 wrote them: brighter ones lean to class 7."""
    root = gray_videomem(tmp_path_factory.mktemp("videomem"))
    folder = root / "dev-set" / "features" / "C3D"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, level in enumerate(GRAY_LEVELS, 1):
        row = rng.uniform(0, 0.01, 101)
        row[7] += level
        (folder / f"video{number}.txt").write_text(" ".join(f"{v:.6f}" for v in row / row.sum()) + " \n")
    return root


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(state, "draw_curves", lambda *_: None)
    for name, more in SMALL.items():
        use_thin(monkeypatch, name, 0.04, **more)


def learn(name: str, clips: Path, out: Path, epochs: tuple[int, ...], **options: str) -> tuple[list[float], set[str]]:
    """Losses of each epoch of the model's first phases, and which children have other parameters than at the start."""
    recipe = recipe_for(name)
    phases = tuple(
        msgspec.structs.replace(p, epochs=n) for p, n in zip(recipe.phases[: len(epochs)], epochs, strict=True)
    )
    runs: list[Run] = []
    data = open_data(f"videomem:{clips}#split=split.csv")
    job = Job(name, [data], msgspec.structs.replace(recipe, phases=phases, batch=4), out, options=options)
    best = train(job, after_epoch=runs.append)
    entry = system_entry(name)
    assert entry is not None
    first, (trained, _) = build_system(entry, seed=1, options=options), weights.read_state(best)
    changed = {n.partition(".")[0] for n, p in first.named_parameters() if not torch.equal(p, trained[n])}
    return [float(row["loss"]) for row in runs[-1].history], changed


@pytest.mark.slow
def test_resnet3d34_trains_its_head_then_everything(clips: Path, tmp_path: Path) -> None:
    losses, changed = learn("resnet3d34", clips, tmp_path / "head", (4,))
    assert losses[-1] < losses[0]
    assert changed == {"head"}
    assert learn("resnet3d34", clips, tmp_path / "all", (1, 1))[1] == {"head", "trunk"}


@pytest.mark.parametrize("name", ["c3d-mlp", "c3d-mlp-videomem"])
def test_heads_on_released_c3d_vectors(clips: Path, tmp_path: Path, name: str) -> None:
    losses, changed = learn(name, clips, tmp_path, (10,), features="files")
    assert min(losses[1:]) < losses[0]
    assert changed == {"head"}


@pytest.mark.slow
def test_a_head_on_live_c3d_leaves_the_trunk_alone(clips: Path, tmp_path: Path) -> None:
    losses, changed = learn("c3d-mlp", clips, tmp_path, (4,))
    assert losses[-1] < losses[0]
    assert changed == {"head"}
