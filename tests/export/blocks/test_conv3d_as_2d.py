from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from helpers_blocks import export_block, largest_difference, operators
from memedge_export.blocks.as_2d import as_2d
from memedge_export.blocks.clip_layers import ClipFlatten, ClipMean, SamePad3d, SubsampleShortcut, same_pads
from memedge_export.blocks.conv3d_as_2d import Conv3dAs2d
from memedge_export.errors import ExportError

CONVS = {
    "dense": (nn.Conv3d(6, 5, 3, 1, 1), "taps"),
    "without bias": (nn.Conv3d(6, 5, 3, 1, 1, bias=False), "taps"),
    "no padding": (nn.Conv3d(6, 5, 3), "taps"),
    "wider padding than the kernel needs": (nn.Conv3d(6, 5, 3, 1, 2), "stack"),
    "strided": (nn.Conv3d(6, 5, 3, 2, 1), "stack"),
    "stem": (nn.Conv3d(3, 24, 7, (1, 2, 2), 3), "stack"),
    "flat stem": (nn.Conv3d(3, 8, (3, 7, 7), (1, 2, 2), (1, 3, 3)), "taps"),
    "pointwise": (nn.Conv3d(6, 5, 1), "plain"),
    "pointwise, strided": (nn.Conv3d(6, 5, 1, 2), "plain"),
    "padded in time though one frame tall": (nn.Conv3d(6, 5, (1, 3, 3), 1, (1, 1, 1)), "plain"),
    "depthwise": (nn.Conv3d(6, 6, 3, 1, 1, groups=6, bias=False), "grouped"),
    "depthwise, strided": (nn.Conv3d(6, 6, 3, 2, 1, groups=6), "grouped"),
    "two groups": (nn.Conv3d(6, 4, 3, (2, 1, 1), 1, groups=2), "grouped"),
    "even kernel, same": (nn.Conv3d(6, 5, (2, 4, 3), padding="same"), "taps"),
    "dilated": (nn.Conv3d(6, 5, 3, 1, 2, dilation=2), "taps"),
    "valid": (nn.Conv3d(6, 5, 3, padding="valid"), "taps"),
    "temporal only": (nn.Conv3d(6, 5, (5, 1, 1), 1, (2, 0, 0)), "taps"),
}
POOLS = {
    "max 2": nn.MaxPool3d(2),
    "max in place only": nn.MaxPool3d((1, 2, 2)),
    "max in time only": nn.MaxPool3d((2, 1, 1), (1, 1, 1)),
    "max 3/2 padded": nn.MaxPool3d(3, 2, 1),
    "max 3/1 padded": nn.MaxPool3d(3, 1, 1),
    "max, ceil": nn.MaxPool3d(2, 2, ceil_mode=True),
    "max 3/2, ceil": nn.MaxPool3d(3, 2, 1, ceil_mode=True),
    "max, dilated": nn.MaxPool3d(2, 1, dilation=2),
    "average 2": nn.AvgPool3d(2),
    "average 2x3x3 stride 1": nn.AvgPool3d((2, 3, 3), 1),
    "average padded": nn.AvgPool3d(3, 2, 1),
    "average padded, padding not counted": nn.AvgPool3d(3, 2, 1, count_include_pad=False),
    "average, ceil": nn.AvgPool3d(3, 2, 1, ceil_mode=True),
    "average, ceil, padding not counted": nn.AvgPool3d(
        (2, 3, 2), 2, (1, 1, 0), ceil_mode=True, count_include_pad=False
    ),
    "norm": nn.BatchNorm3d(6),
}


def clip(channels: int = 6, frames: int = 7, height: int = 9, width: int = 10) -> Tensor:
    return torch.randn(2, channels, frames, height, width, generator=torch.Generator().manual_seed(0))


def same(network: nn.Module, given: Tensor) -> nn.Module:
    """The 2-D form, checked against the 3-D one in double precision, where only rounding is left."""
    found = as_2d(network.double(), given.shape[1:])
    assert not any(isinstance(m, (nn.Conv3d, nn.MaxPool3d, nn.AvgPool3d, nn.BatchNorm3d)) for m in found.modules())
    with torch.no_grad():
        expected = network.eval()(given.double())
        torch.testing.assert_close(found(given.double()), expected, rtol=0, atol=1e-12)
    return found


@pytest.mark.filterwarnings("ignore:Using padding=.same.")
@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("frames", [5, 8])
def test_convolutions(name: str, frames: int) -> None:
    conv, form = CONVS[name]
    found = same(conv, clip(conv.in_channels, frames))
    assert [m.form for m in found.modules() if isinstance(m, Conv3dAs2d)] == [form]


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("frames", [4, 7])
def test_poolings_and_norm(name: str, frames: int) -> None:
    pool = POOLS[name]
    if isinstance(pool, nn.BatchNorm3d):
        nn.init.normal_(pool.weight)
        nn.init.normal_(pool.running_mean)
    # All below zero: padding with zeros would show.
    same(pool, clip(6, frames) - 10)


def test_same_padding_is_tensorflows() -> None:
    assert same_pads((224, 45, 7), (7, 7, 3), (2, 2, 1)) == [(2, 3), (3, 3), (1, 1)]
    assert same_pads((112, 23, 22), (3, 3, 2), (2, 2, 2)) == [(0, 1), (1, 1), (0, 0)]
    for kernel, stride in (((7, 7, 7), (2, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((1, 3, 3), (1, 2, 2))):
        for frames in (7, 8):
            pad = SamePad3d(kernel, stride)
            network = nn.Sequential(pad, nn.Conv3d(6, 4, kernel, stride), nn.ReLU(), pad, nn.MaxPool3d(kernel, stride))
            network[3] = SamePad3d(kernel, stride)
            found = same(network, clip(6, frames))
            once = math.ceil(frames / stride[0])
            assert found(clip(6, frames).double()).shape[2] == math.ceil(once / stride[0])


def test_layers_that_look_at_time_and_place() -> None:
    for layer in (ClipMean(), ClipFlatten(), SubsampleShortcut(6, 9, 2)):
        for frames in (1, 4, 5):
            same(layer, clip(6, frames))


class Net(nn.Module):
    """Branches joined, a shortcut, two inputs, a clip among two outputs; one layer is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(3, 24, 3, 1, 1, bias=False), nn.BatchNorm3d(24), nn.ReLU())
        self.left, self.right = nn.Conv3d(24, 4, 1), nn.Conv3d(24, 4, 3, 1, 1)
        self.shortcut, self.pool = nn.Conv3d(24, 8, 1), nn.MaxPool3d(2)
        self.unused, self.mean, self.head = nn.Conv3d(1, 1, 1), ClipMean(), nn.Linear(9, 1)

    def forward(self, x: Tensor, extra: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        x = torch.relu(torch.cat([self.left(x), self.right(x)], 1) + self.shortcut(x))
        x = self.pool(x)
        return self.head(torch.cat([self.mean(x), extra], 1)), x


@pytest.mark.slow
def test_a_whole_network_keeps_its_inputs_and_outputs_and_exports_without_3d_operators() -> None:
    torch.manual_seed(1)
    network, given, extra = Net().eval(), clip(3, 6, 8, 8), torch.randn(2, 1)
    found = as_2d(network, (3, 6, 8, 8), (1,))
    assert isinstance(network.stem[0], nn.Conv3d)
    assert found.network.head.weight is network.head.weight
    assert found.network.head is not network.head
    with torch.no_grad():
        expected = network(given, extra)
        for a, b in zip(found(given, extra), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
    model = export_block(found, given, extra)
    assert all(len(t.dims) < 5 for t in model.graph.initializer)
    assert not set(operators(model)) & {"Shape", "Gather", "Cast", "Expand", "ScatterND", "Loop", "If"}
    assert largest_difference(found, model, given, extra) < 1e-5


def test_what_has_no_2d_form_is_named() -> None:
    cases: list[tuple[nn.Module, str]] = [
        (nn.Sequential(nn.Conv3d(6, 4, 3, padding_mode="replicate")), "pads with 'replicate'"),
        (nn.Sequential(nn.ReLU(), nn.InstanceNorm3d(6)), "'1' \\(InstanceNorm3d\\) has no 2-D form"),
        (nn.MaxPool3d(2, return_indices=True), "indices"),
        (nn.AvgPool3d(2, divisor_override=3), "divisor of its own"),
    ]
    for network, message in cases:
        with pytest.raises(ExportError, match=message):
            as_2d(network, (6, 7, 9, 10))

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(6, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).flatten(2).mean(2)

    with pytest.raises(ExportError, match="operation outside a module that needs the 3-D form"):
        as_2d(Mean(), (6, 7, 9, 10))

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool, self.relu = nn.MaxPool3d(2), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(self.relu(self.pool(x)))

    with pytest.raises(ExportError, match=r"'pool' is used on clips of \[4, 8\] frames"):
        as_2d(Twice(), (6, 8, 8, 8))
