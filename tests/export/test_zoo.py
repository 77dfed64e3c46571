from __future__ import annotations

import pytest
import torch

from memedge.errors import UsageError
from memedge.models import card, cards
from memedge_export import models
from memedge_export.models import count
from memedge_export.models.system import system_names

_GOLDEN = {"resnet18": (11_177_025, 1.814), "resnet101": (42_502_209, 7.799)}


@pytest.mark.parametrize("name", models.names())
def test_full_size_counts_agree_with_the_card(name: str) -> None:
    entry = models.entry(name)
    with torch.device("meta"):
        network = entry.build(1.0)
    parameters, macs = count.parameters(network), count.macs(network, models.input_size(entry.preprocess))
    assert (parameters, macs) == (card(name).parameters, card(name).macs)
    if name in _GOLDEN:
        assert (parameters, round(macs / 1e9, 3)) == _GOLDEN[name]


@pytest.mark.parametrize("name", ["resnet18", "resnet101"])
def test_keys_are_torchvisions_under_trunk(name: str) -> None:
    with torch.device("meta"):
        keys = set(models.entry(name).build(1.0).state_dict())
    last = 2 if name == "resnet18" else 3
    for key in ("conv1.weight", "bn1.running_var", f"layer4.1.conv{last}.weight", "layer2.0.downsample.1.bias"):
        assert f"trunk.{key}" in keys
    assert {key for key in keys if not key.startswith("trunk.")} == {"head.0.weight", "head.0.bias"}


def test_stride_lies_on_the_3x3_convolution_of_a_bottleneck() -> None:
    with torch.device("meta"):
        block = models.entry("resnet101").build(1.0).trunk.layer2[0]
    assert (block.conv1.stride, block.conv2.stride, block.conv2.kernel_size) == ((1, 1), (2, 2), (3, 3))


def test_outputs_are_linear_and_the_score_comes_first() -> None:
    torch.manual_seed(0)
    small = models.entry("resnet-s").build(0.25).eval()
    with torch.no_grad():
        score, embedding = small(torch.randn(2, 3, 64, 64))
        big = models.entry("resnet18").build(0.125).eval()(torch.randn(1, 3, 64, 64))
    assert score.shape == (2, 1)
    assert torch.allclose(score, embedding @ small.linear.weight.T + small.linear.bias)
    assert [name for name, _ in small.outputs] == ["score", "embedding"]
    assert len(big) == 1
    assert big[0].shape == (1, 1)


def test_unknown_models_and_systems_are_told_apart() -> None:
    with pytest.raises(UsageError, match="'resnet81' is not known; did you mean 'resnet18'"):
        models.entry("resnet81")
    with pytest.raises(UsageError, match="'memnet' is a system of nodes"):
        models.entry("memnet")


def test_every_available_card_has_a_network_and_every_network_a_card() -> None:
    available = {found.id for found in cards() if found.status == "available"}
    assert available == {*models.names(), *system_names()}


def test_a_model_is_registered_once() -> None:
    preset = models.frame_preset(256, 224)
    with pytest.raises(ValueError, match="registered twice"):
        models.register("resnet18", preset)(lambda width: models.entry("resnet-s").build(width))
