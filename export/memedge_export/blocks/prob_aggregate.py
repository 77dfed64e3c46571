"""Block B9: a score out of the probabilities of K classes of memorability."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ProbAggregate(nn.Module):
    """float32 ``[B, K]`` probabilities to ``[B, 1]``: the sum of p_k * s_k, s_k the upper cut of class k and 1 for the
    last (H. Squalli-Houssaini et al., Deep Learning for Predicting Image Memorability, ICASSP 2018).

    Args:
        cuts: the K - 1 rising cuts between the classes; the result lies between the first cut and 1.
    """

    values: Tensor

    def __init__(self, cuts: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("values", torch.tensor([*cuts, 1.0])[:, None], persistent=False)

    def forward(self, probabilities: Tensor) -> Tensor:
        """The aggregated score."""
        return probabilities @ self.values
