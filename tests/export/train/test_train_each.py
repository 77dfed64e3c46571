"""Each phase of the default recipes for a few steps: what a phase freezes stays to the bit, its loss falls."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import torch

import helpers_m3s
from helpers_sets import gray_memento, gray_videomem
from helpers_steps import fresh, learn, thin, use_thin, use_thin_resnet
from helpers_training import write_set
from memedge_export.data import open_data
from memedge_export.data.records import DataSet
from memedge_export.models import dsve, frame_preset, m3s, squash_preset, system
from memedge_export.models.system import System
from memedge_export.train import state

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(state, "draw_curves", lambda *_: None)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return open_data(f"folder:{write_set(tmp_path_factory.mktemp('set'), 16)}")


@pytest.fixture(scope="module")
def memento(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return open_data(f"memento10k:{gray_memento(tmp_path_factory.mktemp('memento'))}")


@pytest.fixture(scope="module")
def videomem(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return open_data(f"videomem:{gray_videomem(tmp_path_factory.mktemp('videomem'))}#split=split.csv")


def check(name: str, data: DataSet, out: Path, phases: list[str], *, still: Collection[str] = (), **how: Any) -> None:
    """Train, and check each phase."""
    found = learn(name, data, out, **how)
    assert [one.phase.name for one in found] == phases
    for one in found:
        one.check(fresh(name, options=how.get("options")), still)


@pytest.mark.parametrize("name", ["resnet18", "resnet101"])
def test_resnets(monkeypatch: pytest.MonkeyPatch, memento: DataSet, tmp_path: Path, name: str) -> None:
    use_thin_resnet(monkeypatch, name, frame_preset(72, 64))
    check(name, memento, tmp_path, ["head", "all"], epochs=4, least=1e-3)


@pytest.mark.parametrize("name", ["ic-image", "semantic"])
def test_systems_on_dsve(
    monkeypatch: pytest.MonkeyPatch, pictures: DataSet, memento: DataSet, tmp_path: Path, name: str
) -> None:
    monkeypatch.setattr(dsve, "_BACKBONES", {"resnet152": (1, 1, 1, 1)})
    monkeypatch.setattr(dsve, "_PRESETS", dict.fromkeys(dsve._PRESETS, squash_preset(64, 64)))
    use_thin(monkeypatch, name, 1 / 32, dropout=False)
    if name == "ic-image":
        check(name, pictures, tmp_path, ["head"], epochs=6)
    else:
        check(name, memento, tmp_path, ["head-l1", "head-rank", "all"], epochs=6)


@pytest.mark.parametrize("name", ["amnet", "amnet-mean"])
def test_amnet(monkeypatch: pytest.MonkeyPatch, memento: DataSet, tmp_path: Path, name: str) -> None:
    use_thin(monkeypatch, name, 1 / 32, dropout=False)
    check(name, memento, tmp_path, ["head"], epochs=4, least=1e-2, options={"trunk": "resnet18"})


@pytest.mark.parametrize("name", ["vgg16-mlp", "ic-mlp", "vgg16-svr", "ic-svr"])
def test_heads_on_features_of_pictures(
    monkeypatch: pytest.MonkeyPatch, pictures: DataSet, tmp_path: Path, name: str
) -> None:
    use_thin(monkeypatch, name, 0.02, dropout=False)
    check(name, pictures, tmp_path, ["head"], epochs=8, least=3e-3)


@pytest.mark.parametrize(
    "name",
    ["hmp-mlp", "lbp-mlp", "aesthetics-mlp", "inceptionv3-mlp", "c3d-lbp-aesthetics-mlp", "c3d-hmp-mlp"],
)
def test_heads_on_features_of_videos(
    monkeypatch: pytest.MonkeyPatch, videomem: DataSet, tmp_path: Path, name: str
) -> None:
    use_thin(monkeypatch, name, 0.04)
    check(name, videomem, tmp_path, ["head"], epochs=6)


OWN = ("m3s-mid", "m3s-high")
"""With narrow copies of the trunks themselves, where others have stand-ins; test_train_m3s has both trunks."""
_PHASES = {"m3s-low": ["head"], "m3s-mid": ["head", "all"], "m3s-high": ["head", "all"]}
_PHASES |= {"m3s-lm": _PHASES["m3s-mid"], "m3s-lh": _PHASES["m3s-high"]}


@pytest.mark.parametrize("name", sorted(m3s.COMBINATIONS))
def test_modules_of_m3s(monkeypatch: pytest.MonkeyPatch, memento: DataSet, tmp_path: Path, name: str) -> None:
    letters = m3s.COMBINATIONS[name]
    if "l" in letters and importlib.util.find_spec("cv2") is None:
        pytest.skip("optical flow needs OpenCV (pip install 'memedge[opencv]')")

    def build(width: float = 1.0, **given: Any) -> System:
        return helpers_m3s.network(letters, own=name in OWN, faithful_labels=True)

    monkeypatch.setitem(system._systems, name, dataclasses.replace(thin(name, 1), build=build))
    # A cluster's one-hot has no gradient: what distinctiveness alone sees stays as it is.
    still = [group for letter, group in (("m", "mid.stage4"), ("h", "high.layer4")) if letter not in letters]
    phases = _PHASES.get(name, ["head", "all", "refit"])
    check(name, memento, tmp_path, phases, still=still, epochs=4, least=1e-4)


def test_all_streams_of_semantic_memnet(monkeypatch: pytest.MonkeyPatch, memento: DataSet, tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="optical flow needs OpenCV (pip install 'memedge[opencv]')")
    use_thin(monkeypatch, "semantic-memnet", 0.0625, dropout=False)
    check("semantic-memnet", memento, tmp_path, ["head", "all"], epochs=4, least=3e-3, options={"size": "64"})
