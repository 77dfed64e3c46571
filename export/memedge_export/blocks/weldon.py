"""Block B10: WELDON pooling (T. Durand, N. Thome, M. Cord, CVPR 2016) as DSVE uses it, and the attention before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

PLACES = 15


class WeldonPool2d(nn.Module):
    """float32 ``[B,C,H,W]`` to ``[B,C]``: the mean of the largest values of a channel plus the mean of its smallest.

    Args:
        places: how many of each; all places where the map has fewer.
    """

    def __init__(self, places: int = PLACES) -> None:
        super().__init__()
        self.places = places

    def forward(self, x: Tensor) -> Tensor:
        """The pooled map."""
        values = x.flatten(2)
        count = min(self.places, values.shape[2])
        # The smallest by way of the largest: some accelerators have no other TopK.
        return torch.topk(values, count).values.mean(2) - torch.topk(-values, count).values.mean(2)


class SpatialAttention2d(nn.Module):
    """Weights of a map's places, from the map that the last convolution reads (VideoMem, R. Cohendet et al., ICCV 2019:
    a convolution in parallel with the last one, softmax, product).

    The product is with H * W times the softmax (ours): even attention, as it is before training, changes nothing,
    whatever the picture's size.

    Args:
        channels: of the map that the attention is made from.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 1)
        for parameter in self.conv.parameters():
            nn.init.zeros_(parameter)

    def forward(self, seen: Tensor, weighted: Tensor) -> tuple[Tensor, Tensor]:
        """``seen`` ``[B,channels,H,W]`` and ``weighted`` ``[B,C,H,W]`` to the weighted map and the attention
        ``[B,1,H,W]``, whose places sum to 1."""
        logits = self.conv(seen)
        height, width = logits.shape[2:]
        attention = torch.softmax(logits.flatten(1), 1).unflatten(1, (1, height, width))
        return weighted * (attention * (height * width)), attention
