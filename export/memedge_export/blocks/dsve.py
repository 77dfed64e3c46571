"""The image tower of DSVE (M. Engilberge, L. Chevallier, P. Perez, M. Cord, Finding beans in burgers, CVPR 2018).

ResNet-152 to its last map, a 1x1 convolution, WELDON pooling, a linear layer, length one. Golden: 68,823,808
parameters; 15.36 GMAC at 256 x 256, 37.73 at 400 x 400.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from .resnet2d import Bottleneck, ResNet2d
from .unit_norm import unit_norm
from .weldon import SpatialAttention2d, WeldonPool2d

EMBEDDING = 2400
RESNET50, RESNET152 = (3, 4, 6, 3), (3, 8, 36, 3)


class DsveTower(nn.Module):
    """float32 ``[B,3,H,W]`` to an embedding ``[B, features]`` of length one.

    Keys: torchvision's ResNet under ``base.``, then ``project``, ``fc`` and, with attention, ``attention.conv``.

    Args:
        width: multiplies all channels, the embedding's 2,400 among them.
        layers: blocks of the four stages; those of ResNet-50 are lighter (ours).
        attention: weights the last map before it is pooled; see :class:`SpatialAttention2d`.
        dropout: before the linear layer, in training; DSVE's own training has 0.5.
    """

    def __init__(
        self,
        width: float = 1.0,
        *,
        layers: Sequence[int] = RESNET152,
        attention: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [max(8, round(planes * width)) for planes in (64, 128, 256, 512)]
        self.features = max(8, round(EMBEDDING * width))
        self.dropout = dropout
        self.base = ResNet2d(Bottleneck, layers, widths)
        self.project = nn.Conv2d(self.base.features, self.features, 1)
        self.attention = SpatialAttention2d(self.base.features) if attention else None
        self.pool = WeldonPool2d()
        self.fc = nn.Linear(self.features, self.features)

    def forward(self, frames: Tensor) -> Tensor:
        """The embedding."""
        return self.attend(frames)[0]

    def attend(self, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        """The embedding and the attention ``[B,1,H/32,W/32]``, none where the tower has no attention."""
        seen = self.base.forward_map(frames)
        projected, attention = self.project(seen), None
        if self.attention is not None:
            projected, attention = self.attention(seen, projected)
        pooled = F.dropout(self.pool(projected), self.dropout, self.training)
        return unit_norm(self.fc(pooled)), attention
