"""What a trained network has seen, for the out-of-domain flag: statistics of its embedding over training pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from memedge.console import progress
from memedge.domain import distance
from memedge_engines.manifest import Preprocess

from ..checkpoint import DomainStatistics, save
from ..data.pictures import normalise
from ..data.records import Record
from ..models.frame import FrameModel
from ..weights import read_state
from .feed import TrainingFeed, ValidationFeed

MOST_PICTURES = 4000
# Of held-out pictures of the same kind, one in a hundred may be flagged.
QUANTILE = 0.99
# An axis that hardly moves in training would flag everything: no deviation below this share of the median one.
_LEAST_STD = 0.1


def embeddings(
    network: FrameModel, batches: Iterable[NDArray[np.uint8]], contract: Preprocess, count: int
) -> NDArray[np.float64]:
    """Embeddings of prepared pictures, uint8 ``[n, h, w, C]`` each, as float64 ``[N, F]``; leaves the network in
    evaluation mode. ``count``: about how many there are, for the progress."""
    network.eval()
    device = next(network.parameters()).device
    found = []
    with torch.inference_mode(), progress("out-of-domain statistics", count) as bar:
        for pictures in batches:
            features = network.trunk(normalise(pictures, contract).to(device))
            found.append(features.double().cpu().numpy())
            bar.advance(len(pictures))
    return np.concatenate(found)


def axes(seen: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of each axis of training pictures' embeddings ``[N, F]``, as the manifest stores them."""
    mean, std = seen.mean(0), seen.std(0)
    std = np.maximum(std, _LEAST_STD * float(np.median(std)) or 1.0)
    return np.round(mean, 6), np.maximum(np.round(std, 6), 1e-6)


def distances(seen: NDArray[np.float64], held_out: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances ``[M]`` of held-out pictures' embeddings from those of training pictures, ``[M, F]`` and ``[N, F]``."""
    mean, std = axes(seen)
    return np.array([distance(row, mean, std) for row in held_out])


def statistics(seen: NDArray[np.float64], away: NDArray[np.float64]) -> DomainStatistics:
    """Statistics of training pictures' embeddings ``[N, F]``; the threshold is the 99 % quantile of held-out
    distances ``[M]``."""
    mean, std = axes(seen)
    threshold = round(float(np.quantile(away, QUANTILE)), 4)
    flagged = float((away > threshold).mean())
    return DomainStatistics(mean=tuple(mean.tolist()), std=tuple(std.tolist()), threshold=threshold, flagged=flagged)


def record(
    path: Path,
    network: FrameModel,
    train: Sequence[Record],
    held_out: Sequence[Record],
    seed: int,
    *,
    feed: TrainingFeed | None = None,
    validation: ValidationFeed | None = None,
    away: NDArray[np.float64] | None = None,
) -> None:
    """Write the statistics of a checkpoint's own weights into it; ``network`` takes those weights.

    At most 4,000 training records count. ``feed``, ``validation``: what keeps their pictures already; without them they
    are read again. ``away``: distances that take the place of ``held_out``'s, from cross-validation.
    """
    state, info = read_state(path)
    contract = None if info is None else info.preprocess
    if info is None or contract is None or not network.embedding:
        return
    network.load_state_dict(state)
    if len(train) > MOST_PICTURES:
        chosen = np.random.default_rng(seed).choice(len(train), MOST_PICTURES, replace=False)
        train = [train[int(i)] for i in np.sort(chosen)]
    if validation is None:
        validation = ValidationFeed(held_out[:MOST_PICTURES], contract, limit_bytes=0)
    shown = ValidationFeed(train, contract, limit_bytes=0).batches() if feed is None else feed.plain(train)
    seen = embeddings(network, shown, contract, len(train))
    if away is None:
        away = distances(seen, embeddings(network, validation.batches(), contract, len(held_out)))
    found = statistics(seen, away)
    save(path, state, msgspec.structs.replace(info, domain=found))
