"""Running a system in evaluation mode on whole records, in parts that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from ..models.system import Feed, System
from .assembly import Maker, Seen, Table
from .clips import Clip
from .memo import Memo

MOST_PICTURES = 64
"""That a node is shown at once; of nodes without pictures, rows."""


def every_call(record: int, clip: Clip) -> Seen:
    """A record with all calls that its targets' sampling asks for."""
    asked = clip.viewing.asked
    return Seen(record, clip, {target: list(dict.fromkeys(calls.values())) for target, calls in asked.items()})


def sources(network: System) -> dict[str, str]:
    """Target to its ``node.output``."""
    return {target.name: target.source for target in network.system_targets}


def run(
    network: System, table: Table, make: Maker, memo: Memo | None = None, most: int = MOST_PICTURES
) -> dict[str, Tensor]:
    """``node.output`` to ``[n, ...]`` on the network's device, without gradients; the network must be in evaluation
    mode.

    Args:
        memo: what it knows of frozen parts is taken, what it does not know is learnt.
    """
    device = device_of(network)
    found: dict[str, Tensor] = {}
    for node in table.order():
        rows = table.nodes[node]
        windows = [pictures[0] for pictures in rows.pictures.values()]
        step = max(1, most // max(1, sum(len(window) for window in windows)))
        pieces: dict[str, list[Tensor]] = {}
        for begin in range(0, len(rows.keys), step):
            part = slice(begin, begin + step)
            keys = {node: rows.keys[part]}
            known = memo is not None and memo.knows(node, keys[node])
            feed = table.feed(node, None if known else make, part)
            feed = Feed({name: tensor.to(device) for name, tensor in feed.inputs.items()})
            learns = memo is not None and not known and node in memo.parts
            around: AbstractContextManager[None] = nullcontext()
            if memo is not None and (known or learns):
                around = memo.recalling(network, keys, device) if known else memo.learning(network, keys)
            with torch.set_grad_enabled(learns), around:
                given = network({node: feed}, found)
            for name, tensor in given.items():
                if name.partition(".")[0] == node:
                    pieces.setdefault(name, []).append(tensor.detach())
        found.update({name: torch.cat(some) for name, some in pieces.items()})
    return found


def device_of(network: nn.Module) -> torch.device:
    """Where the network is; the CPU where it has no tensors."""
    first = next(iter(network.state_dict().values()), None)
    return torch.device("cpu") if first is None else first.device


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """The network in evaluation mode; afterwards each layer is in the mode that it was in."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def scores_of(network: System, seen: Seen, table: Table, sample: int, outputs: Mapping[str, Tensor]) -> list[float]:
    """The record's score of each target, by its published sampling and aggregation; nan where it has none."""
    found = []
    for target in network.system_targets:
        values = outputs[target.source].reshape(-1)[table.rows[target.name][sample]].double().cpu().tolist()
        score = seen.clip.viewing.score(target, dict(zip(seen.wanted[target.name], values, strict=True)))
        found.append(float("nan") if score is None else score)
    return found


def groups(seen: Sequence[Seen] | Iterator[Seen], most: int = 4 * MOST_PICTURES) -> Iterator[list[Seen]]:
    """Records in groups of up to ``most`` pictures, one record at least."""
    group: list[Seen] = []
    count = 0
    for one in seen:
        size = max(1, sum(sum(map(len, call.inputs.values())) for call in one.clip.viewing.calls.values()))
        if group and count + size > most:
            yield group
            group, count = [], 0
        group.append(one)
        count += size
    if group:
        yield group
