"""Lowerings of systems: each graph node in the narrowest form that its card allows, all of them judged together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from ..errors import ExportError
from .graph import GraphView, Layer
from .lower import Lowered, lower_cpu, lower_trt_fp16, lower_trt_int8
from .ranges import SCHEMA, RangeTable

SEPARATOR = "/"
"""Between a node and its layer in the names of a system's layers."""
Body = Literal["fp16", "fp32"]
# Lowerings that are made at all, by the lowest precision of a node's card.
_ALLOWED = {"int8": ("cpu", "trt-int8", "trt-fp16"), "fp16": ("trt-fp16",), "fp32": ()}


class SystemLowered(Lowered, frozen=True, kw_only=True):
    """A lowering of all nodes. ``model`` is empty; layers are named ``node/layer``.

    Attributes:
        forms: graph node to the lowering that it has here: ``cpu``, ``trt-int8``, ``trt-fp16`` or ``fp32``.
        nodes: graph node to its lowering; nodes in float are not among them.
    """

    forms: dict[str, str]
    nodes: dict[str, Lowered]


class NodeRanges(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``ranges.json`` of a bundle of several nodes: a range table for each that has lowerings."""

    schema: int = SCHEMA
    nodes: dict[str, RangeTable]

    def encode(self) -> bytes:
        """JSON text, the same bytes for the same tables."""
        return msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=1) + b"\n"

    @classmethod
    def decode(cls, data: bytes, name: str) -> NodeRanges:
        """Read the tables; ExportError for what :meth:`encode` does not write."""
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError as error:
            raise ExportError(
                f"{name} cannot be read as range tables of nodes: {error}", fix="calibrate again, without --ranges"
            ) from None


@dataclass(frozen=True)
class NodeSource:
    """What a graph node's lowerings are made of.

    Attributes:
        graph: the float graph.
        lowest: of its card.
        kept: layers of the graph that stay float in int8 lowerings, by their names.
        tables: calibration method to ranges; empty where nothing is lowered.
    """

    graph: bytes
    lowest: str
    kept: frozenset[str] = frozenset()
    tables: Mapping[str, RangeTable] = field(default_factory=dict)


class SystemLowerings:
    """Makes lowerings of a system, and makes none of a node twice.

    Args:
        sources: graph node to what its lowerings are made of.
        body: of ``trt-int8``.
    """

    def __init__(self, sources: Mapping[str, NodeSource], body: Body = "fp16") -> None:
        self.sources = dict(sources)
        self._body: Body = body
        self._layers: dict[str, list[Layer]] = {}
        self._made: dict[tuple[str, str, str], tuple[frozenset[str], Lowered]] = {}
        self.halves: dict[str, Lowered] = {}
        """Half-precision forms that passed their own gate: they stand in where a node has no int8 form."""
        self.half_made = True
        """Whether the bundle gets half-precision forms at all."""

    def form(self, node: str, name: str) -> str:
        """The lowering that a node has where the system has ``name``."""
        allowed = _ALLOWED[self.sources[node].lowest]
        if name in allowed:
            return name
        return "trt-fp16" if name == "trt-int8" and "trt-fp16" in allowed and self.half_made else "fp32"

    def lower(self, name: str, method: str, excluded: Collection[str]) -> SystemLowered:
        """The lowering ``name`` of the system, some layers (``node/layer``) left in float.

        Raises:
            ExportError: a graph that cannot be lowered.
        """
        nodes: dict[str, Lowered] = {}
        forms: dict[str, str] = {}
        floated: dict[str, str] = {}
        for node in self.sources:
            form = self.form(node, name)
            prefix = f"{node}{SEPARATOR}"
            if form == name:
                mine = frozenset(layer.removeprefix(prefix) for layer in excluded if layer.startswith(prefix))
                found = self._node(node, form, method, mine)
                floated |= {f"{prefix}{layer}": reason for layer, reason in found.floated.items()}
                if name == "trt-fp16" or found.quantized:
                    nodes[node] = found
                else:  # an int8 form without int8 is none
                    form = "trt-fp16" if name == "trt-int8" and self.half_made else "fp32"
            if form == "trt-fp16" and node not in nodes:
                nodes[node] = self._half(node, method)
            forms[node] = form
        narrow = {node: one for node, one in nodes.items() if forms[node] == name}
        quantized = [f"{node}{SEPARATOR}{layer}" for node, one in narrow.items() for layer in one.quantized]
        return SystemLowered(
            model=b"",
            quantized=tuple(quantized),
            floated=floated,
            mac_share=self._share(name, quantized),
            inputs={},
            forms=forms,
            nodes=nodes,
        )

    def layers(self, name: str) -> list[Layer]:
        """Layers that the lowering may narrow, in order."""
        return [
            msgspec.structs.replace(layer, name=f"{node}{SEPARATOR}{layer.name}")
            for node, source in self.sources.items()
            if self.form(node, name) == name
            for layer in self._layers_of(node)
            if name == "trt-fp16" or layer.name not in source.kept
        ]

    def _layers_of(self, node: str) -> list[Layer]:
        if node not in self._layers:
            self._layers[node] = GraphView.load(self.sources[node].graph).layers()
        return self._layers[node]

    def _share(self, name: str, quantized: Sequence[str]) -> float:
        """Share of the convolution multiply-adds that may be narrow."""
        work = {layer.name: layer.macs for layer in self.layers(name) if layer.op.startswith("Conv")}
        total = sum(work.values())
        return sum(macs for layer, macs in work.items() if layer in set(quantized)) / total if total else 0.0

    def _half(self, node: str, method: str) -> Lowered:
        return self.halves.get(node) or self._node(node, "trt-fp16", method, frozenset())

    def _node(self, node: str, form: str, method: str, excluded: frozenset[str]) -> Lowered:
        source, key = self.sources[node], (node, form, method)
        known = self._made.get(key)
        if known is not None and known[0] == excluded:
            return known[1]
        table = source.tables[method]
        if form == "trt-fp16":
            made = lower_trt_fp16(source.graph, table, excluded)
        elif form == "cpu":
            made = lower_cpu(source.graph, table, excluded | source.kept)
        else:
            made = lower_trt_int8(source.graph, table, excluded | source.kept, body=self._body)
        if source.kept and form != "trt-fp16":
            told = {layer: "its part of the network stays float" for layer in source.kept if layer in made.floated}
            made = msgspec.structs.replace(made, floated={**made.floated, **told})
        self._made[key] = (excluded, made)
        return made
