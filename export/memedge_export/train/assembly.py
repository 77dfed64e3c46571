"""From records to what a system's nodes are run on: rows of calls, each picture once, values and references."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from torch import Tensor

from memedge_engines.dataflow import default_value, picture_key
from memedge_engines.manifest import NodeInput, Preprocess
from memedge_engines.trace import Call

from ..data.pictures import Picture, fitted, normalise
from ..models import input_size
from ..models.system import Feed
from .clips import Clip, Layout

RowKey = tuple[int, int]
"""Which call of which record."""
Maker = Callable[[Preprocess, Sequence[tuple[int, int]]], Tensor]
"""Pictures of a contract, by number of the sample and position, as float32 ``[n, C, h, w]``."""


@dataclass(frozen=True)
class Seen:
    """One record and the calls that are wanted of it.

    Attributes:
        record: its number in its feed.
        wanted: target to numbers of calls.
    """

    record: int
    clip: Clip
    wanted: Mapping[str, Sequence[int]]


@dataclass
class NodeRows:
    """The calls of one node over all samples.

    Attributes:
        keys: of each row.
        samples: each row's sample.
        pictures: input to ``[n, last]`` positions of pictures.
        refs: input to ``[n, last]`` rows of the node before it.
        values: input to the values themselves, ``[n, ...]``; of host nodes ``[n, last, ...]``.
    """

    keys: list[RowKey] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    pictures: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)
    refs: dict[str, list[list[int]]] = field(default_factory=dict)
    values: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)


class Table:
    """What the nodes of a system are run on for several samples.

    Attributes:
        nodes: live node to its rows.
        rows: target to the rows of its node, sample by sample.
    """

    def __init__(self, layout: Layout, sources: Mapping[str, str], seen: Sequence[Seen]) -> None:
        """``sources``: target to its ``node.output``."""
        self.layout = layout
        self.nodes: dict[str, NodeRows] = {}
        self.rows: dict[str, list[list[int]]] = {target: [] for target in sources}
        for sample, one in enumerate(seen):
            place = self._add(sample, one)
            for target, numbers in one.wanted.items():
                self.rows[target].append([place[number] for number in numbers])

    def _add(self, sample: int, one: Seen) -> dict[int, int]:
        """Add a sample's calls; number of a call to its row in its node."""
        place: dict[int, int] = {}
        for number in _needed(one, self.layout):
            call = one.clip.viewing.calls[number]
            rows = self.nodes.setdefault(call.node, NodeRows())
            place[number] = len(rows.keys)
            rows.keys.append((one.record, number))
            rows.samples.append(sample)
            for name, refs in call.inputs.items():
                item = self.layout.inputs[call.node, name]
                if item.source == "source":
                    rows.pictures.setdefault(name, []).append(refs)
                elif item.source != "caller" and refs[0] not in one.clip.hosts:
                    rows.refs.setdefault(name, []).append([place[ref] for ref in refs])
                else:
                    rows.values.setdefault(name, []).append(self._value(call, item, refs, one.clip))
        return place

    def _value(self, call: Call, item: NodeInput, refs: Sequence[int], clip: Clip) -> NDArray[np.float32]:
        if item.source == "caller":
            value: Any = clip.caller.get(item.name, default_value(item))
            alone = self.layout.nodes[call.node].kind == "graph"
            return np.asarray(value if alone else value[None], np.float32)
        output = item.source.partition(".")[2]
        found = np.stack([np.asarray(clip.hosts[ref][output], np.float32) for ref in refs])
        alone = item.last == 1 and self.layout.nodes[call.node].kind == "graph"
        return found[0] if alone else found

    def order(self) -> list[str]:
        """The nodes that run, in the dataflow's order."""
        return [name for name in self.layout.nodes if name in self.nodes]

    def feed(self, node: str, make: Maker | None, part: slice | None = None) -> Feed:
        """Some rows of a node; no ``part``: all of them; no ``make``: blank pictures that take no memory."""
        rows, part = self.nodes[node], part or slice(None)
        inputs: dict[str, Tensor] = {}
        for item in self.layout.nodes[node].inputs:
            if item.name in rows.pictures:
                inputs[item.name] = self._pictures(item, rows.pictures[item.name][part], rows.samples[part], make)
            elif item.name in rows.refs:
                inputs[item.name] = torch.tensor(rows.refs[item.name][part], dtype=torch.int64)
            else:
                inputs[item.name] = torch.from_numpy(np.stack(rows.values[item.name][part]))
        return Feed(inputs)

    def _pictures(
        self, item: NodeInput, rows: Sequence[tuple[int, ...]], samples: Sequence[int], make: Maker | None
    ) -> Tensor:
        contract = item.preprocess
        assert contract is not None
        if make is None:
            shape = [contract.channels, *input_size(contract)]
            if item.last > 1:
                shape.insert(0 if contract.layout == "ntchw" else 1, item.last)
            return torch.zeros(()).expand(len(rows), *shape)
        order: dict[tuple[int, int], int] = {}
        index = [[order.setdefault((s, at), len(order)) for at in row] for s, row in zip(samples, rows, strict=True)]
        tensor = make(contract, list(order))
        windows = tensor[torch.tensor(index)]
        if item.last == 1:
            return windows[:, 0]
        return windows if contract.layout == "ntchw" else windows.transpose(1, 2).contiguous()


def _needed(one: Seen, layout: Layout) -> list[int]:
    """The live calls behind the wanted ones, in order."""
    calls = one.clip.viewing.calls
    found: set[int] = set()
    waiting = [number for numbers in one.wanted.values() for number in numbers]
    while waiting:
        number = waiting.pop()
        if number in found or number in one.clip.hosts:
            continue
        found.add(number)
        call = calls[number]
        for name, refs in call.inputs.items():
            if layout.inputs[call.node, name].source not in ("source", "caller"):
                waiting.extend(refs)
    return sorted(found)


def as_run(seen: Sequence[Seen]) -> Maker:
    """Pictures as they were kept by the contract, without any change."""

    def make(contract: Preprocess, wanted: Sequence[tuple[int, int]]) -> Tensor:
        key = picture_key(contract)
        return tensor_of([seen[sample].clip.pictures[key, position] for sample, position in wanted], contract)

    return make


def as_fitted(seen: Sequence[Seen]) -> Maker:
    """Pictures that were kept in RGB, fitted to the contract."""

    def make(contract: Preprocess, wanted: Sequence[tuple[int, int]]) -> Tensor:
        key = picture_key(contract)
        return tensor_of([fitted(seen[sample].clip.pictures[key, at], contract) for sample, at in wanted], contract)

    return make


def tensor_of(pictures: Sequence[Picture], contract: Preprocess) -> Tensor:
    """Pictures of a contract, whatever its layout, as float32 ``[n, C, h, w]``."""
    return normalise(np.stack(pictures), replace(contract, layout="nchw"))
