"""M3-S trained for a few steps by its recipe: parts are fitted first, frozen trunks stay, the loss falls."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import helpers_m3s
from helpers_sets import gray_memento
from memedge_export.models import m3s, system
from memedge_export.train import start

pytest.importorskip("cv2", reason="optical flow needs OpenCV (pip install 'memedge[opencv]')")


def _build(width: float = 1.0, **given: Any) -> system.System:
    return helpers_m3s.network(own=True, faithful_labels=True)


@pytest.fixture(scope="module")
def memento(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gray_memento(tmp_path_factory.mktemp("memento"))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> system.SystemEntry:
    real = system.system_entry("m3s")
    assert real is not None
    entry = dataclasses.replace(real, build=_build)
    monkeypatch.setitem(system._systems, "m3s", entry)
    return entry


def _trained(
    entry: system.SystemEntry, memento: Path, out: Path, *overrides: str
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], list[dict[str, str]]]:
    """State before and after, and a row for each epoch."""
    best = start.training("m3s", [f"memento10k:{memento}"], out, overrides=overrides, batch=4, seed=3, threads=1)
    with (out / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    return system.build_system(entry, seed=3).state_dict(), load_file(best), rows


def _changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


_FITTED = {"pca.weight", "head.sims.mid.pca.weight", "head.sims.high.measure.out_weight", "head.standard.mean"}
_EPOCHS = ("phases.head.epochs=3", "phases.all.epochs=1", "phases.refit.epochs=1")


def test_the_head_learns_on_fitted_parts(small: system.SystemEntry, memento: Path, tmp_path: Path) -> None:
    one = tmp_path / "head.toml"
    text = (Path(m3s.__file__).parent.parent / "recipes" / "m3s-videomem.toml").read_text()
    one.write_text(text.replace("epochs = 20", "epochs = 6"))
    best = start.training(
        "m3s", [f"memento10k:{memento}"], tmp_path / "run", recipe=str(one), batch=4, seed=3, threads=1
    )
    before, after = system.build_system(small, seed=3).state_dict(), load_file(best)
    changed = _changed(before, after)
    assert {name.partition(".")[0] for name in changed} == {"pca", "head"}, "trunks stay as they are, to the bit"
    assert _FITTED | {"head.mlp.0.weight"} <= changed
    with (tmp_path / "run" / "history.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_every_phase_of_the_recipe(small: system.SystemEntry, memento: Path, tmp_path: Path) -> None:
    before, after, rows = _trained(small, memento, tmp_path / "run", *_EPOCHS)
    assert [row["phase"] for row in rows] == ["head"] * 3 + ["all", "refit"]
    losses = [float(row["loss"]) for row in rows]
    assert losses[2] < losses[0]
    trained = {name for name in _changed(before, after) if name.startswith(("mid.", "high."))}
    assert all(name.startswith(("mid.stage4.", "high.layer4.")) for name in trained)
