"""The trunk of ``memedge-s``: a small residual network at half the picture's size beside a bank of fixed filters."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .filter_bank import FilterBank
from .resnet2d import BasicBlock


class SmallResNet(nn.Module):
    """float32 ``[B,3,H,W]`` to the maps of its stages at strides 2, 4 and 8.

    Stem: a 3x3 convolution at stride 1 and one at stride 2; each stage is one basic block. It halves the picture
    early: at 32 x 32 pixels, where it is pretrained, an epoch costs 0.4 times that of ``resnet-s``.
    """

    def __init__(self, stem: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv_norm(3, stem, 1), _conv_norm(stem, widths[0], 2))
        inside = widths[0]
        stages = []
        for number, width in enumerate(widths):
            stages.append(BasicBlock(inside, width, 2 if number else 1))
            inside = width
        self.stages = nn.ModuleList(stages)
        self.widths = tuple(widths)
        self.features = inside
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def maps(self, x: Tensor) -> list[Tensor]:
        """One map a stage, ``[B, width, h, w]``."""
        x = self.stem(x)
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Pooled features of the last stage, ``[B, features]``: what pretraining classifies."""
        return self.maps(x)[-1].mean((2, 3))


class SceneTrunk(nn.Module):
    """float32 ``[B,3,128,128]`` to a hidden layer ``[B, features]``.

    The residual network sees the picture halved, near the size of its pretraining. Its stages' means and the filter
    bank's vectors go through one ReLU layer.
    """

    def __init__(self, network: SmallResNet, bank: FilterBank, hidden: int) -> None:
        super().__init__()
        self.network = network
        self.bank = bank
        self.halve = nn.AvgPool2d(2)
        self.sizes = (*network.widths, *bank.sizes)
        # A layer for each vector and a sum, not one layer behind a Concat: int8 would give all that a Concat joins
        # one scale, and their sizes differ a hundredfold.
        self.hidden = nn.ModuleList([nn.Linear(size, hidden, bias=not i) for i, size in enumerate(self.sizes)])
        self.features = hidden

    def pooled(self, frames: Tensor) -> list[Tensor]:
        """The stages' means and the filter bank's vectors, as they are."""
        half = self.halve(frames)
        return [*(stage.mean((2, 3)) for stage in self.network.maps(half)), *self.bank(frames, half)]

    def forward(self, frames: Tensor) -> Tensor:
        """The hidden layer."""
        first, *others = [layer(vector) for layer, vector in zip(self.hidden, self.pooled(frames), strict=True)]
        for other in others:
            first = first + other
        return torch.relu(first)

    @torch.no_grad()
    def set_hidden(self, weight: Tensor, bias: Tensor, center: Tensor, scale: Tensor) -> None:
        """Take over a layer that was trained on ``(vectors - center) * scale``, all vectors joined."""
        parts = (weight * scale).split(list(self.sizes), 1)
        for layer, part in zip(self.hidden, parts, strict=True):
            assert isinstance(layer, nn.Linear)
            layer.weight.copy_(part)
        first = self.hidden[0]
        assert isinstance(first, nn.Linear)
        first.bias.copy_(bias - weight @ (center * scale))


def _conv_norm(inside: int, out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(inside, out, 3, stride, 1, bias=False), norm=nn.BatchNorm2d(out), relu=nn.ReLU(inplace=True)
        )
    )
