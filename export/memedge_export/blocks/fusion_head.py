"""The head of the captioning and ImageNet features together (H. Squalli-Houssaini et al., ICASSP 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .mlp_head import Activation, MlpHead


class FusionHead(nn.Module):
    """Several vectors ``[B, inside[i]]`` to ``[B, outputs]``: a hidden layer of each, one of all of them together.

    Golden for inputs of 4096 and 1024, 512 and 128 hidden units, 4 outputs: 2,754,180 parameters.
    """

    def __init__(
        self,
        inside: Sequence[int],
        hidden: int,
        merged: int,
        outputs: int,
        *,
        act: Activation = "relu",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            MlpHead((size, hidden), out_act=act, dropout=dropout, drop_out=True) for size in inside
        )
        self.merge = MlpHead((hidden * len(inside), merged, outputs), act=act, dropout=dropout)

    def forward(self, *vectors: Tensor) -> Tensor:
        """The last layer's values."""
        parts = [branch(vector) for branch, vector in zip(self.branches, vectors, strict=True)]
        found: Tensor = self.merge(torch.cat(parts, 1))
        return found
