"""Frame models: a trunk that pools a picture to a vector and a linear head that gives the score."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from ..blocks.resnet2d import ResNet2d

Role = Literal["score", "embedding"]


class FrameModel(nn.Module):
    """float32 ``[B,3,H,W]`` to a tuple: score ``[B,1]`` (linear, clipped to 0..1 by the runtime) and, where
    ``embedding`` is set, the pooled features ``[B,F]`` that the score is a linear function of.

    Keys: torchvision's names under ``trunk.``, the head is ``head.0``.
    """

    def __init__(self, trunk: ResNet2d, *, embedding: bool = False) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Sequential(nn.Linear(trunk.features, 1))
        self.embedding = embedding

    @property
    def linear(self) -> nn.Linear:
        """The regression layer."""
        layer = self.head[0]
        assert isinstance(layer, nn.Linear)
        return layer

    @property
    def outputs(self) -> tuple[tuple[str, Role], ...]:
        """Name and role of each output, in order."""
        score: tuple[str, Role] = ("score", "score")
        return (score, ("embedding", "embedding")) if self.embedding else (score,)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Score and, where set, embedding."""
        features = self.trunk(frames)
        score = self.head(features)
        return (score, features) if self.embedding else (score,)
