"""The linter's rules for TensorRT graphs: R1 to R15."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from onnx import NodeProto, TensorProto

from .graph import ACTIVATIONS, SHAPING, GraphView
from .insert import SMALLEST_HALF_SCALE
from .lint import (
    FLOATS,
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


def r1_zero_points(view: GraphView, options: LintOptions) -> Iterator[Finding]:
    """Every Q and DQ has an int8 zero point, all zeros."""
    wanted = "an int8 zero point, all 0"
    for node in pairs(view):
        zero = zero_point_of(view, node)
        if zero is None:
            yield Finding(rule="R1", node=node.name, found="no constant zero point", expected=wanted)
        elif zero.dtype != np.int8 or zero.any():
            found = f"{zero.dtype} zero point {int(np.abs(zero.astype(np.int64)).max())}"
            yield Finding(rule="R1", node=node.name, found=found, expected=wanted)


def r2_types(view: GraphView, options: LintOptions) -> Iterator[Finding]:
    """No quantised type but int8: uint8 would be read as int8 with a warning, and clip at half its range."""
    for node in pairs(view):
        kind = view.dtype(node.output[0] if node.op_type == "QuantizeLinear" else node.input[0])
        if kind != TensorProto.INT8:
            yield Finding(rule="R2", node=node.name, found=TensorProto.DataType.Name(kind).lower(), expected="int8")


def r3_scales(view: GraphView, options: LintOptions) -> Iterator[Finding]:
    """Scales are constant, finite and above 0, the same in Q and DQ, and of the float type of what stands around."""
    for node in pairs(view):
        yield from scale_faults(view, node, "R3")
        kind = view.dtype(node.input[1])
        if node.op_type == "QuantizeLinear":
            if (around := view.dtype(node.input[0])) != kind:
                yield _type_finding(node, kind, around)
            continue
        for reader in view.readers(node.output[0]):
            others = {view.dtype(name) for name in reader.input if name and name != node.output[0]} & FLOATS.keys()
            for around in sorted(others - {kind}):
                yield _type_finding(node, kind, around)
        before = maker_of(view, node, 0)
        if before is not None and before.op_type == "QuantizeLinear":
            first, second = scale_of(view, before), scale_of(view, node)
            if first is not None and second is not None and not np.array_equal(first, second):
                found = f"scale {first.reshape(-1)[0]:g} in Q, {second.reshape(-1)[0]:g} in DQ"
                yield Finding(rule="R3", node=node.name, found=found, expected="one scale for both")


def _type_finding(node: NodeProto, kind: int, around: int) -> Finding:
    found, wanted = (FLOATS.get(k, str(k)) for k in (kind, around))
    return Finding(rule="R3", node=node.name, found=f"{found} scale", expected=f"{wanted}, the type around it")


def r4_activation_scales(view: GraphView, options: LintOptions) -> Iterator[Finding]:
    """Activations have one scale, not one for each channel."""
    for node in pairs(view):
        scale = scale_of(view, node)
        if scale is not None and scale.ndim and not is_weight(view, node):
            found = f"activation scale of shape {list(scale.shape)}"
            yield Finding(rule="R4", node=node.name, found=found, expected="one scale for the tensor")


def r5_weight_scales(view: GraphView, options: LintOptions) -> Iterator[Finding]:
    """Weights have one scale for each output channel."""
    for node in pairs(view):
        if node.op_type == "DequantizeLinear" and is_weight(view, node):
            yield from weight_scale_faults(view, node, "R5")


def r6_float_bias(view: GraphView, options: LintOptions) -> Iterator[Finding]:
    """Biases are plain floats."""
    for node in view.of_type("Conv", "ConvTranspose", "Gemm"):
        if is_value(node, 2) and node.input[2] not in view.initializers:
            found = "a bias behind DequantizeLinear" if dequantized(view, node, 2) else "a bias that is computed"
            yield Finding(rule="R6", node=node.name, found=found, expected="a float constant")


def r7_activations(view: GraphView, options: LintOptions) -> Iterator[Finding]:
    """No pair between a convolution and its activation."""
    for node in view.of_type("QuantizeLinear"):
        maker = maker_of(view, node, 0)
        if maker is None or maker.op_type not in ("Conv", "ConvTranspose", "Gemm"):
            continue
        after = [reader for dq in view.readers(node.output[0]) for reader in view.readers(dq.output[0])]
        for reader in after:
            if reader.op_type in ACTIVATIONS:
                found = f"a pair between {maker.name} and {reader.name}"
                yield Finding(rule="R7", node=node.name, found=found, expected="the pair behind the activation")


def r8_residual(view: GraphView, options: LintOptions) -> Iterator[Finding]:
    """At most one input of a residual Add is quantised, and it is the shortcut."""
    for add in view.of_type("Add"):
        found = [i for i in (0, 1) if dequantized(view, add, i)]
        if not found or any(name in view.initializers for name in add.input):
            continue
        shortcut = view.shortcut(add)
        if len(found) == 2:
            yield Finding(rule="R8", node=add.name, found="pairs on both inputs", expected="one, on the shortcut")
        elif shortcut is not None and found[0] != shortcut:
            wanted = f"a pair on the shortcut, input {shortcut}"
            yield Finding(rule="R8", node=add.name, found=f"a pair on input {found[0]}", expected=wanted)


def r9_concat(view: GraphView, options: LintOptions) -> Iterator[Finding]:
    """All pairs around one Concat, on what it reads and on its result, have one scale."""
    for concat in view.of_type("Concat"):
        tensors = {view.origin(name) for name in concat.input} | {concat.output[0]}
        around = [n for n in view.of_type("QuantizeLinear") if view.origin(n.input[0]) in tensors]
        scales = {float(s.reshape(-1)[0]) for n in around if (s := scale_of(view, n)) is not None and s.size}
        if len(scales) > 1:
            found = f"scales {', '.join(f'{s:g}' for s in sorted(scales))}"
            yield Finding(rule="R9", node=concat.name, found=found, expected="one scale")


def r10_head(view: GraphView, options: LintOptions) -> Iterator[Finding]:
    """The head, what it reads and the graph's outputs are not quantised."""
    yield from head_faults(view, "R10")
    for node in view.of_type("DequantizeLinear"):
        if is_weight(view, node):
            continue
        for reader in view.readers(node.output[0]):
            if reader.name in view.head and node.name not in view.head:
                found = f"a pair before {reader.name}, where the head begins"
                yield Finding(rule="R10", node=node.name, found=found, expected="a float head")
        if node.output[0] in view.outputs:
            yield Finding(rule="R10", node=node.name, found="a graph output behind a pair", expected="a float output")
    for node in view.of_type("QuantizeLinear"):
        if node.output[0] in view.outputs:
            yield Finding(rule="R10", node=node.name, found="a quantised graph output", expected="a float output")
    for name in view.outputs:
        if view.dtype(name) == TensorProto.FLOAT16:
            yield Finding(rule="R10", node=name, found="a float16 graph output", expected="float32")


def r11_whole_pairs(view: GraphView, options: LintOptions) -> Iterator[Finding]:
    """A convolution has a pair on its activation and on its weights, or on neither."""
    for node in view.of_type("Conv", "ConvTranspose"):
        activation, weight = dequantized(view, node, 0), dequantized(view, node, 1)
        if activation != weight:
            found = "a pair on its activation only" if activation else "a pair on its weights only"
            yield Finding(rule="R11", node=node.name, found=found, expected="on both or none")


def r12_shapes(view: GraphView, options: LintOptions) -> Iterator[Finding]:
    """No pair beside a change of shape: a builder on Orin fails there."""
    for node in pairs(view):
        if is_weight(view, node) or node.name in options.allowed:
            continue
        maker = maker_of(view, node, 0)
        beside = [maker] if maker is not None and node.op_type == "QuantizeLinear" else []
        beside += view.readers(node.output[0]) if node.op_type == "DequantizeLinear" else []
        for other in beside:
            if other.op_type in SHAPING:
                found = f"{node.op_type} beside {other.op_type} {other.name}"
                yield Finding(rule="R12", node=node.name, found=found, expected="no pair beside a change of shape")


def r13_small_scales(view: GraphView, options: LintOptions) -> Iterator[Finding]:
    """No half-precision scale below 2^-14."""
    for node in pairs(view):
        scale = scale_of(view, node)
        if scale is not None and scale.dtype == np.float16 and scale.size and float(scale.min()) < SMALLEST_HALF_SCALE:
            found = f"float16 scale {float(scale.min()):.3g}"
            yield Finding(
                rule="R13", node=node.name, found=found, expected=f"at least {SMALLEST_HALF_SCALE:.3g} (2^-14)"
            )


def r15_coverage(view: GraphView, options: LintOptions) -> Iterator[Finding]:
    """Enough of the convolutions' work is int8."""
    yield from coverage_faults(view, options, "R15")


def no_pairs(view: GraphView, options: LintOptions) -> Iterator[Finding]:
    """A half-precision graph holds no Q/DQ at all (told as R2)."""
    for node in pairs(view):
        yield Finding(rule="R2", node=node.name, found=node.op_type, expected="no Q/DQ in a float16 graph")


def half_head(view: GraphView, options: LintOptions) -> Iterator[Finding]:
    """The head computes in float32 (told as R10)."""
    for node in view.nodes:
        if node.name in view.head and any(view.dtype(name) == TensorProto.FLOAT16 for name in node.output):
            yield Finding(rule="R10", node=node.name, found="float16 in the head", expected="float32")


# R14, the form of the graph, is checked before all others.
INT8_RULES: tuple[Rule, ...] = (
    r1_zero_points,
    r2_types,
    r3_scales,
    r4_activation_scales,
    r5_weight_scales,
    r6_float_bias,
    r7_activations,
    r8_residual,
    r9_concat,
    r10_head,
    half_head,
    r11_whole_pairs,
    r12_shapes,
    r13_small_scales,
    r15_coverage,
)
FP16_RULES: tuple[Rule, ...] = (no_pairs, r10_head, half_head)
