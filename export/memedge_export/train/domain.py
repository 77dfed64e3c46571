"""What a trained network has seen, for the out-of-domain flag: statistics of its embedding over training pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from memedge.domain import distance
from memedge_engines.manifest import Preprocess

from ..checkpoint import DomainStatistics, save
from ..data.pictures import normalise
from ..data.records import Record
from ..models.frame import FrameModel
from ..weights import read_state
from .feed import ValidationFeed

MOST_PICTURES = 4000
# Of held-out pictures of the same kind, one in a hundred may be flagged.
QUANTILE = 0.99
# An axis that hardly moves in training would flag everything: no deviation below this share of the median one.
_LEAST_STD = 0.1


def embeddings(
    network: FrameModel, records: Sequence[Record], contract: Preprocess, batch: int = 64
) -> NDArray[np.float64]:
    """Embeddings of the records' pictures, float64 ``[N, F]``; leaves the network in evaluation mode."""
    network.eval()
    device = next(network.parameters()).device
    feed = ValidationFeed(records, contract, limit_bytes=0)
    found = []
    with torch.inference_mode():
        for pictures in feed.batches(batch):
            features = network.trunk(normalise(pictures, contract).to(device))
            found.append(features.double().cpu().numpy())
    return np.concatenate(found)


def statistics(
    network: FrameModel, train: Sequence[Record], held_out: Sequence[Record], contract: Preprocess, seed: int
) -> DomainStatistics:
    """Statistics over at most 4,000 training pictures; the threshold is the 99 % quantile of held-out distances."""
    if len(train) > MOST_PICTURES:
        chosen = np.random.default_rng(seed).choice(len(train), MOST_PICTURES, replace=False)
        train = [train[int(i)] for i in np.sort(chosen)]
    seen = embeddings(network, train, contract)
    mean, std = seen.mean(0), seen.std(0)
    std = np.maximum(std, _LEAST_STD * float(np.median(std)) or 1.0)
    # As the manifest stores them.
    mean, std = np.round(mean, 6), np.maximum(np.round(std, 6), 1e-6)
    away = np.array([distance(row, mean, std) for row in embeddings(network, held_out[:MOST_PICTURES], contract)])
    threshold = round(float(np.quantile(away, QUANTILE)), 4)
    flagged = float((away > threshold).mean())
    return DomainStatistics(mean=tuple(mean.tolist()), std=tuple(std.tolist()), threshold=threshold, flagged=flagged)


def record(path: Path, network: FrameModel, train: Sequence[Record], held_out: Sequence[Record], seed: int) -> None:
    """Write the statistics of a checkpoint's own weights into it; ``network`` takes those weights."""
    state, info = read_state(path)
    if info is None or not network.embedding:
        return
    network.load_state_dict(state)
    found = statistics(network, train, held_out, info.preprocess, seed)
    save(path, state, msgspec.structs.replace(info, domain=found))
