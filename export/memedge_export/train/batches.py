"""Batches of a training set, in an order that follows from (seed, epoch), prepared a few steps ahead by threads."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from .material import Material, Sample
from .recipe import Recipe

P = TypeVar("P")


class Batches(ABC, Generic[P]):
    """What the loop goes through. The order of an epoch depends on (seed, epoch), the random choices of a step on
    (seed, epoch, step) alone.

    Args:
        part: (number, count) of this process: each takes its share of every batch.
        ahead: batches that are prepared before they are asked for.
    """

    def __init__(
        self, material: Material, recipe: Recipe, seed: int, *, part: tuple[int, int] = (0, 1), ahead: int = 2
    ) -> None:
        self.material = material
        self.recipe = recipe
        self.seed = seed
        self._part = part
        self._ahead = max(1, ahead)

    @abstractmethod
    def _prepare(self, chosen: NDArray[np.intp], seed: Sequence[int]) -> P:
        """The batch of these records; called by threads."""

    @abstractmethod
    def _sample(self, prepared: P) -> Sample:
        """What is prepared as a batch; called where the network is."""

    def __len__(self) -> int:
        return max(len(self.material.records) // self.recipe.batch, 1)

    def order(self, epoch: int) -> NDArray[np.intp]:
        """Which records an epoch shows, in order: each once, or drawn equally often from the recipe's score bins."""
        rng = np.random.default_rng([self.seed, epoch])
        count = len(self.material.records)
        bins = self.recipe.balance
        if not bins:
            return rng.permutation(count)
        first = self.material.targets[:, 0]
        known = np.flatnonzero(np.isfinite(first))
        edges = np.linspace(float(first[known].min()), float(first[known].max()), bins + 1)[1:-1]
        place = np.digitize(first[known], edges)
        weight = 1.0 / np.bincount(place, minlength=bins)[place]
        return known[rng.choice(len(known), count, p=weight / weight.sum())]

    def epoch(self, number: int, first_step: int = 0, *, whole: bool = False) -> Iterator[tuple[int, Sample]]:
        """(step, batch) of an epoch from ``first_step`` on. What does not fill a batch is left out of this epoch.

        ``whole``: one step with every record, as L-BFGS wants it.
        """
        order = self.order(number)
        size = len(order) if whole else self.recipe.batch
        steps = 1 if whole else len(self)
        waiting: deque[tuple[int, Future[P]]] = deque()
        with ThreadPoolExecutor(min(self._ahead, os.cpu_count() or 1), "memedge-feed") as pool:
            for step in range(first_step, steps):
                chosen = order[step * size : (step + 1) * size][self._part[0] :: self._part[1]]
                waiting.append((step, pool.submit(self._prepare, chosen, [self.seed, number, step, self._part[0]])))
                if len(waiting) > self._ahead:
                    done, future = waiting.popleft()
                    yield done, self._sample(future.result())
            while waiting:
                done, future = waiting.popleft()
                yield done, self._sample(future.result())
