"""The Q/DQ linter: rules that a lowered graph must keep, checked with onnx and numpy alone.

A graph that breaks one is refused by a builder, or worse: it builds and is slow or wrong. The rules for TensorRT are R1
to R15 (``lint_trt.py``); the form for CPUs has rules of its own, C1 to C9 (``lint_cpu.py``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import Literal, get_args

import msgspec
import numpy as np
import onnx
from onnx import NodeProto, TensorProto

from memedge.errors import UsageError

from .graph import IR_VERSION, QDQ, GraphView
from .lower_nodes import attribute, is_value

Kind = Literal["cpu", "trt-int8", "trt-fp16"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LEAST_SHARE = 0.8
FLOATS: dict[int, str] = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16"}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A broken rule: its number, the node (or tensor) where, what is there and what should be."""

    rule: str
    node: str
    found: str
    expected: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.rule} {self.node}: found {self.found}; expected {self.expected}"


def lint(model: bytes, kind: Kind, *, least_share: float = LEAST_SHARE, allowed: Collection[str] = ()) -> list[Finding]:
    """Rules that a lowered graph breaks, in the order of the rules; none for a clean one.

    Args:
        model: ONNX bytes.
        kind: the lowering it is meant to be.
        least_share: least share of convolution MACs in int8; 0 where a person allowed less.
        allowed: names of Q/DQ nodes that may stand beside a change of shape (R12).

    Raises:
        UsageError: an unknown kind.
        ExportError: not an ONNX model at all.
    """
    from . import lint_cpu, lint_trt

    if kind not in KINDS:
        raise UsageError(f"lowering '{kind}'; expected one of {', '.join(KINDS)}")
    view = GraphView.load(model)
    options = LintOptions(least_share=least_share, allowed=frozenset(allowed))
    # Most rules need types and shapes, and a broken graph has none. The scales' types are what breaks it most often:
    # they are looked at all the same, because that finding says more than the checker does.
    if refused := list(well_formed(view, model, "C7" if kind == "cpu" else "R14")):
        with contextlib.suppress(onnx.shape_inference.InferenceError):
            refused += lint_trt.r3_scales(view, options) if kind == "trt-int8" else ()
        return refused
    rules = lint_cpu.RULES if kind == "cpu" else lint_trt.INT8_RULES if kind == "trt-int8" else lint_trt.FP16_RULES
    return [finding for check in rules for finding in check(view, options)]


class LintOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller of ``lint`` allows."""

    least_share: float = LEAST_SHARE
    allowed: frozenset[str] = frozenset()


def coverage(view: GraphView) -> float:
    """Share of convolution MACs whose activation and weights are both dequantised int8, 0..1."""
    convs = view.of_type("Conv", "ConvTranspose")
    total = sum(view.macs(conv) for conv in convs)
    return (
        sum(view.macs(conv) for conv in convs if all(dequantized(view, conv, i) for i in (0, 1))) / total
        if total
        else 0
    )


def dequantized(view: GraphView, node: NodeProto, position: int) -> bool:
    """Whether an input of a node comes from DequantizeLinear."""
    return (maker := maker_of(view, node, position)) is not None and maker.op_type == "DequantizeLinear"


def maker_of(view: GraphView, node: NodeProto, position: int) -> NodeProto | None:
    """The node behind an input."""
    return view.producer.get(node.input[position]) if is_value(node, position) else None


def pairs(view: GraphView) -> Iterator[NodeProto]:
    """Q and DQ nodes, in order."""
    return iter(view.of_type(*QDQ))


def is_weight(view: GraphView, node: NodeProto) -> bool:
    """Whether a Q or DQ node works on a constant."""
    return view.origin(node.input[0]) in view.initializers


def scale_of(view: GraphView, node: NodeProto) -> np.ndarray | None:
    """The constant scale of a Q or DQ node, none when it is not constant."""
    return view.value(node.input[1]) if is_value(node, 1) and node.input[1] in view.initializers else None


def zero_point_of(view: GraphView, node: NodeProto) -> np.ndarray | None:
    """The constant zero point of a Q or DQ node; none when it is left out or not constant."""
    return view.value(node.input[2]) if is_value(node, 2) and node.input[2] in view.initializers else None


def scale_faults(view: GraphView, node: NodeProto, rule: str) -> Iterator[Finding]:
    """A scale that is not constant, not finite or not above zero."""
    scale = scale_of(view, node)
    wanted = "a constant scale, finite and above 0"
    if scale is None:
        yield Finding(rule=rule, node=node.name, found="a scale that is computed", expected=wanted)
    elif not (np.isfinite(scale).all() and (scale > 0).all()):
        worst = scale.reshape(-1)[np.argmin(np.where(np.isfinite(scale), scale, -np.inf))]
        yield Finding(rule=rule, node=node.name, found=f"scale {float(worst):g}", expected=wanted)


def weight_scale_faults(view: GraphView, node: NodeProto, rule: str) -> Iterator[Finding]:
    """A weight whose scales do not lie along its output channels (axis 0 of a Conv, 1 of a ConvTranspose)."""
    scale, shape = scale_of(view, node), view.initializers[view.origin(node.input[0])].dims
    if scale is None:
        return
    for reader in view.readers(node.output[0]):
        if (
            reader.op_type not in ("Conv", "ConvTranspose")
            or not is_value(reader, 1)
            or reader.input[1] != node.output[0]
        ):
            continue
        right = 1 if reader.op_type == "ConvTranspose" else 0
        axis = attribute(node, "axis", 1) % len(shape)
        if scale.ndim != 1 or axis != right or scale.shape[0] != shape[right]:
            found = f"scale of shape {list(scale.shape)} along axis {axis}"
            yield Finding(rule=rule, node=node.name, found=found, expected=f"[{shape[right]}] along axis {right}")


def head_faults(view: GraphView, rule: str) -> Iterator[Finding]:
    """Q/DQ inside the head."""
    for node in pairs(view):
        if node.name in view.head:
            yield Finding(rule=rule, node=node.name, found=f"{node.op_type} in the head", expected="a float head")


def well_formed(view: GraphView, data: bytes, rule: str) -> Iterator[Finding]:
    """What ONNX's checker says; order, domains, opset and IR version."""
    model = onnx.load_from_string(data)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        said = " ".join(str(error).split())[:200]
        yield Finding(rule=rule, node="graph", found=said, expected="a graph that ONNX's full checker accepts")
    for node in view.nodes:
        if node.domain not in ("", "ai.onnx"):
            yield Finding(rule=rule, node=node.name, found=f"domain {node.domain}", expected="ONNX's own operators")
    if view.opset < 19:
        yield Finding(rule=rule, node="graph", found=f"opset {view.opset}", expected="opset 19 or later")
    if model.ir_version > IR_VERSION:
        yield Finding(rule=rule, node="graph", found=f"IR version {model.ir_version}", expected=f"at most {IR_VERSION}")


def coverage_faults(view: GraphView, options: LintOptions, rule: str) -> Iterator[Finding]:
    """Too small a share of int8 convolutions."""
    found = coverage(view)
    if found < options.least_share:
        wanted = f"at least {options.least_share:.0%}"
        yield Finding(rule=rule, node="graph", found=f"{found:.1%} of convolution MACs in int8", expected=wanted)
