"""What a trained system has seen, for the out-of-domain flag: statistics of its embedding over training records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..checkpoint import save
from ..models.system import System
from ..weights import read_state
from .assembly import Seen, Table
from .domain import MOST_PICTURES, distances, statistics
from .system_feed import SystemTrainingFeed, SystemValidationFeed

Groups = Iterator[tuple[list[Seen], Table, dict[str, Tensor]]]


def record_domain(
    path: Path, network: System, feed: SystemTrainingFeed, validation: SystemValidationFeed, seed: int
) -> None:
    """Write the statistics of a checkpoint's own weights into it, where it gives an embedding; ``network`` takes those
    weights. At most 4,000 training records count."""
    output = network.output_of("embedding")
    state, info = read_state(path)
    if output is None or info is None:
        return
    network.load_state_dict(state)
    feed.forget()
    validation.forget()
    count = len(feed.material.records)
    chosen = np.arange(count)
    if count > MOST_PICTURES:
        chosen = np.sort(np.random.default_rng(seed).choice(count, MOST_PICTURES, replace=False))
    seen = _embeddings(feed.whole([int(number) for number in chosen]), output)
    away = distances(seen, _embeddings(validation.whole(network), output))
    save(path, state, msgspec.structs.replace(info, domain=statistics(seen, away)))


def _embeddings(groups: Groups, output: str) -> NDArray[np.float64]:
    """float64 ``[N, F]`` of all calls that give one."""
    found = [outputs[output].flatten(1).double().cpu() for _, _, outputs in groups if output in outputs]
    return np.asarray(torch.cat(found).numpy())
