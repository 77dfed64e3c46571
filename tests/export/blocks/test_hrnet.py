"""HRNetV2 against a reference written from its keys, step by step; counts, keys and the ONNX graph."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from torch.nn import functional as F

from helpers_blocks import export_block, largest_difference
from memedge_export.blocks.hrnet import Exchange, HrnetV2, upsample
from memedge_export.blocks.resnet2d import BasicBlock, Bottleneck
from memedge_export.models import count


def _bilinear(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``[..., h, w]`` to another size; the centre of output pixel o lies at (o + 0.5) * scale - 0.5 of the input."""
    for axis, wanted in zip((-2, -1), size, strict=True):
        have = x.shape[axis]
        place = np.clip((np.arange(wanted) + 0.5) * have / wanted - 0.5, 0, have - 1)
        low = np.floor(place).astype(int)
        high = np.minimum(low + 1, have - 1)
        share = (place - low).reshape((-1, 1) if axis == -2 else (-1,))
        x = np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share
    return x


class _Reference:
    """The network as CSAIL's keys tell it: float64, one operation after the other."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        self.state = {name: tensor.double() for name, tensor in state.items()}

    def unit(self, x: torch.Tensor, conv: str, norm: str, stride: int = 1) -> torch.Tensor:
        weight = self.state[f"{conv}.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        mean, var, gamma, beta = (self.state[f"{norm}.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
        scale = gamma / torch.sqrt(var + 1e-5)
        return x * scale[:, None, None] + (beta - mean * scale)[:, None, None]

    def block(self, x: torch.Tensor, key: str) -> torch.Tensor:
        number = 1
        y = x
        while f"{key}.conv{number}.weight" in self.state:
            y = self.unit(y, f"{key}.conv{number}", f"{key}.bn{number}")
            last = f"{key}.conv{number + 1}.weight" not in self.state
            y = y if last else F.relu(y)
            number += 1
        if f"{key}.downsample.0.weight" in self.state:
            x = self.unit(x, f"{key}.downsample.0", f"{key}.downsample.1")
        return F.relu(x + y)

    def fuse(self, maps: list[torch.Tensor], key: str) -> list[torch.Tensor]:
        found = []
        for i, own in enumerate(maps):
            total = own
            for j, x in enumerate(maps):
                if j > i:
                    y = self.unit(x, f"{key}.{i}.{j}.0", f"{key}.{i}.{j}.1")
                    total = total + torch.from_numpy(_bilinear(y.numpy(), tuple(own.shape[-2:])))
                elif j < i:
                    for k in range(i - j):
                        x = self.unit(x, f"{key}.{i}.{j}.{k}.0", f"{key}.{i}.{j}.{k}.1", stride=2)
                        x = F.relu(x) if k < i - j - 1 else x
                    total = total + x
            found.append(F.relu(total))
        return found

    def __call__(self, x: torch.Tensor) -> np.ndarray:
        x = F.relu(self.unit(x.double(), "conv1", "bn1", 2))
        x = F.relu(self.unit(x, "conv2", "bn2", 2))
        for i in range(4):
            x = self.block(x, f"layer1.{i}")
        maps = [
            F.relu(self.unit(x, "transition1.0.0", "transition1.0.1")),
            F.relu(self.unit(x, "transition1.1.0.0", "transition1.1.0.1", 2)),
        ]
        for stage, modules in ((2, 1), (3, 4), (4, 3)):
            if stage > 2:
                key = f"transition{stage - 1}.{stage - 1}.0"
                maps.append(F.relu(self.unit(maps[-1], f"{key}.0", f"{key}.1", 2)))
            for m in range(modules):
                for b in range(stage):
                    for k in range(4):
                        maps[b] = self.block(maps[b], f"stage{stage}.{m}.branches.{b}.{k}")
                maps = self.fuse(maps, f"stage{stage}.{m}.fuse_layers")
        size = tuple(maps[0].shape[-2:])
        return np.concatenate([_bilinear(m.numpy(), size).mean((2, 3)) for m in maps], 1)


def _calm(network: HrnetV2) -> HrnetV2:
    """Batch-norm statistics that differ, and branches that keep activations of ordinary size."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.copy_(torch.rand(module.weight.shape, generator=generator) * 0.4 + 0.2)
                module.bias.copy_(torch.randn(module.bias.shape, generator=generator) * 0.1)
                module.running_mean.copy_(torch.randn(module.bias.shape, generator=generator) * 0.1)
                module.running_var.copy_(torch.rand(module.bias.shape, generator=generator) + 0.5)
    return network.eval()


@pytest.fixture(scope="module")
def small() -> HrnetV2:
    torch.manual_seed(0)
    return _calm(HrnetV2(4, 8))


@pytest.mark.parametrize("size", [(64, 64), (40, 72)])
def test_values_agree_with_a_step_by_step_reference(small: HrnetV2, size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found = small(x).numpy()
        expected = _Reference(small.state_dict())(x)
    assert found.shape == (2, small.features) == (2, 60)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("size", [(8, 12), (7, 9)])
def test_interpolation_has_half_pixel_centres(size: tuple[int, int]) -> None:
    x = torch.randn(1, 2, 4, 6, generator=torch.Generator().manual_seed(0))
    assert np.allclose(upsample(x, size).numpy(), _bilinear(x.numpy(), size), atol=1e-6)


def test_golden_counts() -> None:
    with torch.device("meta"):
        network = HrnetV2()
    assert count.parameters(network) == 65_325_120
    assert round(count.macs(network, (256, 256)) / 1e9, 2) == 21.18
    assert round(count.macs(network, (224, 224)) / 1e9, 1) == 16.2
    assert network.features == 720


def test_every_batch_norm_has_its_convolution(small: HrnetV2) -> None:
    pairs = {(id(owner), norm) for owner, _, norm in small.conv_norm_pairs()}
    named = {
        (id(owner), name)
        for owner in small.modules()
        if not isinstance(owner, (BasicBlock, Bottleneck))
        for name, child in owner.named_children()
        if isinstance(child, torch.nn.BatchNorm2d)
    }
    shortcuts = {
        (id(owner.downsample), "1")
        for owner in small.modules()
        if isinstance(owner, (BasicBlock, Bottleneck)) and owner.downsample is not None
    }
    assert pairs == named - shortcuts
    for owner, conv, norm in small.conv_norm_pairs():
        assert getattr(owner, conv).out_channels == getattr(owner, norm).num_features


class _Joined(torch.nn.Module):
    """A module of a stage and the join after it."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__()
        self.exchange = exchange

    def forward(self, high: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
        high, low = self.exchange([high, low])
        return torch.cat([high, upsample(low, high.shape[-2:])], 1).mean((2, 3))


def _check_graph(graph: onnx.ModelProto, resizes: int) -> None:
    found = Counter(node.op_type for node in graph.graph.node)
    assert set(found) <= {"Conv", "Mul", "Relu", "Add", "Resize", "Concat", "ReduceMean"}
    assert found["Resize"] == resizes
    constants = {tensor.name for tensor in graph.graph.initializer}
    for node in graph.graph.node:
        if node.op_type == "Resize":
            modes = {a.name: a.s for a in node.attribute}
            assert modes["coordinate_transformation_mode"] == b"half_pixel"
            assert modes["mode"] == b"linear"
            assert len(node.input) == 3
            assert node.input[2] in constants


def test_a_stage_has_resizes_of_constant_scale_and_no_shape_operators(small: HrnetV2) -> None:
    block = _Joined(small.stage2[0])
    generator = torch.Generator().manual_seed(3)
    maps = [torch.randn(2, 4 * 2**i, 16 >> i, 16 >> i, generator=generator) for i in range(2)]
    graph = export_block(block, *maps)
    _check_graph(graph, 2)
    assert largest_difference(block, graph, *maps) < 1e-5


@pytest.mark.slow
def test_the_whole_graph(small: HrnetV2) -> None:
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    graph = export_block(small, x)
    _check_graph(graph, 1 + 4 * 3 + 3 * 6 + 3)
    assert largest_difference(small, graph, x) < 1e-5 * max(float(small(x).detach().abs().max()), 1.0)
