"""The ``cpu`` lowering: uint8 activations, int8 weights, Q/DQ around all that ONNX Runtime has integer kernels for.

A tensor that is never negative has zero point 0 and scale max / 255; the Relu before it then does nothing that the
quantisation does not do, and the runtime drops it. A signed tensor has zero point 128 and scale max / 127: the very
numbers of signed int8, which x86 multiplies at half the speed. Biases are int32 with a DequantizeLinear: every ONNX
Runtime fuses that, while float ones are fused by newer releases only. Dense convolutions that read one channel, or up
to three with a kernel of 1x1, stay float: their integer kernels are slower than the float ones.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from onnx import NodeProto

from memedge_engines.manifest import InputStorage

from .graph import GraphView
from .insert import Inserter, Range, Ranges, bias_room, channel_scales, encode
from .lower_nodes import is_value
from .lower_types import Lowered, choose, integer_result, open_float_graph, share
from .ranges import RangeTable


def lower_cpu(graph: bytes, table: RangeTable, excluded: Collection[str] = ()) -> Lowered:
    """The CPU form of a float graph.

    Args:
        graph: ONNX bytes of the float graph, opset 19.
        table: its ranges.
        excluded: names of convolutions that stay float.

    Raises:
        ExportError: the table belongs to another graph, or the graph cannot be lowered at all.
    """
    table.check(graph)
    view = open_float_graph(graph, excluded)
    ranges = Ranges(view, table)
    convs, floated = choose(view, ranges, excluded, outputs=True, thin=False)
    tensors = _integer_tensors(view, ranges, convs, excluded)
    scales = {name: _scale(found) for name in tensors if (found := ranges.find(name)) is not None}
    # Asked before the edits: the view describes the float graph.
    quantized = tuple(conv.name for conv in convs)
    work = share(view, quantized)
    inserter = Inserter(view)
    for conv in convs:
        input_scale = scales[conv.input[0]][0]
        weights = channel_scales(view.value(conv.input[1]))
        bias = view.value(conv.input[2]) if is_value(conv, 2) else np.zeros(len(weights), np.float32)
        weights = bias_room(weights, bias, input_scale)
        inserter.weights(conv, weights)
        inserter.int32_bias(conv, (weights * np.float32(input_scale)).astype(np.float32))
    for name, (scale, zero) in scales.items():
        inserter.pair(name, scale, zero)
        for node, position in view.consumers.get(name, []):
            inserter.redirect(node, position)
    return Lowered(
        model=encode(inserter.finish()),
        quantized=quantized,
        floated=floated,
        mac_share=work,
        inputs={name: InputStorage() for name in view.inputs},
    )


def _scale(found: Range) -> tuple[float, np.uint8]:
    """float32 scale and zero point of a tensor."""
    # Rounded down where need be: 255 steps must not pass the upper limit of a Clip, or the runtime keeps the Clip.
    unsigned = float(np.nextafter(np.float32(found.magnitude / 255), np.float32(0)))
    return (float(np.float32(found.magnitude / 127)), np.uint8(128)) if found.signed else (unsigned, np.uint8(0))


def _integer_tensors(view: GraphView, ranges: Ranges, convs: list[NodeProto], excluded: Collection[str]) -> list[str]:
    """Tensors that get a pair, in the order in which they are made: both sides of every chosen convolution, and what
    Adds, max-pools and Concats between them can compute in integers."""
    chosen = {conv.name for conv in convs}
    tensors = {conv.input[0] for conv in convs} | {integer_result(view, ranges, conv) for conv in convs}
    for node in view.nodes:
        if node.name in view.head or node.name in chosen or node.name in excluded:
            continue
        after = _result(view, ranges, node, tensors, chosen)
        if after is not None and after not in view.outputs and ranges.why_not(after) is None:
            tensors.add(after)
    order = {name: number for number, name in enumerate((*view.inputs, *view.producer))}
    return sorted(tensors, key=order.__getitem__)


def _result(view: GraphView, ranges: Ranges, node: NodeProto, tensors: set[str], chosen: Collection[str]) -> str | None:
    """The tensor that would need a pair for this node to run in integers, when its inputs have theirs."""
    if not all(name in tensors for name in (node.input if node.op_type in ("Add", "Concat") else node.input[:1])):
        return None
    if node.op_type == "Add":
        after = integer_result(view, ranges, node)
        # A sum that no integer convolution reads is added in float: the features that make the score keep all their
        # digits, and promoting the convolutions behind a sum frees its tensor, too.
        return after if any(reader.name in chosen for reader in view.readers(after)) else None
    if node.op_type in ("MaxPool", "Concat") and len(node.output) == 1:
        return node.output[0]
    return None
