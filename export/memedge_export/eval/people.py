"""Human consistency: how well one half of the people who scored the pictures predicts the other half.

It is what a model is measured against: its correlation with a half's scores is stated beside the other half's.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .metrics import spearman


class Consistency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Agreement of two halves of the people.

    Attributes:
        count: pictures that both halves scored in every halving.
        halvings: random divisions of the people.
        spearman: mean correlation of one half with the other; ``spearman_range``: lowest and highest of the halvings.
        models: label of a model to the mean correlation of its predictions with one half; none where it has none.
    """

    count: int
    halvings: int
    spearman: float
    spearman_range: tuple[float, float]
    models: dict[str, float | None] = {}


def consistency(halves: NDArray[np.float64], predicted: Mapping[str, ArrayLike]) -> Consistency | None:
    """Human consistency and each model's correlation with one half; none where the halves do not correlate at all.

    Args:
        halves: scores by two halves of the people, ``[2, R, N]`` over R random halvings, nan where a half has none.
        predicted: label to predictions ``[N]``, nan where there is none.
    """
    columns = {label: np.asarray(values, np.float64) for label, values in predicted.items()}
    known: NDArray[np.bool_] = np.asarray(np.isfinite(halves).all(axis=(0, 1)))
    between = [spearman(a, b) for a, b in zip(halves[0][:, known], halves[1][:, known], strict=True)]
    found = [rho for rho in between if rho is not None]
    if not found:
        return None
    models = {label: _with_halves(values, halves, known) for label, values in columns.items()}
    return Consistency(
        count=int(known.sum()),
        halvings=len(found),
        spearman=float(np.mean(found)),
        spearman_range=(min(found), max(found)),
        models=models,
    )


def _with_halves(values: NDArray[np.float64], halves: NDArray[np.float64], known: NDArray[np.bool_]) -> float | None:
    both = known & np.isfinite(values)
    found = [spearman(values[both], half) for half in halves.reshape(-1, halves.shape[-1])[:, both]]
    rhos = [rho for rho in found if rho is not None]
    return float(np.mean(rhos)) if rhos else None
