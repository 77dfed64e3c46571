"""Block B4: Inception-v3 (C. Szegedy et al., CVPR 2016) in torchvision's layout, without the auxiliary classifier.

23,834,568 parameters with its 1,000 classes, 5.713 GMAC at 299x299. Batch-norm's eps is 1e-3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .widths import scaled

CLASSES = 1000


class _Unit(NamedTuple):
    """A convolution of a table below: torchvision's name, channels, kernel (height, width), stride."""

    name: str
    channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1


_Chain = Sequence[_Unit | tuple[_Unit, _Unit]]
"""Units one after the other; a pair at the end takes the same input and is concatenated."""


class ConvNormRelu(nn.Module):
    """Convolution without bias, batch-norm, ReLU: ``[B,in,H,W]`` to ``[B,out,H',W']``."""

    def __init__(self, inputs: int, channels: int, kernel: tuple[int, int], stride: int, pad: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, channels, kernel, stride, pad, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=1e-3)

    def conv_norm_pairs(self) -> list[tuple[nn.Module, str, str]]:
        """Its only pair."""
        return [(self, "conv", "bn")]

    def forward(self, x: Tensor) -> Tensor:
        """``[B,out,H',W']``."""
        return torch.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Parallel chains and a pool, concatenated. Kernels at stride 1 keep the size, at stride 2 nothing is padded.

    Args:
        chains: of units, in the order of the result.
        pooled: a unit behind an average pool of 3x3; none: a max-pool of 3x3 at stride 2.

    Attributes:
        channels: of the result.
    """

    def __init__(self, inputs: int, chains: Sequence[_Chain], pooled: _Unit | None, width: float) -> None:
        super().__init__()
        self.chains = [[step if isinstance(step[0], tuple) else (step,) for step in chain] for chain in chains]
        self.pooled = pooled
        self.channels = 0
        for chain in self.chains:
            before = inputs
            for step in chain:
                for unit in step:
                    self._add(before, unit, width)
                before = sum(scaled(unit.channels, width) for unit in step)
            self.channels += before
        if pooled is None:
            self.channels += inputs
        else:
            self._add(inputs, pooled, width)
            self.channels += scaled(pooled.channels, width)

    def _add(self, inputs: int, unit: _Unit, width: float) -> None:
        pad = (0, 0) if unit.stride > 1 else (unit.kernel[0] // 2, unit.kernel[1] // 2)
        made = ConvNormRelu(inputs, scaled(unit.channels, width), unit.kernel, unit.stride, pad)
        self.add_module(unit.name, made)

    def forward(self, x: Tensor) -> Tensor:
        """``[B,inputs,H,W]`` to ``[B,channels,H',W']``."""
        found = []
        for chain in self.chains:
            y = x
            for step in chain:
                results = [getattr(self, unit.name)(y) for unit in step]
                y = results[0] if len(results) == 1 else torch.cat(results, 1)
            found.append(y)
        if self.pooled is None:
            found.append(F.max_pool2d(x, 3, 2))
        else:
            found.append(getattr(self, self.pooled.name)(F.avg_pool2d(x, 3, 1, 1)))
        return torch.cat(found, 1)


def _five(pool: int) -> tuple[list[_Chain], _Unit]:
    """35x35: 1x1, 5x5 and two 3x3."""
    twice: _Chain = [
        _Unit("branch3x3dbl_1", 64),
        _Unit("branch3x3dbl_2", 96, (3, 3)),
        _Unit("branch3x3dbl_3", 96, (3, 3)),
    ]
    chains: list[_Chain] = [
        [_Unit("branch1x1", 64)],
        [_Unit("branch5x5_1", 48), _Unit("branch5x5_2", 64, (5, 5))],
        twice,
    ]
    return chains, _Unit("branch_pool", pool)


def _six(inner: int) -> tuple[list[_Chain], _Unit]:
    """17x17: 7x7 as 1x7 and 7x1, once and twice."""
    once = [("1", inner, (1, 1)), ("2", inner, (1, 7)), ("3", 192, (7, 1))]
    twice = [("1", inner, (1, 1)), ("2", inner, (7, 1)), ("3", inner, (1, 7)), ("4", inner, (7, 1)), ("5", 192, (1, 7))]
    chains: list[_Chain] = [
        [_Unit("branch1x1", 192)],
        [_Unit(f"branch7x7_{number}", channels, kernel) for number, channels, kernel in once],
        [_Unit(f"branch7x7dbl_{number}", channels, kernel) for number, channels, kernel in twice],
    ]
    return chains, _Unit("branch_pool", 192)


def _seven() -> tuple[list[_Chain], _Unit]:
    """8x8: 3x3 as a fan of 1x3 and 3x1."""

    def fan(name: str) -> tuple[_Unit, _Unit]:
        return _Unit(f"{name}a", 384, (1, 3)), _Unit(f"{name}b", 384, (3, 1))

    twice: _Chain = [_Unit("branch3x3dbl_1", 448), _Unit("branch3x3dbl_2", 384, (3, 3)), fan("branch3x3dbl_3")]
    chains: list[_Chain] = [[_Unit("branch1x1", 320)], [_Unit("branch3x3_1", 384), fan("branch3x3_2")], twice]
    return chains, _Unit("branch_pool", 192)


_TO_SIX: list[_Chain] = [
    [_Unit("branch3x3", 384, (3, 3), 2)],
    [_Unit("branch3x3dbl_1", 64), _Unit("branch3x3dbl_2", 96, (3, 3)), _Unit("branch3x3dbl_3", 96, (3, 3), 2)],
]
_TO_SEVEN: list[_Chain] = [
    [_Unit("branch3x3_1", 192), _Unit("branch3x3_2", 320, (3, 3), 2)],
    [
        _Unit("branch7x7x3_1", 192),
        _Unit("branch7x7x3_2", 192, (1, 7)),
        _Unit("branch7x7x3_3", 192, (7, 1)),
        _Unit("branch7x7x3_4", 192, (3, 3), 2),
    ],
]
MIXED: dict[str, tuple[list[_Chain], _Unit | None]] = {
    "5b": _five(32),
    "5c": _five(64),
    "5d": _five(64),
    "6a": (_TO_SIX, None),
    "6b": _six(128),
    "6c": _six(160),
    "6d": _six(160),
    "6e": _six(192),
    "7a": (_TO_SEVEN, None),
    "7b": _seven(),
    "7c": _seven(),
}
# Name, channels, kernel, stride, padding; a max-pool of 3x3 at stride 2 follows where the last is set.
_STEM: tuple[tuple[str, int, int, int, int, bool], ...] = (
    ("Conv2d_1a_3x3", 32, 3, 2, 0, False),
    ("Conv2d_2a_3x3", 32, 3, 1, 0, False),
    ("Conv2d_2b_3x3", 64, 3, 1, 1, True),
    ("Conv2d_3b_1x1", 80, 1, 1, 0, False),
    ("Conv2d_4a_3x3", 192, 3, 1, 0, True),
)


class InceptionV3(nn.Module):
    """RGB in -1..1, float32 ``[B,3,H,W]`` (299x299 as trained, 75x75 at least), to probabilities of 1,000 classes or to
    the pooled map ``[B,2048]``.

    Args:
        output: ``softmax`` or ``pool``, which has no classifier.
        width: multiplies the channels.

    Attributes:
        features: numbers it gives.
    """

    def __init__(self, output: Literal["softmax", "pool"] = "softmax", width: float = 1.0) -> None:
        super().__init__()
        channels = 3
        for name, planes, kernel, stride, pad, _ in _STEM:
            planes = scaled(planes, width)
            self.add_module(name, ConvNormRelu(channels, planes, (kernel, kernel), stride, (pad, pad)))
            channels = planes
        for name, (chains, pooled) in MIXED.items():
            mixed = Mixed(channels, chains, pooled, width)
            self.add_module(f"Mixed_{name}", mixed)
            channels = mixed.channels
        self.fc = nn.Linear(channels, CLASSES) if output == "softmax" else None
        self.features = channels if self.fc is None else CLASSES
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, frames: Tensor) -> Tensor:
        """Probabilities, or the pooled map."""
        x = frames
        for name, *_, pools in _STEM:
            x = getattr(self, name)(x)
            x = F.max_pool2d(x, 3, 2) if pools else x
        for name in MIXED:
            x = getattr(self, f"Mixed_{name}")(x)
        pooled = x.mean((2, 3))
        return pooled if self.fc is None else torch.softmax(self.fc(pooled), 1)
