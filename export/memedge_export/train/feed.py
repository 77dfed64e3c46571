"""What the loop is fed: training targets of several data sets on one scale, augmented batches, whole validation
sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memedge.console import Progress
from memedge_engines.manifest import Preprocess

from ..data.pictures import PictureCache, fitted, normalise, read_picture
from ..data.records import DataSet, Record
from ..models import input_size
from ..models.frame import FrameModel
from .augment import colored, region
from .recipe import Recipe


def training_scores(sets: Sequence[DataSet]) -> tuple[list[Record], NDArray[np.float32]]:
    """Training records of all sets and their targets, on the first set's scale.

    A further set's scores y become ``m + (y - m_d) * s / s_d`` with each set's training mean m and deviation s,
    clipped to 0..1.
    """
    records: list[Record] = []
    targets: list[NDArray[np.float64]] = []
    mean = spread = 0.0
    for number, data in enumerate(sets):
        part = data.split("train")
        scores = np.array([record.score for record in part])
        if number == 0:
            mean, spread = float(scores.mean()), float(scores.std())
        elif scores.std() > 0:
            scores = (mean + (scores - scores.mean()) * spread / scores.std()).clip(0, 1)
        records += part
        targets.append(scores)
    return records, np.concatenate(targets).astype(np.float32)


class TrainingFeed:
    """Augmented batches of one training set; the order and all random choices of an epoch depend on (seed, epoch)
    alone."""

    def __init__(
        self, records: Sequence[Record], scores: NDArray[np.float32], contract: Preprocess, recipe: Recipe, seed: int
    ) -> None:
        self.records = records
        self.scores = scores
        self.contract = contract
        self.recipe = recipe
        self.seed = seed
        # Half as large again as the tensor, so that a region of half the area still has a pixel for each of its own.
        self._pictures = PictureCache(3 * max(input_size(contract)) // 2)

    def __len__(self) -> int:
        return max(len(self.records) // self.recipe.batch, 1)

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of float32 ``[N,3,h,w]`` and scores ``[N,1]``. What does not fill a batch is left out of this
        epoch."""
        rng = np.random.default_rng([self.seed, number])
        order = rng.permutation(len(self.records))
        how = self.recipe.augmentation
        for step in range(len(self)):
            chosen = order[step * self.recipe.batch : (step + 1) * self.recipe.batch]
            pictures = [region(self._pictures(self.records[i].path), self.contract, how, rng) for i in chosen]
            tensor = colored(np.stack(pictures), self.contract, how, rng)
            yield tensor, torch.from_numpy(self.scores[chosen])[:, None]


class ValidationFeed:
    """Pictures preprocessed by the contract, as it is at run time; kept as bytes where they fit in ``limit_bytes``."""

    def __init__(self, records: Sequence[Record], contract: Preprocess, limit_bytes: int = 1 << 30) -> None:
        self.records = records
        self.scores = np.array([record.score for record in records])
        self.contract = contract
        height, width = input_size(contract)
        self._keeps = len(records) * height * width * 3 <= limit_bytes
        self._kept: dict[int, NDArray[np.uint8]] = {}

    def predict(self, network: FrameModel, batch: int = 64, progress: Progress | None = None) -> NDArray[np.float64]:
        """The network's scores, clipped to 0..1, float64 ``[N]``; leaves the network in evaluation mode."""
        network.eval()
        found = []
        with torch.inference_mode():
            for begin in range(0, len(self.records), batch):
                tensor = normalise(self._batch(begin, batch), self.contract)
                found.append(network(tensor.contiguous(memory_format=torch.channels_last))[0][:, 0].double().numpy())
                if progress is not None:
                    progress.advance(len(tensor))
        return np.concatenate(found).clip(0, 1)

    def _batch(self, begin: int, batch: int) -> NDArray[np.uint8]:
        kept = self._kept.get(begin)
        if kept is None:
            part = self.records[begin : begin + batch]
            kept = np.stack([fitted(read_picture(record.path), self.contract) for record in part])
            if self._keeps:
                self._kept[begin] = kept
        return kept
