"""Block B2: VGG-16 and VGG-19 down to fc7 (K. Simonyan, A. Zisserman, ICLR 2015; no batch-norm).

Golden at 224 x 224: VGG-16 134,260,544 parameters, 15.466 GMAC; VGG-19 139,570,240 parameters, 19.628 GMAC.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from .hidden_linear import HiddenLinear
from .widths import scaled

_CHANNELS = (64, 128, 256, 512, 512)
_CONVOLUTIONS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_PLACES = 7 * 7


def vgg_body(depth: Literal[16, 19], width: float = 1.0, stages: int = 5) -> nn.Sequential:
    """The convolutions of the first ``stages`` stages, each stage with its pool, numbered like torchvision's
    ``features``."""
    layers: list[nn.Module] = []
    inside = 3
    for channels, count in zip(_CHANNELS[:stages], _CONVOLUTIONS[depth][:stages], strict=True):
        for _ in range(count):
            conv = nn.Conv2d(inside, scaled(channels, width), 3, padding=1)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            layers += [conv, nn.ReLU(inplace=True)]
            inside = conv.out_channels
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


class Vgg(nn.Module):
    """float32 ``[B,3,224,224]`` to fc7 after its ReLU, ``[B, features]``.

    ``body`` is numbered like torchvision's ``features``; ``fc6`` and ``fc7`` are its ``classifier.0`` and ``.3``.
    """

    def __init__(self, depth: Literal[16, 19] = 16, width: float = 1.0) -> None:
        super().__init__()
        self.body = vgg_body(depth, width)
        self.features = scaled(4096, width)
        self.fc6 = HiddenLinear(scaled(_CHANNELS[-1], width) * _PLACES, self.features)
        self.fc7 = HiddenLinear(self.features, self.features)

    def forward(self, frames: Tensor) -> Tensor:
        """The features."""
        features: Tensor = self.fc7(self.fc6(self.body(frames).flatten(1)))
        return features
