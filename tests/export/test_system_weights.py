"""Weights of systems: checkpoints, public files of parts by key maps, what a wrong file is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from helpers_systems import ENTRIES
from memedge.errors import UsageError
from memedge_engines.manifest import Quantiles, Training
from memedge_export import system_weights
from memedge_export.checkpoint import CheckpointInfo, save
from memedge_export.errors import WeightsError
from memedge_export.models.system import PartImport, System, SystemEntry, build_system
from memedge_export.system_weights import load_system, missing_keys, start_weights


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A public file: ``net.`` before the names, weights of convolutions transposed."""
    return {
        name.removeprefix("net."): tensor.transpose(0, 1) if name.endswith("conv2.weight") else tensor
        for name, tensor in state.items()
        if name != "net.epoch"
    }


def is_public(state: Mapping[str, Tensor]) -> bool:
    return "net.conv1.weight" in state


PUBLIC = PartImport("picture.trunk", "somebody's trunk", rename, is_public)
HYBRID = replace(ENTRIES["hybrid"], imports=(PUBLIC,), torchvision={"picture.trunk": "anything"})


def trunk_state(seed: int = 5) -> dict[str, Tensor]:
    return build_system(ENTRIES["hybrid"], seed=seed).get_submodule("picture.trunk").state_dict()


def public_state() -> dict[str, Tensor]:
    state = {
        f"module.net.{name}": tensor.transpose(0, 1).contiguous() if name == "conv2.weight" else tensor
        for name, tensor in trunk_state().items()
        if "num_batches" not in name
    }
    return {**state, "module.net.epoch": torch.ones(1)}


def whole(network: System, path: Path, **fields: object) -> Path:
    info = CheckpointInfo(
        model="tiny-hybrid",
        training=Training(status="trained", datasets=("d",)),
        quantiles=Quantiles(dataset="d", values=(0.1, 0.9)),
        licence="its terms",
        **fields,  # type: ignore[arg-type]
    )
    save(path, network.state_dict(), info)
    return path


@pytest.mark.parametrize("word", ["{}", "picture.trunk={}"])
def test_a_public_file_is_known_by_its_keys_and_put_into_its_part(tmp_path: Path, word: str) -> None:
    path = tmp_path / "public.safetensors"
    save_file({**public_state(), "module.net.more": torch.zeros(2)}, path)
    loaded = load_system(HYBRID, [word.format(path)])
    for name, tensor in trunk_state().items():
        if "num_batches" not in name:
            assert torch.equal(loaded.network.state_dict()[f"picture.trunk.{name}"], tensor), name
    assert loaded.untrained
    assert "head.head.weight" in loaded.fresh
    assert not any(name.startswith("picture.trunk.") for name in loaded.fresh)
    assert any("1 keys were not used: more" in note for note in loaded.notes)
    assert any("UNTRAINED" in note for note in loaded.notes)
    assert "somebody's trunk" in loaded.origin


def test_every_missing_and_misshapen_key_is_named(tmp_path: Path) -> None:
    state = public_state()
    del state["module.net.bn1.bias"], state["module.net.bn2.weight"]
    state["module.net.conv2.weight"] = torch.zeros(2, 16, 3, 3)
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(WeightsError) as caught:
        load_system(HYBRID, [str(tmp_path / "part.safetensors")])
    text = str(caught.value)
    assert "2 of 10 keys are missing: picture.trunk.bn1.bias, picture.trunk.bn2.weight" in text
    assert "1 keys have another shape: picture.trunk.conv2.weight [16, 2, 3, 3], expected [16, 16, 3, 3]" in text


def test_our_names_of_a_part_with_and_without_its_path(tmp_path: Path) -> None:
    for number, prefix in enumerate(("", "picture.trunk.")):
        path = tmp_path / f"{number}.safetensors"
        save_file({prefix + name: tensor for name, tensor in trunk_state().items()}, path)
        loaded = load_system(HYBRID, [f"picture.trunk={path}"])
        assert torch.equal(loaded.network.picture.trunk.conv1.weight, trunk_state()["conv1.weight"])  # type: ignore[union-attr]


def test_a_whole_checkpoint_brings_its_options_and_training(tmp_path: Path) -> None:
    network = build_system(ENTRIES["hybrid"], seed=5)
    path = whole(network, tmp_path / "best.safetensors", options={"weight": 0.5})
    loaded = load_system(HYBRID, [str(path)])
    assert not loaded.untrained
    assert loaded.options == {"weight": 0.5}
    assert loaded.quantiles["short_term"].values == (0.1, 0.9)
    assert (loaded.training.datasets, loaded.licence) == (("d",), "its terms")
    assert loaded.network.node("head").inputs[2].default == [0.5]
    with pytest.raises(UsageError, match=r"the checkpoint was trained with weight=0\.5"):
        load_system(HYBRID, [str(path)], options={"weight": "1"})
    with pytest.raises(WeightsError, match="is a checkpoint of tiny-hybrid; expected tiny-clip"):
        load_system(ENTRIES["clip"], [str(path)])


def test_the_newest_run_is_taken_and_without_one_the_seed(tmp_path: Path) -> None:
    network = build_system(ENTRIES["hybrid"], seed=5)
    whole(network, tmp_path / "tiny-hybrid" / "run" / "best.safetensors")
    loaded = load_system(HYBRID, runs=tmp_path)
    assert torch.equal(loaded.network.head.head.weight, network.head.head.weight)  # type: ignore[union-attr]
    bare = load_system(HYBRID, runs=tmp_path / "none", seed=5)
    assert bare.untrained
    assert bare.fresh == set(missing_keys(bare.network, set()))
    assert torch.equal(bare.network.head.head.weight, network.head.head.weight)  # type: ignore[union-attr]


def test_imagenet_weights_of_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_weights, "torchvision_state", lambda name: (public_state(), f"torchvision's {name}"))
    for word in ("imagenet", "picture.trunk=imagenet"):
        loaded = load_system(HYBRID, [word])
        assert torch.equal(loaded.network.picture.trunk.bn1.bias, trunk_state()["bn1.bias"])  # type: ignore[union-attr]
        assert "ImageNet" in loaded.licence
    for entry, word in ((HYBRID, "head=imagenet"), (ENTRIES["clip"], "imagenet")):
        with pytest.raises(WeightsError, match="there are ImageNet weights"):
            load_system(entry, [word])


def test_words_that_fit_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"what": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"neither our names .* it has what.*somebody's trunk"):
        load_system(HYBRID, [str(path)])
    with pytest.raises(UsageError, match=r"has no part .neck.; it has picture\.trunk, picture, head"):
        load_system(HYBRID, [f"neck={path}"])
    two = replace(HYBRID, imports=(PUBLIC, replace(PUBLIC, part="head")))
    save_file(public_state(), path)
    with pytest.raises(UsageError, match=r"may be of several parts .* picture.trunk=FILE or --weights head=FILE"):
        load_system(two, [str(path)])
    save_file({**public_state(), "module.net.bn1.bias": torch.full((16,), float("nan"))}, path)
    with pytest.raises(WeightsError, match=r"not finite, in picture.trunk.bn1.bias"):
        load_system(HYBRID, [str(path)])


def test_renames_that_fail_are_told(tmp_path: Path) -> None:
    def broken(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"a": state["gone"]}

    path = tmp_path / "x.safetensors"
    save_file(public_state(), path)
    entry: SystemEntry = replace(HYBRID, imports=(replace(PUBLIC, rename=broken),))
    with pytest.raises(WeightsError, match=r"is no whole file of somebody's trunk: 'gone'"):
        load_system(entry, [str(path)])


def test_start_weights_of_another_target_lack_the_last_layer(tmp_path: Path) -> None:
    network = build_system(ENTRIES["hybrid"], seed=5)
    state = {**network.state_dict(), "head.head.weight": torch.zeros(4, 30), "head.head.bias": torch.zeros(4)}
    info = CheckpointInfo(model="tiny-hybrid", training=Training(status="trained"))
    save(tmp_path / "classes.safetensors", state, info)
    fresh = build_system(ENTRIES["hybrid"], seed=6)
    given = start_weights(HYBRID, fresh, [str(tmp_path / "classes.safetensors")])
    assert missing_keys(fresh, given.keys) == ["head.head.weight", "head.head.bias"]
    assert any("other targets or classes" in note for note in given.notes)
    assert torch.equal(fresh.picture.trunk.conv1.weight, network.picture.trunk.conv1.weight)  # type: ignore[union-attr]
