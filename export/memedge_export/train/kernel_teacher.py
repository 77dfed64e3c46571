"""A teacher for small data: kernel ridge regression on frozen features in blocks.

Every block (a stage's means, colours, textures) is standardised and weighted by its share, not by how many numbers it
has, so that a thousand textures do not outvote sixty-four means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scaling:
    """Standardises feature vectors ``[N,D]`` block by block; the expected squared length of a vector is 1."""

    center: Floats
    scale: Floats

    @classmethod
    def fit(cls, features: Floats, sizes: Sequence[int], shares: Sequence[float]) -> Scaling:
        """``sizes``: numbers a block; ``shares``: weights of the blocks. ``features`` ``[N, sum(sizes)]``."""
        weights = np.concatenate([np.full(n, np.sqrt(w / sum(shares) / n)) for n, w in zip(sizes, shares, strict=True)])
        return cls(features.mean(0), weights / (features.std(0) + 1e-5))

    def __call__(self, features: Floats) -> Floats:
        """``[N,D]`` to ``[N,D]``."""
        return np.asarray((features - self.center) * self.scale)


def rbf(a: Floats, b: Floats, gamma: float) -> Floats:
    """exp(-gamma |a - b|^2), ``[N,D]`` and ``[M,D]`` to ``[N,M]``."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return np.asarray(np.exp(-gamma * np.maximum(squares, 0)))


@dataclass(frozen=True)
class KernelTeacher:
    """score(x) = mean + sum of coefficients * rbf(x, training vectors)."""

    scaling: Scaling
    vectors: Floats
    coefficients: Floats
    mean: float
    gamma: float

    @classmethod
    def fit(
        cls,
        features: Floats,
        scores: Floats,
        scaling: Scaling,
        *,
        gamma: float = 0.5,
        ridge: float = 1.0,
    ) -> KernelTeacher:
        """``features`` ``[N,D]`` (unscaled), ``scores`` ``[N]``; ``ridge`` is the variance of the scores' noise in
        units of the prior's."""
        vectors = scaling(features)
        mean = float(scores.mean())
        kernel = rbf(vectors, vectors, gamma) + ridge * np.eye(len(vectors))
        return cls(scaling, vectors, np.asarray(np.linalg.solve(kernel, scores - mean), np.float64), mean, gamma)

    def __call__(self, features: Floats) -> Floats:
        """Scores ``[M]`` of unscaled features ``[M,D]``."""
        return np.asarray(self.mean + rbf(self.scaling(features), self.vectors, self.gamma) @ self.coefficients)
