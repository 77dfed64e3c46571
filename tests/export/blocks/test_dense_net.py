"""DenseNet-121 against torchvision's, and its key map."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import nn

from memedge_export.blocks.dense_net import DenseNet
from memedge_export.key_maps import dense_net as keys
from memedge_export.models import count
from memedge_export.torchvision_compat import import_torchvision


def test_golden_counts() -> None:
    with torch.device("meta"):
        network = nn.Sequential(DenseNet(), nn.Linear(1024, 1))
    assert count.parameters(network) == 6_954_881
    assert round(count.macs(network, (224, 224)) / 1e9, 3) == 2.833


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="torchvision is absent")
def test_equal_to_torchvision_with_its_names() -> None:
    torch.manual_seed(0)
    theirs = import_torchvision().models.DenseNet(growth_rate=8, block_config=(6, 12, 24, 16), num_init_features=16)
    theirs.classifier = nn.Identity()
    ours = DenseNet(0.25).eval()
    ours.load_state_dict(keys.rename(theirs.state_dict()), strict=False)
    missing = set(ours.state_dict()) - set(keys.rename(theirs.state_dict()))
    assert all(name.endswith("num_batches_tracked") for name in missing)
    frames = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(frames), theirs.eval()(frames), rtol=0, atol=1e-5)


@pytest.mark.parametrize("old", [False, True])
def test_names_of_files(old: bool) -> None:
    with torch.device("meta"):
        state = DenseNet().state_dict()
    names = {name.replace("body.", "features."): tensor for name, tensor in state.items()}
    if old:
        for number in (1, 2):
            names = {
                k.replace(f".norm{number}.", f".norm.{number}.").replace(f".conv{number}.", f".conv.{number}."): v
                for k, v in names.items()
                if "denselayer" in k
            } | {k: v for k, v in names.items() if "denselayer" not in k}
    names["classifier.weight"] = torch.empty(1000, 1024, device="meta")
    assert keys.is_dense_net(names)
    found = keys.rename({f"module.{k}": v for k, v in names.items()})
    assert set(found) == {name for name in state if not name.endswith("num_batches_tracked")}
    assert not keys.is_dense_net({"features.conv0.weight": torch.empty(1)})
