"""Ranks that gradients pass through, and hard ones. Ascending: the largest value has the highest rank.

Soft ranks: M. Blondel, O. Teboul, Q. Berthet, J. Djolonga, Fast Differentiable Sorting and Ranking, ICML 2020 (L2
form), in a closed form that is exact and needs no compiled extension; memory grows with the square of the length.
Pairwise ranks: M. Engilberge, L. Chevallier, P. Perez, M. Cord, SoDeep: a Sorting Deep Net to Learn Ranking Loss
Surrogates, CVPR 2019, section 3.3 (the handcrafted sorter).
"""

from __future__ import annotations

import torch
from torch import Tensor

LONGEST = 4096
"""Longest vector that :func:`soft_rank` takes: its matrix then holds 64 MiB."""
PAIRWISE_STEEPNESS = 6.8


def hard_rank(values: Tensor) -> Tensor:
    """Ranks 1..n of ``[n]``, ties averaged, without gradient."""
    values = values.detach()
    below = (values[None, :] < values[:, None]).sum(1)
    equal = (values[None, :] == values[:, None]).sum(1)
    return below.to(values.dtype) + (equal.to(values.dtype) + 1) / 2


def soft_rank(values: Tensor, eps: float | Tensor) -> Tensor:
    """Soft ranks of ``[n]``; ``eps`` > 0: the smaller, the nearer to hard ranks. Raises ValueError beyond 4096 values.

    With values sorted descending s and w = (n, ..., 1): rank = s / eps - v, v the best non-increasing fit to
    s / eps - w, here as v_i = min over j <= i of the max over k >= i of the mean of elements j..k.
    """
    count = values.shape[0]
    if count > LONGEST:
        raise ValueError(f"{count} values; expected at most {LONGEST}")
    ordered, order = torch.sort(values / eps, descending=True)
    weights = torch.arange(count, 0, -1, dtype=ordered.dtype, device=ordered.device)
    total = torch.cat([ordered.new_zeros(1), torch.cumsum(ordered - weights, 0)])
    index = torch.arange(count, device=ordered.device)
    length = index[None, :] - index[:, None] + 1
    mean = (total[None, 1:] - total[:-1, None]) / length.clamp(min=1)
    mean = mean.masked_fill(length < 1, -torch.inf)
    most = torch.flip(torch.cummax(torch.flip(mean, [1]), 1).values, [1])
    fit = most.masked_fill(length < 1, torch.inf).min(0).values
    return torch.empty_like(ordered).scatter(0, order, ordered - fit)


def spread_eps(values: Tensor) -> Tensor:
    """The strength at which soft ranks of evenly spread values just separate: (max - min) / (n - 1), detached."""
    values = values.detach()
    return ((values.max() - values.min()) / max(values.shape[0] - 1, 1)).clamp(min=1e-8)


def pairwise_rank(values: Tensor, steepness: float = PAIRWISE_STEEPNESS) -> Tensor:
    """SoDeep's normalised ranks of ``[n]``: (1 + the soft number of larger values) / n, so the largest is near 1/n.

    The steepness is divided by the deviation (unbiased, detached) of the n x n matrix of pairwise differences whose
    lower triangle is zero, as in the authors' code.
    """
    count = values.shape[0]
    difference = values[None, :] - values[:, None]
    spread = torch.triu(difference, 1).std().detach().clamp(min=1e-8)
    larger = torch.sigmoid(difference * (steepness / spread))
    # A value is not larger than itself: the diagonal's one half is taken away.
    return (0.5 + larger.sum(1)) / count


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson correlation of two vectors; 0 where one of them is constant."""
    first, second = first - first.mean(), second - second.mean()
    return (first * second).sum() / (first.norm() * second.norm() + 1e-8)
