"""The Q/DQ inserter: scales from ranges, weights to int8, pairs around tensors, and a tidy model at the end.

What goes where is the lowerings' decision (``lower_cpu.py``, ``lower_trt.py``); how it is written is here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from ..errors import ExportError
from .graph import IR_VERSION, GraphView
from .lower_nodes import is_value, sort_nodes
from .ranges import RangeTable

# Half precision has no smaller normal number than this; below it a scale loses digits.
SMALLEST_HALF_SCALE = 2.0**-14
# Keeps int32 biases and the products that are added to them inside 32 bits.
_BIAS_LIMIT = 2.0**30


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """What a lowering needs of one tensor: its largest magnitude, and whether it can be negative at all."""

    magnitude: float
    signed: bool


class Ranges:
    """Ranges of a graph's tensors, one for each group of tensors that share a scale.

    A tensor counts as never negative because of the operator that makes it; that calibration saw no negative number is
    not enough, since the next picture may bring one.
    """

    def __init__(self, view: GraphView, table: RangeTable) -> None:
        self._view, self._table = view, table
        self._groups = view.groups()

    def members(self, tensor: str) -> tuple[str, ...]:
        """All tensors that share this one's scale, itself among them."""
        return self._groups.get(tensor, (tensor,))

    def find(self, tensor: str) -> Range | None:
        """The range of a tensor's group; none when nothing is known or all of it was zero."""
        members = self.members(tensor)
        known = [self._table.absmax(name) for name in members if name in self._table.tensors]
        magnitude = max(known, default=0.0)
        if not (math.isfinite(magnitude) and magnitude > 0):
            return None
        return Range(magnitude=magnitude, signed=not all(name in self._view.nonnegative for name in members))

    def why_not(self, tensor: str) -> str | None:
        """Why a tensor cannot be quantised, or none."""
        if self.find(tensor) is not None:
            return None
        known = any(name in self._table.tensors for name in self.members(tensor))
        return f"tensor '{tensor}' was zero on every frame" if known else f"the range table knows no tensor '{tensor}'"


def channel_scales(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Symmetric scales along axis 0: largest magnitude / 127, float32 ``[O]``; 0 for a channel of zeros."""
    return (np.abs(weights.reshape(len(weights), -1)).max(1) / np.float32(127)).astype(np.float32)


def bias_room(scales: NDArray[np.float32], bias: NDArray[np.float32], input_scale: float) -> NDArray[np.float32]:
    """Weight scales enlarged where bias / (input_scale * scale) would leave int32; channels of zeros get one that keeps
    24 bits of their bias. All float32 ``[O]``."""
    least = np.abs(bias.astype(np.float64)) / (input_scale * _BIAS_LIMIT)
    wanted = np.where(scales > 0, np.maximum(scales, least), least * 2.0**6)
    # The product of both scales must stay a normal float32.
    return np.where(wanted > 0, np.maximum(wanted, 1e-30), 1.0).astype(np.float32)


def half_scales(scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scales that half precision holds exactly: rounded up (so that nothing is cut off), at least 2^-14."""
    wanted = np.maximum(scales, np.float32(SMALLEST_HALF_SCALE)).astype(np.float32)
    halves = wanted.astype(np.float16)
    halves = np.where(halves.astype(np.float32) < wanted, np.nextafter(halves, np.float16(np.inf)), halves)
    return halves.astype(np.float32)


def quantize(weights: NDArray[np.float32], scales: NDArray[np.float32]) -> NDArray[np.int8]:
    """int8 weights -127..127 with one scale for each index of axis 0, rounded half to even."""
    steps = weights / scales.reshape(-1, *([1] * (weights.ndim - 1)))
    return np.clip(np.rint(steps, out=steps), -127, 127).astype(np.int8)


class Inserter:
    """Edits the model of a view: adds nodes and initialisers, changes inputs, and writes the result.

    The view's indices describe the graph before the edits.
    """

    def __init__(self, view: GraphView) -> None:
        self.view = view
        self.graph = view.model.graph
        self._pairs: dict[str, str] = {}
        self._added: list[NodeProto] = []
        self._taken = {*view.producer, *view.initializers, *view.inputs}

    def initializer(self, name: str, value: NDArray[Any] | np.generic) -> str:
        """Add an initialiser under a free name and return the name."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, inputs: Iterable[str], output: str, **attributes: Any) -> str:
        """Add a node named after its output and return the output's name, which is made free."""
        while output in self._taken:
            output += "_"
        self._taken.add(output)
        self._added.append(helper.make_node(op, list(inputs), [output], name=f"{output}:{op}", **attributes))
        return output

    def pair(self, tensor: str, scale: float, zero_point: np.uint8 | np.int8) -> str:
        """The dequantised twin of a tensor: QuantizeLinear and DequantizeLinear with one scale, made once.

        Nobody reads it yet; see ``redirect``.
        """
        if tensor not in self._pairs:
            factor = self.initializer(f"{tensor}:scale", np.float32(scale))
            zero = self.initializer(f"{tensor}:zero_point", zero_point)
            quantized = self.node("QuantizeLinear", [tensor, factor, zero], f"{tensor}:quantized")
            self._pairs[tensor] = self.node("DequantizeLinear", [quantized, factor, zero], f"{tensor}:dequantized")
        return self._pairs[tensor]

    def redirect(self, node: NodeProto, position: int) -> None:
        """Let one input of a node read the dequantised twin."""
        node.input[position] = self._pairs[node.input[position]]

    def weights(self, conv: NodeProto, scales: NDArray[np.float32]) -> None:
        """Store a convolution's weights as int8 and DequantizeLinear along axis 0, without a float copy."""
        values = quantize(self.view.value(conv.input[1]), scales)
        stored = self.initializer(f"{conv.name}:weight", values)
        factor = self.initializer(f"{conv.name}:weight_scale", scales)
        zero = self.initializer(f"{conv.name}:weight_zero_point", np.zeros(len(scales), np.int8))
        conv.input[1] = self.node("DequantizeLinear", [stored, factor, zero], f"{conv.name}:weight_dequantized", axis=0)

    def int32_bias(self, conv: NodeProto, scales: NDArray[np.float32]) -> None:
        """Store a convolution's bias as int32 and DequantizeLinear; ``scales`` float32 ``[O]``, input times weights."""
        if not is_value(conv, 2):
            return
        steps = np.rint(self.view.value(conv.input[2]).astype(np.float64) / scales)
        stored = self.initializer(f"{conv.name}:bias", steps.astype(np.int32))
        factor = self.initializer(f"{conv.name}:bias_scale", scales)
        zero = self.initializer(f"{conv.name}:bias_zero_point", np.zeros(len(scales), np.int32))
        conv.input[2] = self.node("DequantizeLinear", [stored, factor, zero], f"{conv.name}:bias_dequantized", axis=0)

    def finish(self) -> onnx.ModelProto:
        """The edited model: nodes sorted, unused initialisers gone, IR version at most 10.

        Raises:
            ExportError: the edits made a graph that cannot be ordered.
        """
        model, graph = self.view.model, self.graph
        # A pair stands right behind the tensor's maker when the new nodes come first in the unsorted list.
        ordered = sort_nodes(
            [*self._added, *self.view.nodes], {*self.view.inputs, *(t.name for t in graph.initializer)}
        )
        del graph.node[:]
        graph.node.extend(ordered)
        drop_unused(graph)
        del graph.value_info[:]
        model.ir_version = min(model.ir_version, IR_VERSION)
        self._added = []
        return model


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove initialisers that no node reads, and graph inputs that only gave them a type."""
    used = {name for node in graph.node for name in node.input} | {v.name for v in graph.output}
    unused = {t.name for t in graph.initializer} - used
    for number in reversed(range(len(graph.initializer))):
        if graph.initializer[number].name in unused:
            del graph.initializer[number]
    for number in reversed(range(len(graph.input))):
        if graph.input[number].name in unused:
            del graph.input[number]


def encode(model: onnx.ModelProto) -> bytes:
    """The bytes of a model that ONNX's full checker accepts.

    Raises:
        ExportError: it does not.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"ONNX's checker refuses the lowered graph: {str(error).splitlines()[0]}") from None
    data: bytes = model.SerializeToString(deterministic=True)
    return data
