"""MemNet, VGG-16 with the captioning embedding, and the regressions, trained by their recipes for a few epochs."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from helpers_steps import use_thin
from helpers_training import write_set
from memedge_export.models.system import build_system, system_entry
from memedge_export.train import start, state

WIDTHS = {"memnet": 0.03, "memnet-svr": 0.03, "vgg16-ic": 0.02}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("set"), 32)


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "draw_curves", lambda *_: None)
    for name, by in WIDTHS.items():
        use_thin(monkeypatch, name, by)


def run(
    name: str, pictures: Path, out: Path, epochs: int, **options: str
) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses of the epochs and the trained weights."""
    best = start.training(name, [f"folder:{pictures}"], out, epochs=epochs, batch=4, seed=3, threads=1, options=options)
    with (out / "history.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)], load_file(best)


def changed(name: str, after: dict[str, torch.Tensor], **options: str) -> set[str]:
    """Children of the system with a tensor that is not what it was."""
    entry = system_entry(name)
    assert entry is not None
    before = build_system(entry, seed=3, options=options).state_dict()
    return {key.partition(".")[0] for key, tensor in before.items() if not torch.equal(tensor, after[key])}


def _scores(pictures: Path) -> np.ndarray:
    with pictures.open() as file:
        return np.array([float(row["score"]) for row in csv.DictReader(file) if row["split"] == "train"])


def test_memnet_learns_standardised_scores_with_all_its_layers(pictures: Path, tmp_path: Path) -> None:
    losses, after = run("memnet", pictures, tmp_path, 6)
    assert losses[-1] < losses[0]
    assert changed("memnet", after) == {"trunk", "head", "scale"}
    scores = _scores(pictures)
    assert float(after["scale.mean"]) == pytest.approx(scores.mean(), abs=1e-3)
    assert float(after["scale.std"]) == pytest.approx(scores.std(), rel=0.05)


def test_vgg16_ic_trains_its_head_alone(pictures: Path, tmp_path: Path) -> None:
    losses, after = run("vgg16-ic", pictures, tmp_path, 8)
    assert min(losses[-3:]) < losses[0]
    assert changed("vgg16-ic", after) == {"head"}
    assert after["head.merge.1.weight"].shape[0] == 4


@pytest.mark.parametrize("kind", ["rbf", "neighbours"])
def test_memnet_svr_stores_training_features_and_trains_one_layer(pictures: Path, tmp_path: Path, kind: str) -> None:
    losses, after = run("memnet-svr", pictures, tmp_path, 8, kind=kind, neighbours="2")
    assert losses[-1] <= losses[0]
    assert changed("memnet-svr", after, kind=kind, neighbours="2") == {"head"}
    assert int((after["head.squares"] < 1e29).sum()) == len(_scores(pictures))
    assert float(after["head.standardise.std"].std()) > 0
