"""Block B14: values brought to mean 0 and deviation 1 with statistics that travel with the weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_CONSTANT = 1e-6


class Standardise(nn.Module):
    """float32 ``[B, D]`` to (x - mean) / std; the buffers ``mean`` 0 and ``std`` 1, ``[D]``, change nothing."""

    mean: Tensor
    std: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor]) -> Standardise:
        """Take mean and deviation of all rows of ``batches``, ``[n, D]`` each. A value that never changes (deviation
        below 1e-6) is only centred: divided by so little, the first that differs would drown all others.

        Raises:
            ValueError: no rows.
        """
        count = 0
        mean = torch.zeros_like(self.mean, dtype=torch.float64)
        squares = torch.zeros_like(mean)
        for batch in batches:
            rows = batch.to(mean)
            # Chan's update: sums of squares of large values would lose a small deviation.
            total = count + len(rows)
            away = rows.mean(0) - mean
            squares += ((rows - rows.mean(0)) ** 2).sum(0) + away**2 * (count * len(rows) / total)
            mean += away * (len(rows) / total)
            count = total
        if count == 0:
            raise ValueError("no rows to take mean and deviation of; expected at least one")
        self.mean.copy_(mean)
        std = (squares / count).sqrt()
        self.std.copy_(torch.where(std < _CONSTANT, torch.ones_like(std), std))
        return self

    def fit_inputs(self, inputs: Tensor, scores: Tensor) -> None:
        """Statistics of training inputs ``[N, D]``; the scores are not looked at."""
        self.fit([inputs])

    def undo(self, x: Tensor) -> Tensor:
        """x * std + mean: back to the values' own scale."""
        return x * self.std + self.mean

    def forward(self, x: Tensor) -> Tensor:
        """The standardised values."""
        return (x - self.mean) / self.std
