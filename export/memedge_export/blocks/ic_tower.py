"""The image side of a visual-semantic embedding (R. Kiros et al., 2014): VGG's fc7, projected among the captions."""

from __future__ import annotations

from torch import Tensor, nn

from .unit_norm import unit_norm
from .vgg import Vgg
from .widths import scaled


class IcProjection(nn.Module):
    """float32 fc7 features ``[B, inside]`` to an embedding of length one, ``[B, features]`` (1024 at full width).

    Golden behind 4096 features: 4,195,328 parameters.
    """

    def __init__(self, inside: int, width: float = 1.0) -> None:
        super().__init__()
        self.features = scaled(1024, width)
        self.project = nn.Linear(inside, self.features)

    def forward(self, fc7: Tensor) -> Tensor:
        """The embedding."""
        return unit_norm(self.project(unit_norm(fc7)))


class IcTower(IcProjection):
    """float32 ``[B,3,224,224]`` (BGR, 0..255 less the channels' means) to the embedding, through VGG-19."""

    def __init__(self, width: float = 1.0) -> None:
        trunk = Vgg(19, width)
        super().__init__(trunk.features, width)
        self.trunk = trunk

    def forward(self, frames: Tensor) -> Tensor:
        """The embedding."""
        return super().forward(self.trunk(frames))
