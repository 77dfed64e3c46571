"""Training data for the fits of fitted parts, and heads that start at the mean score."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from memedge.console import progress, status

from ..errors import TrainingError
from ..models.system import System
from .fitting import MOST_ROWS, Rows
from .losses import ScoreStatistics
from .system_feed import SystemTrainingFeed

# Over these outputs of a last layer scores go from one end of their range to the other.
_GRID = np.linspace(-8.0, 8.0, 17)
# A head that starts flat learns from the mean score on.
_FLAT = 0.1


@dataclass
class _Ear:
    """Keeps what enters a part, and which rows of its node that is."""

    module: nn.Module
    part: nn.Module
    rows: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    _done: int = 0
    _now: tuple[int, int] = (0, 0)

    def node(self, _: nn.Module, given: tuple[Any, ...]) -> None:
        count = len(given[0])
        self._now, self._done = (self._done, count), self._done + count

    def enters(self, _: nn.Module, given: tuple[Any, ...]) -> None:
        begin, count = self._now
        values: Tensor = given[0].detach().float().cpu()
        # A part that sees single frames of a window has several rows for each of its node's.
        rows = torch.arange(begin, begin + count).repeat_interleave(max(1, len(values) // max(count, 1)))
        self.rows.append((values, rows))

    def take(self, count: int) -> list[tuple[Tensor, Tensor]]:
        """What was heard of the node's last ``count`` rows, numbered from 0: before a group of records runs, each of
        them may have run alone, for what frozen parts give to be kept."""
        begin = self._done - count
        found = [(values, rows - begin) for values, rows in self.rows if int(rows[0]) >= begin]
        self.rows, self._done = [], 0
        return found

    @contextmanager
    def listening(self) -> Iterator[None]:
        handles = [
            self.module.register_forward_pre_hook(self.node),
            self.part.register_forward_pre_hook(self.enters),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class TrainingData:
    """See :class:`.fitting.FitData`."""

    def __init__(self, network: System, feed: SystemTrainingFeed, seed: int) -> None:
        self._network = network
        self._feed = feed
        self._seed = seed
        self._statistics = feed.material.statistics()

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self._seed

    @property
    def statistics(self) -> ScoreStatistics:
        """Of the training scores."""
        return self._statistics

    def entering(self, part: str, most: int = MOST_ROWS) -> Rows:
        """See :meth:`.fitting.FitData.entering`."""
        module = self._network.get_submodule(part)
        owners = [n for n, g in self._network.graphs.items() if module in set(g.module.modules())]
        order = np.random.default_rng(self._seed).permutation(len(self._feed.material.records))
        targets = torch.from_numpy(self._feed.material.targets)
        values: list[Tensor] = []
        scores: list[Tensor] = []
        count = 0
        if owners:
            ear = _Ear(self._network.graphs[owners[0]].module, module)
            with ExitStack() as stack:
                stack.enter_context(ear.listening())
                bar = stack.enter_context(progress(f"what enters {part}", len(order)))
                groups = stack.enter_context(closing(self._feed.whole([int(number) for number in order])))
                for group, table, _ in groups:
                    samples = torch.tensor(table.nodes[owners[0]].samples)
                    records = torch.tensor([one.record for one in group])
                    for found, rows in ear.take(len(samples)):
                        values.append(found)
                        scores.append(targets[records[samples[rows]]])
                        count += len(found)
                    bar.advance(len(group))
                    if count >= most:
                        break
        if not count:
            raise TrainingError(f"nothing enters the part '{part}' of the network; it cannot be fitted")
        return Rows(torch.cat(values)[:most], torch.cat(scores)[:most])


def fit_parts(network: System, feed: SystemTrainingFeed, seed: int, known: Sequence[str] = ()) -> bool:
    """Fit the system's fitted parts to training data, in their order; whether there were any.

    Args:
        known: parts that are left as they are.
    """
    data = TrainingData(network, feed, seed)
    waiting = [one for one in network.fitted if one.part not in known]
    for one in waiting:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            one.fit(network, data)
        status(f"fitted {one.part or 'the network'} to training data")
    return bool(waiting)


def start_at_mean(network: System, feed: SystemTrainingFeed, fresh: Collection[str]) -> None:
    """Make the layers that give the scores, where no start weights gave them, start nearly flat at the mean score."""
    means = feed.material.statistics().means
    for path, target, mean in zip(network.last, network.system_targets, means, strict=False):
        layer = network.get_submodule(path)
        if not isinstance(layer, nn.Linear) or layer.out_features != 1 or layer.bias is None:
            continue
        fitted = any(path == one.part or path.startswith(f"{one.part}.") for one in network.fitted)
        if fitted or f"{path}.weight" not in fresh:
            continue
        curve = _curve(network, feed, layer, target.source)
        if not np.ptp(curve) > 0:
            continue
        order = np.argsort(curve)
        # A score without an activation behind it may lie anywhere; of others the nearest that there is is taken.
        straight = np.allclose(curve, np.interp(_GRID, _GRID[[0, -1]], curve[[0, -1]]), atol=1e-4)
        slope = (curve[-1] - curve[0]) / (_GRID[-1] - _GRID[0])
        value = (mean - curve[0]) / slope + _GRID[0] if straight else np.interp(mean, curve[order], _GRID[order])
        with torch.no_grad():
            layer.weight.mul_(_FLAT)
            layer.bias.fill_(float(value))


def _curve(network: System, feed: SystemTrainingFeed, layer: nn.Linear, source: str) -> np.ndarray[Any, Any]:
    """The first record's score, float64 ``[17]``, when the layer gives each value of the grid."""
    found = []
    for value in _GRID:
        hook = layer.register_forward_hook(lambda _, __, given, at=float(value): torch.full_like(given, at))
        try:
            with closing(feed.whole([0])) as groups:
                _, _, outputs = next(groups)
            found.append(float(outputs[source].reshape(-1)[0]))
        finally:
            hook.remove()
    return np.array(found)
