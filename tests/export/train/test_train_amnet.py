"""AMNet and the heads on it, trained for a few steps: what is frozen stays, scales are fitted, losses fall."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from helpers_sets import gray_memento
from helpers_steps import use_thin
from memedge_export.models.system import build_system, system_entry
from memedge_export.train import start


@pytest.fixture(scope="module")
def memento(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gray_memento(tmp_path_factory.mktemp("memento"))


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Systems of a 32nd of their width."""
    for name in ("amnet", "amnet-rnn", "amnetvid"):
        use_thin(monkeypatch, name, 1 / 32, dropout=False)


def _trained(name: str, memento: Path, out: Path, epochs: int, *overrides: str) -> tuple[dict, dict, list[float]]:
    """State before and after, and the loss of each epoch."""
    best = start.training(
        name,
        [f"memento10k:{memento}"],
        out,
        options={"trunk": "resnet18"},
        overrides=overrides,
        epochs=epochs,
        batch=4,
        seed=3,
        threads=1,
    )
    entry = system_entry(name)
    assert entry is not None
    with (out / "history.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    return build_system(entry, seed=3, options={"trunk": "resnet18"}).state_dict(), load_file(best), losses


def _mean_score(memento: Path) -> float:
    data = json.loads(next(memento.rglob("memento_train_data.json")).read_text())
    return float(np.mean([record["mem_score"] for record in data]))


@pytest.mark.slow
def test_amnet_learns_with_its_trunk_frozen_and_the_norms_in_it_moving(memento: Path, tmp_path: Path) -> None:
    before, after, losses = _trained(
        "amnet", memento, tmp_path / "run", 3, "phases.head.rates.head=1e-2", "sampling=S7"
    )
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    moved = {name for name in changed if name.startswith("trunk.")}
    assert moved
    assert all(name.endswith(("running_mean", "running_var", "num_batches_tracked")) for name in moved)
    assert {"head.att_score.weight", "head.reg.1.bias", "head.cell.recurrent.weight"} <= changed
    assert after["head.scale.center"].item() == pytest.approx(_mean_score(memento), abs=1e-5)
    assert after["head.scale.gain"].item() == 2
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", ["amnet-rnn", pytest.param("amnetvid", marks=pytest.mark.slow)])
def test_heads_learn_on_scores_in_the_sets_range(memento: Path, tmp_path: Path, name: str) -> None:
    before, after, losses = _trained(name, memento, tmp_path / "run", 4)
    changed = {key for key, tensor in before.items() if not torch.equal(tensor, after[key])}
    assert {key.partition(".")[0] for key in changed} == {"head"}, "AMNet stays as it is, to the bit"
    assert {"head.scores.lstm1.cell.input.weight", "head.tail.chain.0.running_mean"} <= changed
    low, high = (after[f"head.scores.range.{key}"].item() for key in ("low", "high"))
    assert 0.5 < low < high < 1
    assert losses[-1] < losses[0]
