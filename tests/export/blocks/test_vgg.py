from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from helpers_blocks import export_block, largest_difference, operators
from memedge_export.blocks.ic_tower import IcProjection, IcTower
from memedge_export.blocks.vgg import Vgg
from memedge_export.key_maps import vgg as names
from memedge_export.key_maps import vse
from memedge_export.models import count
from memedge_export.torchvision_compat import import_torchvision

_theirs = pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="torchvision is absent")


@pytest.mark.parametrize(("depth", "parameters", "gmac"), [(16, 134_260_544, 15.466), (19, 139_570_240, 19.628)])
def test_golden_counts(depth: int, parameters: int, gmac: float) -> None:
    with torch.device("meta"):
        network = Vgg(depth)  # type: ignore[arg-type]
    assert (count.parameters(network), round(count.macs(network, (224, 224)) / 1e9, 3)) == (parameters, gmac)


@_theirs
@pytest.mark.parametrize("depth", [16, 19])
def test_torchvisions_keys_and_shapes_are_ours_after_renaming(depth: int) -> None:
    models = import_torchvision().models
    with torch.device("meta"):
        theirs = getattr(models, f"vgg{depth}")().state_dict()
        ours = Vgg(depth).state_dict()  # type: ignore[arg-type]
    renamed = names.rename({f"module.{name}": tensor for name, tensor in theirs.items()})
    assert {name: tensor.shape for name, tensor in renamed.items()} == {n: t.shape for n, t in ours.items()}
    assert len(theirs) - len(ours) == 2  # the 1000 classes


@_theirs
@pytest.mark.parametrize("depth", [16, 19])
def test_convolutions_agree_with_torchvisions_layers(depth: int) -> None:
    """Full-width vgg with the size of its pictures and of its dense layers reduced, which the body does not know."""
    torch.manual_seed(0)
    theirs = getattr(import_torchvision().models, f"vgg{depth}")
    with torch.device("meta"):
        body = theirs().features
    body = body.to_empty(device="cpu").eval()
    for parameter in body.parameters():
        torch.nn.init.normal_(parameter, 0, 0.03)
    with torch.device("meta"):
        ours = Vgg(depth).body  # type: ignore[arg-type]
    ours = ours.to_empty(device="cpu")
    renamed = names.rename({f"features.{name}": tensor for name, tensor in body.state_dict().items()})
    ours.load_state_dict({name.removeprefix("body."): tensor for name, tensor in renamed.items()})
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        expected = body(x)
        assert float(expected.abs().max()) > 0
        assert torch.allclose(ours(x), expected, rtol=1e-5, atol=0)


@_theirs
@pytest.mark.slow
def test_fc7_agrees_with_torchvisions_vgg16() -> None:
    torch.manual_seed(0)
    theirs = import_torchvision().models.vgg16(weights=None).eval()
    ours = Vgg(16).eval()
    ours.load_state_dict(names.rename(theirs.state_dict()))
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        expected = theirs.classifier[:5](theirs.features(x).flatten(1))
        assert torch.allclose(ours(x), expected, rtol=1e-4, atol=1e-6)


def test_caffes_layer_names() -> None:
    with torch.device("meta"):
        ours = Vgg(19).state_dict()
    convolutions = [f"conv{stage}_{i}" for stage, n in enumerate((2, 2, 4, 4, 4), 1) for i in range(1, n + 1)]
    bodies = [name for name in ours if name.startswith("body.") and name.endswith("weight")]
    state = {f"{caffe}.weight": ours[name] for caffe, name in zip(convolutions, bodies, strict=True)}
    state |= {
        f"{caffe}.bias": ours[name.replace("weight", "bias")] for caffe, name in zip(convolutions, bodies, strict=True)
    }
    state |= {name: ours[name] for name in ours if name.startswith("fc")}
    renamed = names.rename(state | {"fc8.weight": torch.zeros(1000, 4096), "fc8.bias": torch.zeros(1000)})
    assert {name: id(tensor) for name, tensor in renamed.items()} == {name: id(tensor) for name, tensor in ours.items()}


def test_a_frozen_trunk_drops_nothing_out() -> None:
    torch.manual_seed(0)
    trunk = Vgg(16, 0.02).train()
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert not torch.equal(trunk(x), trunk(x))
        trunk.requires_grad_(False)
        assert torch.equal(trunk(x), trunk.eval()(x))


def test_tower_is_fc7_and_projection_between_unit_norms() -> None:
    torch.manual_seed(0)
    tower = IcTower(0.03).eval()
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        fc7 = tower.trunk(x).numpy().astype(np.float64)
        found = tower(x).numpy()
    fc7 /= np.linalg.norm(fc7, axis=1, keepdims=True)
    expected = fc7 @ tower.project.weight.detach().numpy().T + tower.project.bias.detach().numpy()
    assert np.allclose(found, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)


def test_exported_projection() -> None:
    torch.manual_seed(0)
    block = IcProjection(6, 8 / 1024)
    x = torch.cat([torch.randn(2, 6), torch.zeros(1, 6)])
    graph = export_block(block, x)
    assert set(operators(graph)) == {"ReduceL2", "Clip", "Div", "Gemm"}
    assert largest_difference(block, graph, x) < 1e-6


def test_projection_of_the_public_embedding() -> None:
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(6, 8)), rng.normal(size=8)
    state = {"ff_image_W": torch.from_numpy(weight), "ff_image_b": torch.from_numpy(bias), "Wemb": torch.zeros(3, 3)}
    assert vse.detect(state)
    assert not vse.detect({"Wemb": torch.zeros(1)})
    block = IcProjection(6, 8 / 1024)
    block.project.load_state_dict(vse.rename(state))
    x = rng.normal(size=(2, 6))
    expected = x / np.linalg.norm(x, axis=1, keepdims=True) @ weight + bias
    with torch.no_grad():
        found = block(torch.from_numpy(x.astype(np.float32))).numpy()
    assert np.allclose(found, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)


def test_golden_count_of_the_projection() -> None:
    with torch.device("meta"):
        assert count.parameters(IcProjection(4096)) == 4_195_328
