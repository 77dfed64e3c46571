"""What a step of training shows a network: pictures to a frame model, calls to a system."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..models.frame import FrameModel
from ..models.system import Feed, System
from .assembly import RowKey
from .memo import Memo


class Inputs(Protocol):
    """Inputs of one batch."""

    def to(self, move: Callable[[Tensor], Tensor]) -> Inputs:
        """The same on another device."""
        ...

    def outputs(self, wrapped: Any, network: Any) -> Mapping[str, Tensor]:
        """The network's outputs as losses take them; ``wrapped`` is the network as it is called."""
        ...


@dataclass(frozen=True)
class Pictures:
    """Of a frame model: float32 ``[N, C, h, w]``."""

    tensor: Tensor

    def to(self, move: Callable[[Tensor], Tensor]) -> Pictures:
        """See :class:`Inputs`."""
        return Pictures(move(self.tensor.contiguous(memory_format=torch.channels_last)))

    def outputs(self, wrapped: Any, network: FrameModel) -> Mapping[str, Tensor]:
        """See :class:`Inputs`."""
        return network.for_loss(wrapped(self.tensor))


@dataclass(frozen=True)
class Calls:
    """Of a system.

    Attributes:
        feeds: what its nodes run on.
        rows: ``node.output`` of each target to its row of each sample, int64 ``[B]``.
        keys: node to which call of which record its rows are, where ``memo`` knows what its frozen parts give.
    """

    feeds: Mapping[str, Feed]
    rows: Mapping[str, Tensor]
    keys: Mapping[str, list[RowKey]]
    memo: Memo | None = None

    def to(self, move: Callable[[Tensor], Tensor]) -> Calls:
        """See :class:`Inputs`."""
        feeds = {
            node: Feed({name: _moved(rows, move) for name, rows in feed.inputs.items()})
            for node, feed in self.feeds.items()
        }
        return Calls(feeds, {name: move(rows) for name, rows in self.rows.items()}, self.keys, self.memo)

    def outputs(self, wrapped: Any, network: System) -> Mapping[str, Tensor]:
        """See :class:`Inputs`."""
        device = next(iter(self.rows.values())).device
        with nullcontext() if self.memo is None else self.memo.recalling(network, self.keys, device):
            found = dict(wrapped(self.feeds))
        for source, rows in self.rows.items():
            node = source.partition(".")[0]
            for name in [name for name in found if name.partition(".")[0] == node]:
                found[name] = found[name][rows] if len(found[name]) != len(rows) else found[name]
        return network.for_loss(found)


def _moved(tensor: Tensor, move: Callable[[Tensor], Tensor]) -> Tensor:
    """Blank pictures stay one number wherever they go."""
    if tensor.numel() > 1 and not any(tensor.stride()):
        return move(tensor[(0,) * tensor.dim()]).expand(tensor.shape)
    return move(tensor)
