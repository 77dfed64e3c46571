"""The TensorRT lowerings: ``trt-int8`` (symmetric int8 pairs on the inputs of convolutions) and ``trt-fp16``.

TensorRT moves and fuses pairs by itself, from the right places: the inputs of what runs in int8, none on results and
none between a convolution and its activation; of a residual addition only the shortcut, so that the addition fuses into
the convolution of the other branch; one scale for all that a Concat joins, so that its pair can move to its inputs.
Zero points are zero, biases are float, and every dequantised tensor has the float type of the network around it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import numpy as np
from onnx import NodeProto

from memedge_engines.manifest import InputStorage

from .graph import SHAPING, GraphView
from .insert import Inserter, Ranges, channel_scales, encode, half_scales
from .lower_half import HalfPass, too_large
from .lower_types import Lowered, choose, open_float_graph, share
from .ranges import RangeTable

Body = Literal["fp16", "fp32"]


def lower_trt_int8(graph: bytes, table: RangeTable, excluded: Collection[str] = (), body: Body = "fp16") -> Lowered:
    """The int8 form for TensorRT 10.3 to 11.

    Args:
        graph: ONNX bytes of the float graph, opset 19.
        table: its ranges.
        excluded: names of convolutions that stay float (in the body's type).
        body: type of what is not int8; ``fp32`` where a device's builder stumbles over half precision. The head is
            float32 in both, as are the graph's inputs and outputs.

    Raises:
        ExportError: the table belongs to another graph, or the graph cannot be lowered at all.
    """
    table.check(graph)
    view = open_float_graph(graph, excluded)
    ranges = Ranges(view, table)
    convs, floated = choose(view, ranges, excluded, outputs=False, thin=True)
    for conv in list(convs):
        maker = view.producer.get(conv.input[0])
        if maker is not None and maker.op_type in SHAPING:
            # A builder on Orin fails on pairs beside these, so those convolutions stay float.
            floated[conv.name] = f"its input comes from {maker.op_type}, and no pair may stand beside that"
            convs.remove(conv)
    quantized = tuple(conv.name for conv in convs)
    readers = _readers(view, ranges, convs, excluded)
    # Asked before the edits: the view describes the float graph.
    work, head = share(view, quantized), view.head
    large = too_large(view, table) if body == "fp16" else {}
    inserter = Inserter(view)
    narrow = body == "fp16"
    for conv in convs:
        scales = channel_scales(view.value(conv.input[1]))
        scales = np.where(scales > 0, np.maximum(scales, np.float32(1e-30)), np.float32(1)).astype(np.float32)
        inserter.weights(conv, half_scales(scales) if narrow else scales)
    for name, nodes in readers.items():
        found = ranges.find(name)
        assert found is not None
        scale = np.array([found.magnitude / 127], np.float32)
        inserter.pair(name, float((half_scales(scale) if narrow else scale)[0]), np.int8(0))
        for node, position in nodes:
            inserter.redirect(node, position)
    model = inserter.finish()
    if narrow:
        paired = GraphView(model)
        model = HalfPass(paired, _kept(paired, head | large.keys())).run()
    return Lowered(
        model=encode(model),
        quantized=quantized,
        floated=floated,
        mac_share=work,
        inputs={name: InputStorage() for name in view.inputs},
    )


def _readers(
    view: GraphView, ranges: Ranges, convs: list[NodeProto], excluded: Collection[str]
) -> dict[str, list[tuple[NodeProto, int]]]:
    """Tensors that get a pair -> who reads its result, as (node, position)."""
    chosen = {conv.name for conv in convs}
    readers: dict[str, list[tuple[NodeProto, int]]] = {}
    for conv in convs:
        readers.setdefault(conv.input[0], []).append((conv, 0))
    for add in view.of_type("Add"):
        shortcut = view.shortcut(add)
        if shortcut is None or add.name in view.head or add.name in excluded:
            continue
        branch = view.producer.get(add.input[1 - shortcut])
        # Only an int8 convolution takes the addition into its own kernel.
        if branch is not None and branch.name in chosen and ranges.find(add.input[shortcut]) is not None:
            readers.setdefault(add.input[shortcut], []).append((add, shortcut))
    return readers


def _kept(view: GraphView, names: Collection[str]) -> set[str]:
    """These nodes and the Q/DQ nodes that serve only them, by name: what stays float32 in a half-precision body."""
    kept = set(names)
    for node in reversed(view.nodes):
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            served = view.readers(node.output[0])
            if served and all(reader.name in kept for reader in served):
                kept.add(node.name)
    return kept


def lower_trt_fp16(graph: bytes, table: RangeTable, excluded: Collection[str] = ()) -> Lowered:
    """The half-precision form for TensorRT: typed, with a float32 head, float32 inputs and outputs.

    Args:
        graph: ONNX bytes of the float graph, opset 19.
        table: its ranges; layers beside a tensor whose magnitude passed 32,768 stay float32.
        excluded: names of nodes that stay float32.

    Raises:
        ExportError: the table belongs to another graph, or the graph holds control flow.
    """
    table.check(graph)
    view = open_float_graph(graph, excluded)
    large = too_large(view, table)
    floated: dict[str, str] = {}
    halves = []
    for layer in view.layers():
        if layer.head:
            floated[layer.name] = "belongs to the head, which stays float"
        elif layer.name in excluded or layer.name in large:
            floated[layer.name] = "excluded" if layer.name in excluded else large[layer.name]
        else:
            halves.append(layer.name)
    work = share(view, halves)
    kept = view.head | large.keys() | set(excluded)
    model = HalfPass(view, kept).run()
    return Lowered(
        model=encode(model),
        quantized=tuple(halves),
        floated=floated,
        mac_share=work,
        inputs={name: InputStorage() for name in view.inputs},
    )
