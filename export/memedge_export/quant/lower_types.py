"""What a lowering returns, and the choice of convolutions that all lowerings share."""

from __future__ import annotations

import math
from collections.abc import Collection

import msgspec
import numpy as np
from onnx import NodeProto

from memedge_engines.manifest import InputStorage

from ..errors import ExportError
from .graph import OPSET, GraphView
from .insert import Ranges
from .lower_nodes import is_value

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class Lowered(msgspec.Struct, frozen=True, kw_only=True):
    """A lowering of a float graph.

    Attributes:
        model: ONNX bytes.
        quantized: names of the layers that run in the lowering's narrow type, in order: int8 convolutions, or for
            ``trt-fp16`` the layers in half precision.
        floated: every other layer with weights -> why it stays float.
        mac_share: share of all convolution MACs in ``quantized``, 0..1; 0 where the graph has no convolution.
        inputs: how the graph takes each of its inputs.
    """

    model: bytes
    quantized: tuple[str, ...]
    floated: dict[str, str]
    mac_share: float
    inputs: dict[str, InputStorage]


def open_float_graph(graph: bytes, excluded: Collection[str]) -> GraphView:
    """The view of a float graph, checked to be one that can be lowered with these layers left out.

    Raises:
        ExportError: another opset than 19, quantised already, or an excluded name that is not there.
    """
    view = GraphView.load(graph)
    if view.opset != OPSET:
        raise ExportError(f"the float graph has opset {view.opset}; expected {OPSET}", fix="export it again")
    if found := next((n.op_type for n in view.nodes if "Quantize" in n.op_type or "Dequantize" in n.op_type), None):
        raise ExportError(f"the graph holds {found}: it is quantised already; expected the float graph")
    if unknown := sorted(set(excluded) - view.by_name.keys()):
        raise ExportError(
            f"the graph has no node '{unknown[0]}' to exclude; expected names such as "
            f"'{next((layer.name for layer in view.layers()), view.nodes[0].name)}'"
        )
    return view


def choose(
    view: GraphView, ranges: Ranges, excluded: Collection[str], *, outputs: bool, thin: bool
) -> tuple[list[NodeProto], dict[str, str]]:
    """The convolutions to quantise, in order, and why every other layer with weights stays float.

    Args:
        outputs: the tensor behind a convolution (and its activation) is quantised too, so that it needs a range.
        thin: whether a dense convolution that reads a single channel, or up to three with a kernel of 1x1, is worth it.
    """
    chosen: list[NodeProto] = []
    floated: dict[str, str] = {}
    for node in view.of_type(*_WEIGHTED):
        reason = _reason(view, ranges, node, outputs) if node.name not in excluded else "excluded"
        if reason is None and not thin and _is_thin(view, node):
            reason = "it reads too few channels: the integer kernel is slower than the float one"
        if reason is None:
            chosen.append(node)
        else:
            floated[node.name] = reason
    return chosen, floated


def _reason(view: GraphView, ranges: Ranges, node: NodeProto, outputs: bool) -> str | None:
    if node.name in view.head:
        return "belongs to the head, which stays float"
    if node.op_type != "Conv":
        return f"{node.op_type} is not lowered; convolutions are"
    if node.input[1] not in view.initializers or (is_value(node, 2) and node.input[2] not in view.initializers):
        return "its weights or its bias are not constant"
    constants = [view.value(name) for name in node.input[1:] if name]
    if any(values.dtype != np.float32 for values in constants):
        return f"its weights are {constants[0].dtype}; expected float32"
    if not all(np.isfinite(values).all() for values in constants):
        return "its weights or its bias are not finite"
    if reason := ranges.why_not(node.input[0]):
        return reason
    if outputs:
        after = integer_result(view, ranges, node)
        if after in view.outputs or node.output[0] in view.outputs:
            return "its result is an output of the graph"
        return ranges.why_not(after)
    return None


def _is_thin(view: GraphView, node: NodeProto) -> bool:
    _, channels, *kernel = view.value(node.input[1]).shape
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    return groups == 1 and (channels == 1 or (channels <= 3 and math.prod(kernel) == 1))


def integer_result(view: GraphView, ranges: Ranges, node: NodeProto) -> str:
    """The tensor whose quantisation closes an integer kernel: behind the activation where that then does nothing.

    A Clip that ends below the scale's reach (shared with a wider tensor) still does something: it stays, in float.
    """
    after = view.after_activation(node)
    maker, found = view.producer[after], ranges.find(after)
    if maker.op_type == "Clip" and found is not None and is_value(maker, 2):
        highest = float(view.value(maker.input[2]).max()) if maker.input[2] in view.initializers else 0.0
        return after if found.magnitude <= highest else node.output[0]
    return after


def share(view: GraphView, names: Collection[str]) -> float:
    """Share of all convolution MACs that these layers have, 0..1."""
    work = {node.name: view.macs(node) for node in view.of_type("Conv", "ConvTranspose")}
    total = sum(work.values())
    return sum(macs for name, macs in work.items() if name in names) / total if total else 0.0
