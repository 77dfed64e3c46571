"""Block B4: DenseNet-121 (G. Huang et al., CVPR 2017) in torchvision's layout and with its names.

Golden at 224 x 224 with one output: 6,954,881 parameters, 2.833 GMAC.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from .widths import scaled

_GROWTH, _BOTTLENECK, _STEM = 32, 4, 64
_LAYERS = (6, 12, 24, 16)


class DenseLayer(nn.Module):
    """Batch-norm, ReLU, 1x1 to four times the growth, batch-norm, ReLU, 3x3 to the growth; joined to what came in."""

    def __init__(self, inplanes: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inplanes), nn.Conv2d(inplanes, _BOTTLENECK * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(_BOTTLENECK * growth)
        self.conv2 = nn.Conv2d(_BOTTLENECK * growth, growth, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[B,C,h,w]`` to ``[B,C+growth,h,w]``."""
        new = self.conv2(torch.relu(self.norm2(self.conv1(torch.relu(self.norm1(x))))))
        return torch.cat([x, new], 1)

    def conv_norm_pairs(self) -> list[tuple[nn.Module, str, str]]:
        """The second batch-norm; the first one follows no convolution."""
        return [(self, "conv1", "norm2")]


class Transition(nn.Module):
    """Batch-norm, ReLU, 1x1 to half the channels, 2x2 mean."""

    def __init__(self, inplanes: int, planes: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(inplanes), nn.Conv2d(inplanes, planes, 1, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """``[B,C,h,w]`` to ``[B,C/2,h/2,w/2]``."""
        return self.pool(self.conv(torch.relu(self.norm(x))))  # type: ignore[no-any-return]


class DenseNet(nn.Module):
    """Frames ``[B,3,H,W]`` to pooled features ``[B, features]``, 1024 at full width.

    Args:
        width: multiplies growth and stem.
        layers: of each dense block.
    """

    def __init__(self, width: float = 1.0, layers: tuple[int, ...] = _LAYERS) -> None:
        super().__init__()
        growth, planes = scaled(_GROWTH, width), scaled(_STEM, width)
        parts: OrderedDict[str, nn.Module] = OrderedDict(
            conv0=nn.Conv2d(3, planes, 7, 2, 3, bias=False),
            norm0=nn.BatchNorm2d(planes),
            relu0=nn.ReLU(inplace=True),
            pool0=nn.MaxPool2d(3, 2, 1),
        )
        for number, count in enumerate(layers, start=1):
            block: OrderedDict[str, nn.Module] = OrderedDict()
            for layer in range(1, count + 1):
                block[f"denselayer{layer}"] = DenseLayer(planes, growth)
                planes += growth
            parts[f"denseblock{number}"] = nn.Sequential(block)
            if number < len(layers):
                parts[f"transition{number}"] = Transition(planes, planes // 2)
                planes //= 2
        parts["norm5"] = nn.BatchNorm2d(planes)
        self.body = nn.Sequential(parts)
        self.features = planes
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, frames: Tensor) -> Tensor:
        """The mean over the picture of the last map."""
        return torch.relu(self.body(frames)).mean((2, 3))

    def conv_norm_pairs(self) -> list[tuple[nn.Module, str, str]]:
        """The stem's batch-norm."""
        return [(self.body, "conv0", "norm0")]
