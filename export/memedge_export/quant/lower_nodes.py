"""Helpers on ONNX nodes and graphs: order, attributes, constants, names."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, helper, numpy_helper

from ..errors import ExportError


def is_value(node: NodeProto, position: int) -> bool:
    """Whether an input of a node is named at all (optional inputs may be empty)."""
    return position < len(node.input) and bool(node.input[position])


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """An attribute's value, or ``default``."""
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def sort_nodes(nodes: Sequence[NodeProto], known: Collection[str]) -> list[NodeProto]:
    """Nodes in topological order, otherwise in the order given.

    Raises:
        ExportError: a cycle or an input that nothing makes.
    """
    ready, waiting, done = set(known), list(nodes), []
    while waiting:
        later = []
        for node in waiting:
            if all(name in ready or not name for name in (*node.input, *_captured(node))):
                ready.update(node.output)
                done.append(node)
            else:
                later.append(node)
        if len(later) == len(waiting):
            missing = sorted(
                {n for node in later for n in node.input if n} - ready - {o for n in later for o in n.output}
            )
            what = f"nothing makes tensor '{missing[0]}'" if missing else f"a cycle runs through node '{later[0].name}'"
            raise ExportError(f"the graph cannot be ordered: {what}")
        waiting = later
    return done


def _captured(node: NodeProto) -> Iterator[str]:
    """Outer tensors that the subgraphs of a node (If, Loop) read."""
    for held in node.attribute:
        graphs = [held.g] if held.type == AttributeProto.GRAPH else list(held.graphs)
        for graph in graphs:
            own = (
                {v.name for v in graph.input}
                | {t.name for t in graph.initializer}
                | {o for n in graph.node for o in n.output}
            )
            for inner in graph.node:
                yield from (name for name in (*inner.input, *_captured(inner)) if name and name not in own)
            yield from (v.name for v in graph.output if v.name not in own)


def has_subgraphs(node: NodeProto) -> bool:
    """Whether a node holds graphs of its own (If, Loop, Scan)."""
    return any(held.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for held in node.attribute)


def store_constants(graph: onnx.GraphProto) -> None:
    """Turn Constant nodes into initialisers."""
    kept = []
    for node in graph.node:
        value = attribute(node, "value") if node.op_type == "Constant" else None
        if node.op_type == "Constant" and value is None:
            for name, dtype in (
                ("value_float", np.float32),
                ("value_floats", np.float32),
                ("value_int", np.int64),
                ("value_ints", np.int64),
            ):
                if (number := attribute(node, name)) is not None:
                    value = numpy_helper.from_array(np.array(number, dtype))
        if value is None:
            kept.append(node)
            continue
        tensor = graph.initializer.add()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
    if len(kept) != len(graph.node):
        del graph.node[:]
        graph.node.extend(kept)


def name_nodes(graph: onnx.GraphProto) -> None:
    """Give nodes without a name of their own one."""
    seen: set[str] = set()
    for number, node in enumerate(graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}#{number}"
        seen.add(node.name)


def without_data(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose large initialisers are inputs: same types, none of the data."""
    light = onnx.ModelProto(ir_version=max(model.ir_version, 4), opset_import=model.opset_import)
    graph = light.graph
    graph.name = "types"
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    named = {value.name for value in graph.input}
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= 64:
            graph.initializer.append(tensor)
        elif tensor.name not in named:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return light
