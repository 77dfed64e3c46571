"""The linter's rules for CPU graphs: C1 to C9 (C7, the form of the graph, is checked before all others)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from onnx import NodeProto, TensorProto

from .graph import GraphView
from .lint import (
    Finding,
    LintOptions,
    coverage_faults,
    dequantized,
    head_faults,
    is_weight,
    maker_of,
    pairs,
    scale_faults,
    scale_of,
    weight_scale_faults,
    zero_point_of,
)
from .lower_nodes import is_value

Rule = Callable[[GraphView, LintOptions], Iterator[Finding]]


def c1_no_float_copy(view: GraphView, options: LintOptions) -> Iterator[Finding]:
    """Weights of integer convolutions are stored as int8 only."""
    for node in view.of_type("QuantizeLinear"):
        if view.origin(node.input[0]) in view.initializers:
            found = f"float weights '{node.input[0]}' behind QuantizeLinear"
            yield Finding(rule="C1", node=node.name, found=found, expected="int8 weights and DequantizeLinear")
    read = {name for node in view.nodes for name in node.input} | set(view.outputs)
    for name in view.initializers.keys() - read:
        yield Finding(rule="C1", node=name, found="a stored tensor that nobody reads", expected="none")


def c2_types(view: GraphView, options: LintOptions) -> Iterator[Finding]:
    """Activations are uint8 with one scale and zero point 0 or 128; weights int8 and biases int32 with zero point 0."""
    for node in pairs(view):
        stored = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
        kind, zero, scale = view.dtype(stored), zero_point_of(view, node), scale_of(view, node)
        found = f"{TensorProto.DataType.Name(kind).lower()} with zero point {_first(zero)}"
        if not is_weight(view, node):
            if kind != TensorProto.UINT8 or zero is None or zero.ndim or int(zero) not in (0, 128):
                wanted = "uint8 with zero point 0 or 128"
                yield Finding(rule="C2", node=node.name, found=found, expected=wanted)
            elif scale is not None and scale.ndim:
                found = f"activation scale of shape {list(scale.shape)}"
                yield Finding(rule="C2", node=node.name, found=found, expected="one scale for the tensor")
            continue
        for reader in view.readers(node.output[0]):
            wanted = "int32" if is_value(reader, 2) and reader.input[2] == node.output[0] else "int8"
            if TensorProto.DataType.Name(kind).lower() != wanted or zero is None or zero.any():
                yield Finding(rule="C2", node=node.name, found=found, expected=f"{wanted} with zero point 0")


def _first(values: np.ndarray | None) -> str:
    return "none" if values is None or not values.size else str(values.reshape(-1)[0])


def c3_scales(view: GraphView, options: LintOptions) -> Iterator[Finding]:
    """Scales are constant float32, finite, above 0; of weights by output channel, of biases input times weights."""
    for node in pairs(view):
        yield from scale_faults(view, node, "C3")
        scale = scale_of(view, node)
        if scale is not None and scale.dtype != np.float32:
            yield Finding(rule="C3", node=node.name, found=f"{scale.dtype} scale", expected="float32")
        if node.op_type == "DequantizeLinear" and is_weight(view, node):
            yield from weight_scale_faults(view, node, "C3")
    for conv in view.of_type("Conv"):
        makers = [maker_of(view, conv, i) for i in (0, 1, 2)]
        scales = [None if m is None or m.op_type != "DequantizeLinear" else scale_of(view, m) for m in makers]
        known = [s for s in scales if s is not None]
        if len(known) == 3 and not np.allclose(known[2], known[0] * known[1], rtol=1e-5, atol=0):
            found = "another scale for its bias"
            yield Finding(rule="C3", node=conv.name, found=found, expected="input scale times weight scale")


def c4_whole_convs(view: GraphView, options: LintOptions) -> Iterator[Finding]:
    """A convolution is integer on all sides (input, weights, bias, result) or float on all."""
    for conv in view.of_type("Conv"):
        sides = {
            "input": dequantized(view, conv, 0),
            "weights": dequantized(view, conv, 1),
            "bias": dequantized(view, conv, 2) if is_value(conv, 2) else dequantized(view, conv, 1),
            "result": _quantized_result(view, conv),
        }
        # A float convolution may stand between integer ones, which quantise what it reads and makes.
        if sides["weights"] and not all(sides.values()):
            bare = ", ".join(side for side, there in sides.items() if not there)
            yield Finding(rule="C4", node=conv.name, found=f"no pair on its {bare}", expected="pairs on all sides")
        elif not sides["weights"] and is_value(conv, 2) and sides["bias"]:
            yield Finding(rule="C4", node=conv.name, found="float weights, integer bias", expected="both or none")


def _quantized_result(view: GraphView, conv: NodeProto) -> bool:
    readers = view.readers(view.after_activation(conv))
    return bool(readers) and all(reader.op_type == "QuantizeLinear" for reader in readers)


def c5_head(view: GraphView, options: LintOptions) -> Iterator[Finding]:
    """The head is float."""
    yield from head_faults(view, "C5")


def c6_outputs(view: GraphView, options: LintOptions) -> Iterator[Finding]:
    """Graph inputs and outputs are float32, and no output lies behind a pair."""
    for name in (*view.inputs, *view.outputs):
        if (kind := view.dtype(name)) != TensorProto.FLOAT:
            found = TensorProto.DataType.Name(kind).lower()
            yield Finding(rule="C6", node=name, found=found, expected="float32 at the graph's border")
        maker = view.producer.get(name)
        if name in view.outputs and maker is not None and maker.op_type == "DequantizeLinear":
            yield Finding(rule="C6", node=name, found="an output behind a pair", expected="a float output")


def c8_coverage(view: GraphView, options: LintOptions) -> Iterator[Finding]:
    """Enough of the convolutions' work is integer."""
    yield from coverage_faults(view, options, "C8")


def c9_activations(view: GraphView, options: LintOptions) -> Iterator[Finding]:
    """A Relu's result has zero point 0, so that the Relu vanishes; no pair between a convolution and its Relu."""
    for node in view.of_type("QuantizeLinear"):
        maker, zero = maker_of(view, node, 0), zero_point_of(view, node)
        if maker is not None and maker.op_type == "Relu" and zero is not None and zero.any():
            found = f"zero point {_first(zero)} behind {maker.name}"
            yield Finding(rule="C9", node=node.name, found=found, expected="0: the tensor is never negative")
        for reader in (r for dq in view.readers(node.output[0]) for r in view.readers(dq.output[0])):
            if maker is not None and maker.op_type == "Conv" and reader.op_type == "Relu":
                found = f"a pair between {maker.name} and {reader.name}"
                if len(view.readers(reader.input[0])) == 1:
                    yield Finding(rule="C9", node=node.name, found=found, expected="the pair behind the activation")


RULES: tuple[Rule, ...] = (
    c1_no_float_copy,
    c2_types,
    c3_scales,
    c4_whole_convs,
    c5_head,
    c6_outputs,
    c8_coverage,
    c9_activations,
)
