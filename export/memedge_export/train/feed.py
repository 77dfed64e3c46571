"""What the loop is fed: training targets of several data sets on one scale, augmented batches, whole validation
sets."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memedge.console import Progress
from memedge.sources.names import is_picture
from memedge_engines.manifest import Preprocess
from memedge_engines.preprocess import Preprocessor

from ..checkpoint import ScoreScale
from ..data.frame_cache import FrameCache
from ..data.frames import sampled
from ..data.pictures import PictureCache, fitted, normalise, read_picture
from ..data.records import DataSet, Record
from ..errors import DataError
from ..models import input_size
from ..models.frame import FrameModel
from .augment import colored, region
from .losses import ScoreStatistics
from .recipe import Recipe

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


@dataclass(frozen=True)
class Material:
    """Training records and what is learnt of them.

    Attributes:
        targets: float32 ``[N, T]``, nan where a record has no such score, all sets on the first one's scale.
        extra: further numbers, float32 ``[N]`` each, nan where a record has none.
        scales: of each set, for the checkpoint.
    """

    records: list[Record]
    targets: NDArray[np.float32]
    extra: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    scales: tuple[ScoreScale, ...] = ()

    def statistics(self) -> ScoreStatistics:
        """Of the targets: what losses and heads start from."""
        first = self.targets[np.isfinite(self.targets[:, 0]), 0].astype(np.float64)
        cuts = {k: tuple(float(v) for v in np.quantile(first, np.arange(1, k) / k)) for k in range(2, 9)}
        means = tuple(float(v) for v in np.nanmean(self.targets.astype(np.float64), axis=0))
        return ScoreStatistics(float(first.mean()), float(first.std()), cuts, means)


@dataclass(frozen=True)
class Sample:
    """One batch: pictures float32 ``[N,3,h,w]``, targets ``[N,T]``, further numbers ``[N]``."""

    pictures: Tensor
    targets: Tensor
    extra: Mapping[str, Tensor]


def training_scores(
    sets: Sequence[DataSet], targets: Sequence[str] = (), how: Literal["moments", "minmax"] = "moments"
) -> Material:
    """Training records of all sets and their targets, on the first set's scale.

    A further set's scores y become ``m + (y - m_d) * s / s_d`` with each set's training mean m and deviation s
    (``moments``), or are stretched from its range to the first one's (``minmax``); both are clipped to 0..1.

    Raises:
        DataError: no training record has a score of a target.
    """
    wanted = tuple(targets) or sets[0].targets[:1]
    records: list[Record] = []
    columns: list[NDArray[np.float64]] = []
    scales: list[ScoreScale] = []
    reference: dict[str, ScoreScale] = {}
    for data in sets:
        part = data.split("train")
        found = np.full((len(part), len(wanted)), np.nan)
        for column, target in enumerate(wanted):
            scores = np.array([_value(record, target) for record in part])
            known = scores[np.isfinite(scores)]
            if not len(known):
                continue
            scale = ScoreScale(
                data=data.name,
                target=target,
                mean=float(known.mean()),
                deviation=float(known.std()),
                low=float(known.min()),
                high=float(known.max()),
            )
            scales.append(scale)
            found[:, column] = _rescaled(scores, scale, reference.setdefault(target, scale), how)
        records += part
        columns.append(found)
    values = np.concatenate(columns).astype(np.float32)
    for column, target in enumerate(wanted):
        if not np.isfinite(values[:, column]).any():
            there = sorted({name for data in sets for name in data.targets})
            raise DataError(f"no training record has a score of target '{target}'; the sets have {', '.join(there)}")
    names = sorted({name for record in records for name in record.extra})
    extra = {name: np.array([r.extra.get(name, np.nan) for r in records], np.float32) for name in names}
    return Material(records, values, extra, tuple(scales))


def _value(record: Record, target: str) -> float:
    score = record.value(target)
    return float("nan") if score is None else score


def _rescaled(
    scores: NDArray[np.float64], own: ScoreScale, first: ScoreScale, how: Literal["moments", "minmax"]
) -> NDArray[np.float64]:
    if own is first:
        return scores
    if how == "minmax":
        width = own.high - own.low
        moved = first.low + (scores - own.low) * ((first.high - first.low) / width if width > 0 else 1.0)
    elif own.deviation > 0:
        moved = first.mean + (scores - own.mean) * first.deviation / own.deviation
    else:
        moved = scores
    clipped: NDArray[np.float64] = moved.clip(0, 1)
    return clipped


class TrainingFeed:
    """Augmented batches of one training set, prepared a few steps ahead by threads.

    A video gives one frame an epoch, drawn from its sampling preset, with the video's scores. The order of an epoch
    depends on (seed, epoch), the random choices of a step on (seed, epoch, step) alone.

    Args:
        part: (number, count) of this process: each takes its share of every batch.
        ahead: batches that are prepared before they are asked for.
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
        self.material = material
        self.contract = contract
        self.recipe = recipe
        self.seed = seed
        self._part = part
        # Decoding a clip takes as long as training on a whole batch: in the first epoch all cores are needed for it.
        videos = any(not is_picture(record.path) for record in material.records)
        self._ahead = max(1, ahead, min(os.cpu_count() or 1, _MOST_THREADS) if videos else 1)
        # Half as large again as the tensor, so that a region of half the area still has a pixel for each of its own.
        short_side = 3 * max(input_size(contract)) // 2
        self._pictures = PictureCache(short_side)
        self._videos = FrameCache(short_side, recipe.sampling or sampling, frames)

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
        waiting: deque[tuple[int, Future[Sample]]] = deque()
        with ThreadPoolExecutor(min(self._ahead, os.cpu_count() or 1), "memedge-feed") as pool:
            for step in range(first_step, steps):
                chosen = order[step * size : (step + 1) * size][self._part[0] :: self._part[1]]
                waiting.append((step, pool.submit(self._sample, chosen, [self.seed, number, step, self._part[0]])))
                if len(waiting) > self._ahead:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()

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

    def _sample(self, chosen: NDArray[np.intp], seed: Sequence[int]) -> Sample:
        rng = np.random.default_rng(seed)
        how = self.recipe.augmentation
        records = [self.material.records[i] for i in chosen]
        pictures = [region(self._picture(record, rng), self.contract, how, rng) for record in records]
        tensor = colored(np.stack(pictures), self.contract, how, rng)
        extra = {name: torch.from_numpy(values[chosen]) for name, values in self.material.extra.items()}
        return Sample(tensor, torch.from_numpy(self.material.targets[chosen]), extra)

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
        self.targets = np.array([[_value(record, target) for target in targets] for record in records])
        self.contract = contract
        self._sampling = sampling
        self._preprocessor = Preprocessor(contract)
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._kept: dict[int, Shown] = {}
        self._lock = threading.Lock()

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
