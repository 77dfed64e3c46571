"""What the loop is fed: training targets of several data sets on one scale, augmented batches, whole validation
sets."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from memedge.console import Progress
from memedge.sources.names import is_picture
from memedge_engines.manifest import Preprocess
from memedge_engines.preprocess import Preprocessor

from ..data.frame_cache import FrameCache
from ..data.frames import sampled
from ..data.pictures import PictureCache, fitted, normalise, read_picture
from ..data.records import Record
from ..models import input_size
from ..models.frame import FrameModel
from .augment import colored, region
from .batches import Batches
from .inputs import Pictures
from .material import Material, Sample, training_scores, values_of
from .recipe import Phase, Recipe

__all__ = ["SAMPLING", "TrainingFeed", "ValidationFeed", "training_scores"]

SAMPLING = "S7"
"""The preset of frame models, where neither a recipe nor a data set names one."""

Shown = list[tuple[float, NDArray[np.uint8]]]
"""What a record shows a network: weights, which sum to 1, and prepared pictures ``[h, w, C]``."""
_MOST_THREADS = 8


class _Frame(NamedTuple):
    """One prepared picture of a record; ``last``: nothing more of this record follows."""

    record: int
    weight: float
    picture: NDArray[np.uint8]
    last: bool


class TrainingFeed(Batches[Sample]):
    """Augmented batches of one training set for a frame model.

    A video gives one frame an epoch, drawn from its sampling preset, with the video's scores.

    Args:
        part, ahead: see :class:`Batches`.
        sampling: preset of videos where the recipe names none.
        frames: folder that keeps decoded frames of videos, or none; see :class:`FrameCache`.
    """

    def __init__(
        self,
        material: Material,
        contract: Preprocess,
        recipe: Recipe,
        seed: int,
        *,
        part: tuple[int, int] = (0, 1),
        ahead: int = 2,
        sampling: str = SAMPLING,
        frames: Path | None = None,
    ) -> None:
        # Decoding a clip takes as long as training on a whole batch: in the first epoch all cores are needed for it.
        videos = any(not is_picture(record.path) for record in material.records)
        ahead = max(ahead, min(os.cpu_count() or 1, _MOST_THREADS) if videos else 1)
        super().__init__(material, recipe, seed, part=part, ahead=ahead)
        self.contract = contract
        self._how = recipe.augmentation
        # Half as large again as the tensor, so that a region of half the area still has a pixel for each of its own.
        short_side = 3 * max(input_size(contract)) // 2
        self._pictures = PictureCache(short_side)
        self._videos = FrameCache(short_side, recipe.sampling or sampling, frames)

    def begin(self, network: nn.Module, phase: Phase) -> None:
        """A phase begins: its augmentation."""
        self._how = phase.augmentation or self.recipe.augmentation

    def plain(self, records: Sequence[Record], batch: int = 64) -> Iterator[NDArray[np.uint8]]:
        """One picture of each record without augmentation, prepared by the contract, in order: uint8 ``[n, h, w, C]``.

        A video's frame is one that training keeps, so that none is decoded again; which one follows from the seed.
        """
        rng = np.random.default_rng(self.seed)

        def prepared(one: tuple[Record, np.random.Generator]) -> NDArray[np.uint8]:
            path = one[0].path
            return fitted(read_picture(path) if is_picture(path) else self._videos.one(path, one[1]), self.contract)

        with ThreadPoolExecutor(self._ahead, "memedge-plain") as pool:
            for begin in range(0, len(records), batch):
                part = [(record, np.random.default_rng(rng.integers(1 << 63))) for record in records[begin:][:batch]]
                yield np.stack(list(pool.map(prepared, part)))

    def _prepare(self, chosen: NDArray[np.intp], seed: Sequence[int]) -> Sample:
        rng = np.random.default_rng(seed)
        how = self._how
        records = [self.material.records[i] for i in chosen]
        pictures = [region(self._picture(record, rng), self.contract, how, rng) for record in records]
        tensor = colored(np.stack(pictures), self.contract, how, rng)
        extra = {name: torch.from_numpy(values[chosen]) for name, values in self.material.extra.items()}
        return Sample(Pictures(tensor), torch.from_numpy(self.material.targets[chosen]), extra)

    def _sample(self, prepared: Sample) -> Sample:
        return prepared

    def _picture(self, record: Record, rng: np.random.Generator) -> NDArray[np.uint8]:
        return self._pictures(record.path) if is_picture(record.path) else self._videos.one(record.path, rng)


class ValidationFeed:
    """Pictures and frames of videos preprocessed by the contract, as at run time; kept as bytes up to ``limit_bytes``.

    A video's frames go from the decoder's planes through the runtime's own preprocessing, and its score is the mean
    over its sampling preset: the ``video_score`` that ``memedge run`` gives.

    Args:
        sampling: preset of videos.

    Attributes:
        targets: float64 ``[N, T]``, nan where a record has no such score.
    """

    def __init__(
        self,
        records: Sequence[Record],
        contract: Preprocess,
        targets: Sequence[str] = ("short_term",),
        limit_bytes: int = 2 << 30,
        sampling: str = SAMPLING,
    ) -> None:
        self.records = records
        self.targets = values_of(records, targets)
        self.contract = contract
        self._sampling = sampling
        self._preprocessor = Preprocessor(contract)
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._kept: dict[int, Shown] = {}
        self._lock = threading.Lock()

    def begin(self, network: nn.Module, phase: Phase) -> None:
        """A phase begins: nothing of a frame model is kept between validations."""

    def predict(self, network: FrameModel, batch: int = 64, progress: Progress | None = None) -> NDArray[np.float64]:
        """The network's scores, clipped to 0..1, float64 ``[N, T]``; leaves the network in evaluation mode."""
        network.eval()
        device = next(network.parameters()).device
        count = len(network.targets)
        found = np.zeros((len(self.records), count))
        with torch.inference_mode():
            for part in self._parts(batch):
                tensor = normalise(np.stack([frame.picture for frame in part]), self.contract).to(device)
                outputs = network(tensor.contiguous(memory_format=torch.channels_last))[:count]
                scores = torch.cat(outputs, 1).double().cpu().numpy().clip(0, 1)
                for frame, score in zip(part, scores, strict=True):
                    found[frame.record] += frame.weight * score
                if progress is not None:
                    progress.advance(sum(frame.last for frame in part))
        return found

    def batches(self, batch: int = 64) -> Iterator[NDArray[np.uint8]]:
        """Prepared pictures of all records in order, uint8 ``[n, h, w, C]``; of a video every different frame."""
        for part in self._parts(batch):
            yield np.stack([frame.picture for frame in part])

    def _parts(self, batch: int) -> Iterator[list[_Frame]]:
        waiting = self._frames()
        while part := list(islice(waiting, batch)):
            yield part

    def _frames(self) -> Iterator[_Frame]:
        """All frames of all records, in order; what is not kept is prepared a few records ahead by threads."""
        ahead = min(os.cpu_count() or 1, _MOST_THREADS)
        with ThreadPoolExecutor(ahead, "memedge-validation") as pool:
            waiting: deque[Future[Shown]] = deque()
            for number in range(len(self.records) + ahead):
                if number < len(self.records):
                    waiting.append(pool.submit(self._shown, number))
                if number >= ahead:
                    shown = waiting.popleft().result()
                    for index, (weight, picture) in enumerate(shown, start=1):
                        yield _Frame(number - ahead, weight, picture, index == len(shown))

    def _shown(self, number: int) -> Shown:
        kept = self._kept.get(number)
        if kept is not None:
            return kept
        path = self.records[number].path
        if is_picture(path):
            shown = [(1.0, fitted(read_picture(path), self.contract))]
        else:
            found = sampled(path, self._sampling, self._preprocessor.picture)
            part = 1 / len(found.which)
            shown = [(part * found.which.count(index), picture) for index, picture in enumerate(found.pictures)]
        size = sum(picture.nbytes for _, picture in shown)
        with self._lock:
            if self._bytes + size <= self._limit_bytes:
                self._bytes += size
                self._kept[number] = shown
        return shown
