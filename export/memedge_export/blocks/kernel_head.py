"""Support vector regression and its neighbours as plain operators: distances to stored vectors, then one linear layer.

The regression baselines of H. Squalli-Houssaini et al. (ICASSP 2018) fit an SVR on fixed features. The form is ours:
at most 1024 stored vectors (k-means centres of the training features), trained with the epsilon-insensitive loss; a
fitted SVR has the very same form with its support vectors in their place.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .k_means import k_means
from .standardise import Standardise

VECTORS = 1024
"""Stored vectors of a head, unless told otherwise."""
KINDS = ("rbf", "linear", "neighbours")
# Squared distances below this are one place: float32 has no more digits for vectors of some thousand numbers.
_SAME_PLACE = 1e-6
FAR_AWAY = 1e30
"""Squared length of a stored vector that is none."""


class KernelHead(nn.Module):
    """float32 features ``[B, size]`` to a score ``[B, outputs]``.

    The features are standardised to x; ``out``, the only part that is trained, sums with its weights

    - ``rbf``: exp(-gamma |x - v|^2) for each stored vector v;
    - ``linear``: x itself;
    - ``neighbours``: the inverse distances of the ``neighbours`` nearest vectors, 0 for others, with the sum 1. Where
      the weights are the scores of the vectors, that is k-nearest-neighbour regression weighted by distance.

    Args:
        vectors: how many are stored.
    """

    vectors: Tensor
    squares: Tensor
    gamma: Tensor

    def __init__(
        self, size: int, vectors: int = VECTORS, *, kind: str = "rbf", neighbours: int = 10, outputs: int = 1
    ) -> None:
        super().__init__()
        if kind == "neighbours" and not 1 <= neighbours <= vectors:
            raise ValueError(f"{neighbours} neighbours of {vectors} vectors; expected 1 to {vectors}")
        self.kind = kind
        self.neighbours = neighbours
        self.standardise = Standardise(size)
        self.out = nn.Linear(size if kind == "linear" else vectors, outputs)
        if kind != "linear":
            self.register_buffer("vectors", torch.zeros(vectors, size))
            self.register_buffer("squares", torch.zeros(vectors))
            self.register_buffer("gamma", torch.tensor(1.0))
            self.set_vectors(torch.randn(vectors, size))

    @torch.no_grad()
    def set_vectors(self, vectors: Tensor, gamma: float | None = None) -> None:
        """Store standardised vectors ``[n, size]``, n at most as many as there is room for; further places are so far
        away that they never count. ``gamma``: none takes 1 / size, right for standardised features."""
        count, size = vectors.shape
        if count > len(self.vectors):
            raise ValueError(f"{count} vectors; there is room for {len(self.vectors)}")
        self.vectors.zero_()[:count] = vectors
        self.squares.fill_(FAR_AWAY)[:count] = (vectors.double() ** 2).sum(1).to(self.squares)
        self.gamma.fill_(1 / size if gamma is None else gamma)

    @torch.no_grad()
    def fit_inputs(self, inputs: Tensor, scores: Tensor, *, seed: int = 0) -> None:
        """Statistics, stored vectors and gamma from training features ``[N, size]`` with scores ``[N, outputs]``, nan
        where there is none; ``out`` starts at the mean score, of ``neighbours`` at the scores around each vector."""
        self.standardise.fit([inputs])
        mean = torch.nanmean(scores, 0)
        self.out.weight.zero_()
        self.out.bias.copy_(mean)
        if self.kind == "linear":
            return
        x = self.standardise(inputs)
        centers, nearest = k_means(x, min(len(x), len(self.vectors)), seed=seed)
        variance = float(x.var(unbiased=False))
        self.set_vectors(centers, 1 / (x.shape[1] * variance) if variance > 0 else None)
        if self.kind == "neighbours":
            self.out.bias.zero_()
            filled = torch.where(scores.isnan(), mean, scores)
            for place in range(len(centers)):
                self.out.weight[:, place] = filled[nearest == place].mean(0)

    def similarities(self, features: Tensor) -> Tensor:
        """What ``out`` sums: ``[B, vectors]``, or ``[B, size]`` of the linear form."""
        x = self.standardise(features)
        if self.kind == "linear":
            return x
        squares = (x * x).sum(1, keepdim=True) + self.squares - 2 * (x @ self.vectors.T)
        if self.kind == "rbf":
            return torch.exp(-self.gamma * squares.clamp(min=0))
        squares = squares.clamp(min=_SAME_PLACE)
        farthest = -torch.topk(-squares, self.neighbours, dim=1).values[:, -1:]
        nearness = torch.where(squares <= farthest, squares.rsqrt(), torch.zeros_like(squares))
        return nearness / nearness.sum(1, keepdim=True)

    def forward(self, features: Tensor) -> Tensor:
        """The score."""
        score: Tensor = self.out(self.similarities(features))
        return score
