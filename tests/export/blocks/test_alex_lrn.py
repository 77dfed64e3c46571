from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from helpers_blocks import export_block, largest_difference, operators
from memedge_export.blocks.alex_lrn import AlexLrn, ChannelNorm, without_groups
from memedge_export.key_maps.memnet import rename
from memedge_export.models import count

_SHAPES = {
    "conv1": (96, 3, 11, 11),
    "conv2": (256, 48, 5, 5),
    "conv3": (384, 256, 3, 3),
    "conv4": (384, 192, 3, 3),
    "conv5": (256, 192, 3, 3),
    "fc6": (4096, 9216),
    "fc7": (4096, 4096),
}


def _formula(x: np.ndarray, size: int = 5, alpha: float = 1e-4, beta: float = 0.75) -> np.ndarray:
    """Caffe's, channel by channel."""
    out = np.empty_like(x)
    for c in range(x.shape[1]):
        near = x[:, max(0, c - size // 2) : c + size // 2 + 1]
        out[:, c] = x[:, c] / (1 + alpha / size * (near**2).sum(1)) ** beta
    return out


@pytest.mark.parametrize("as_convolution", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_normalisation_is_caffes(as_convolution: bool) -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 12, 5, 7) * 300
    norm = ChannelNorm(12, as_convolution=as_convolution)
    expected = _formula(x.numpy().astype(np.float64))
    assert np.allclose(norm(x).numpy(), expected, rtol=1e-5)
    assert torch.allclose(norm(x), nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)(x), rtol=1e-5)
    graph = export_block(norm, x)
    assert operators(graph) == (["Mul", "Conv", "Add", "Pow", "Mul"] if as_convolution else ["LRN"])
    assert largest_difference(norm, graph, x) < 1e-3  # of values up to 300
    assert not list(norm.state_dict())


def test_golden_counts() -> None:
    with torch.device("meta"):
        network = nn.Sequential(AlexLrn(), nn.Linear(4096, 1))
    assert count.parameters(network) == 56_872_321
    assert round(count.macs(network, (227, 227)) / 1e9, 3) == 0.720


def test_layers_in_caffes_order() -> None:
    """The table of the Caffe model, written down once more with torch's functions."""
    torch.manual_seed(0)
    network = AlexLrn(0.125).eval()
    x = torch.randn(2, 3, 227, 227)
    weights = network.state_dict()

    def conv(name: str, x: torch.Tensor, **how: int) -> torch.Tensor:
        return F.relu(F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **how))

    lrn = nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)
    y = conv("conv1", x, stride=4)
    assert y.shape[2:] == (55, 55)
    y = lrn(F.max_pool2d(y, 3, 2))
    y = lrn(F.max_pool2d(conv("conv2", y, padding=2, groups=2), 3, 2))
    assert y.shape[2:] == (13, 13)
    y = conv("conv4", conv("conv3", y, padding=1), padding=1, groups=2)
    y = F.max_pool2d(conv("conv5", y, padding=1, groups=2), 3, 2)
    assert y.shape[2:] == (6, 6)
    for name in ("fc6", "fc7"):
        y = F.relu(F.linear(y.flatten(1), weights[f"{name}.weight"], weights[f"{name}.bias"]))
    with torch.no_grad():
        assert torch.allclose(network(x), y, rtol=1e-5, atol=1e-6)


def test_form_for_other_accelerators_is_the_same_function() -> None:
    torch.manual_seed(0)
    plain, other = AlexLrn(0.125).eval(), AlexLrn(0.125, lrn_as_convolution=True).eval()
    other.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 227, 227)
    with torch.no_grad():
        assert torch.allclose(without_groups(other)(x), plain(x), rtol=1e-4, atol=1e-6)
    assert all(m.groups == 1 for m in other.modules() if isinstance(m, nn.Conv2d))
    graph = export_block(other, x)
    assert set(operators(graph)) == {"Conv", "Relu", "MaxPool", "Mul", "Add", "Pow", "Reshape", "Gemm"}
    assert largest_difference(other, graph, x) < 1e-5


@pytest.mark.parametrize("last", ["fc8", "fc8-euclidean"])
def test_public_files_fit(last: str) -> None:
    with torch.device("meta"):
        state = {}
        for name, shape in {**_SHAPES, last: (1, 4096)}.items():
            state[f"{name}.weight"], state[f"{name}.bias"] = torch.zeros(shape), torch.zeros(shape[0])
        ours = AlexLrn().state_dict()
    renamed = rename(state)
    assert {n: t.shape for n, t in renamed.items() if n.startswith("trunk.")} == {
        f"trunk.{n}": t.shape for n, t in ours.items()
    }
    assert renamed["head.0.weight"].shape == (1, 4096)
    assert (float(renamed["scale.mean"]), float(renamed["scale.std"])) == (0, 1)
