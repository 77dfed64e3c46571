"""A view of an ONNX graph for the lowerings: who makes and reads a tensor, shapes, MACs, and the patterns that matter.

The view owns its ``onnx.ModelProto``. It answers questions about the graph as it was loaded; a lowering first decides
with its help and edits afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import cached_property
from typing import Any

import msgspec
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, numpy_helper

from ..errors import ExportError
from .lower_nodes import attribute, is_value, name_nodes, sort_nodes, store_constants, without_data

OPSET = 19
IR_VERSION = 10
# They only pick or move values, so that one scale holds on both sides.
PASSING = frozenset(
    {"MaxPool", "Concat", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Identity"}
)
SHAPING = frozenset({"Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice"})
ACTIVATIONS = frozenset({"Relu", "Clip"})
QDQ = frozenset({"QuantizeLinear", "DequantizeLinear"})
_TRANSPARENT = QDQ | {"Cast"}
_NONNEGATIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Exp", "Softplus"})
_KEEPS_SIGN = (PASSING - {"Concat"}) | {"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax"}
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """A node with weights: its name, operator, multiply-accumulates at batch 1, and whether it belongs to the head."""

    name: str
    op: str
    macs: int
    head: bool = False


class GraphView:
    """An ONNX model, indexed.

    Attributes:
        model: the ``onnx.ModelProto``; Constant nodes became initialisers and every node has a name of its own.
        nodes: in topological order.
        producer: tensor -> the node that makes it.
        consumers: tensor -> nodes that read it, with the positions of the inputs.
        initializers: name -> ``TensorProto``.
        inputs, outputs: names of the graph's own inputs (without initialisers) and outputs.

    Raises:
        ExportError: a cycle, an input that nothing makes, weights in another file.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        graph = model.graph
        store_constants(graph)
        name_nodes(graph)
        self.initializers: dict[str, TensorProto] = {t.name: t for t in graph.initializer}
        if any(t.data_location == TensorProto.EXTERNAL for t in graph.initializer):
            raise ExportError("the graph keeps weights in another file; expected all of them inside")
        self.inputs = tuple(v.name for v in graph.input if v.name not in self.initializers)
        self.outputs = tuple(v.name for v in graph.output)
        self.nodes = sort_nodes(graph.node, {*self.inputs, *self.initializers})
        self.producer: dict[str, NodeProto] = {name: node for node in self.nodes for name in node.output if name}
        self.consumers: dict[str, list[tuple[NodeProto, int]]] = {}
        for node in self.nodes:
            for position, name in enumerate(node.input):
                if name:
                    self.consumers.setdefault(name, []).append((node, position))
        self.by_name: dict[str, NodeProto] = {node.name: node for node in self.nodes}
        self.place: dict[str, int] = {node.name: number for number, node in enumerate(self.nodes)}

    @classmethod
    def load(cls, graph: bytes) -> GraphView:
        """The view of ONNX bytes.

        Raises:
            ExportError: not an ONNX model.
        """
        try:
            model = onnx.load_from_string(graph)
        except Exception as error:  # protobuf's errors have no common public base
            raise ExportError(f"not an ONNX model: {str(error).splitlines()[0]}") from None
        if not model.graph.node:
            raise ExportError("the ONNX graph holds no nodes; expected a network")
        return cls(model)

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        return next((o.version for o in self.model.opset_import if o.domain in ("", "ai.onnx")), 0)

    def value(self, name: str) -> NDArray[Any]:
        """The array of an initialiser."""
        return numpy_helper.to_array(self.initializers[name])

    def readers(self, tensor: str) -> list[NodeProto]:
        """Nodes that read a tensor, each once."""
        return list({node.name: node for node, _ in self.consumers.get(tensor, [])}.values())

    # -- shapes and work -------------------------------------------------------------------------------------------

    @cached_property
    def _types(self) -> dict[str, onnx.TypeProto.Tensor]:
        """Types by shape inference, done on a copy without the weights' data, which it does not need."""
        graph = onnx.shape_inference.infer_shapes(without_data(self.model)).graph
        values = [*graph.input, *graph.value_info, *graph.output]
        return {v.name: v.type.tensor_type for v in values if v.type.HasField("tensor_type")}

    def shape(self, tensor: str) -> tuple[int | None, ...] | None:
        """Sizes of a tensor, none for a free one; none at all where inference does not know."""
        if tensor in self.initializers:
            return tuple(self.initializers[tensor].dims)
        found = self._types.get(tensor)
        if found is None or not found.HasField("shape"):
            return None
        return tuple(d.dim_value if d.HasField("dim_value") else None for d in found.shape.dim)

    def dtype(self, tensor: str) -> int:
        """Element type of a tensor (``onnx.TensorProto`` number); 0 where inference does not know."""
        if tensor in self.initializers:
            return self.initializers[tensor].data_type
        return self._types[tensor].elem_type if tensor in self._types else 0

    def weight_shape(self, node: NodeProto) -> tuple[int, ...] | None:
        """Sizes of a node's weights, seen through Q/DQ and Cast; none where they are not constant."""
        name = self.origin(node.input[1]) if is_value(node, 1) else ""
        return tuple(self.initializers[name].dims) if name in self.initializers else None

    def origin(self, tensor: str) -> str:
        """The tensor behind Q/DQ pairs and Casts."""
        while (node := self.producer.get(tensor)) is not None and node.op_type in _TRANSPARENT:
            tensor = node.input[0]
        return tensor

    def macs(self, node: NodeProto) -> int:
        """Multiply-accumulates at batch 1 of a Conv, ConvTranspose, Gemm or MatMul; free sizes count as 1."""
        weights = self.weight_shape(node)
        if node.op_type not in _WEIGHTED or weights is None:
            return 0
        if node.op_type == "Gemm":
            return math.prod(weights)
        tensor = node.input[0] if node.op_type == "ConvTranspose" else node.output[0]
        shape = self.shape(tensor) or ()
        if node.op_type == "MatMul":
            return math.prod(d or 1 for d in shape[1:-1]) * math.prod(weights)
        # One product per weight and position of the output (of the input, for a transposed convolution).
        return math.prod(d or 1 for d in shape[2:]) * math.prod(weights)

    def layers(self) -> list[Layer]:
        """All nodes with constant weights, in order."""
        return [
            Layer(name=node.name, op=node.op_type, macs=self.macs(node), head=node.name in self.head)
            for node in self.nodes
            if node.op_type in _WEIGHTED and self.weight_shape(node) is not None
        ]

    # -- patterns --------------------------------------------------------------------------------------------------

    def of_type(self, *ops: str) -> list[NodeProto]:
        """Nodes of these operators, in order."""
        return [node for node in self.nodes if node.op_type in ops]

    def after_activation(self, node: NodeProto) -> str:
        """The tensor after a node and the Relu (or Clip from 0) that alone reads it; else the node's own output."""
        output = node.output[0]
        found = self.consumers.get(output, [])
        if output in self.outputs or len(found) != 1 or found[0][1] != 0:
            return output
        reader = found[0][0]
        from_zero = reader.op_type == "Clip" and is_value(reader, 1) and reader.input[1] in self.initializers
        if reader.op_type == "Relu" or (from_zero and float(self.value(reader.input[1]).min()) == 0):
            return reader.output[0]
        return output

    @cached_property
    def nonnegative(self) -> frozenset[str]:
        """Tensors that cannot be negative, whatever the picture: by their operators, not by what was seen."""
        known: set[str] = set()
        for node in self.nodes:
            if self._cannot_be_negative(node, known):
                known.update(node.output)
        return frozenset(known)

    def _cannot_be_negative(self, node: NodeProto, known: set[str]) -> bool:
        def fine(name: str) -> bool:
            return bool((self.value(name) >= 0).all()) if name in self.initializers else name in known

        if node.op_type in _NONNEGATIVE:
            return True
        if node.op_type == "Clip":
            return (
                is_value(node, 1) and node.input[1] in self.initializers and bool(self.value(node.input[1]).min() >= 0)
            )
        if node.op_type in ("Add", "Mul", "Max", "Concat", "Sum"):
            return all(fine(name) for name in node.input)
        return node.op_type in _KEEPS_SIGN and fine(node.input[0])

    @cached_property
    def head(self) -> frozenset[str]:
        """Names of the nodes from global pooling on, where the score is made; they stay float.

        A pooling that further convolutions over pictures follow (squeeze and excitation) is not the head. Without any
        global pooling the head begins at the last Gemm or MatMul.
        """
        before: set[str] = set()
        for node in reversed(self.nodes):
            follows = {reader.name for output in node.output for reader in self.readers(output)}
            if self._works_on_pictures(node) or follows & before:
                before.add(node.name)
        starts = [node for node in self.nodes if self.pools_globally(node) and node.name not in before]
        if not starts:
            matrix = [n for n in self.of_type("Gemm", "MatMul") if n.name not in before]
            later = {n.name: self._descendants([n]) for n in matrix}
            starts = [n for n in matrix if not any(o.name in later[n.name] for o in matrix if o is not n)]
        return frozenset(self._descendants(starts))

    def _works_on_pictures(self, node: NodeProto) -> bool:
        if node.op_type not in ("Conv", "ConvTranspose"):
            return False
        shape = self.shape(node.output[0])
        return shape is None or any(d != 1 for d in shape[2:])

    def pools_globally(self, node: NodeProto) -> bool:
        """Whether a node pools each channel of a picture to one number."""
        if node.op_type in ("GlobalAveragePool", "GlobalMaxPool"):
            return True
        if node.op_type in ("ReduceMean", "ReduceMax"):
            axes = attribute(node, "axes")
            if axes is None and is_value(node, 1) and node.input[1] in self.initializers:
                axes = self.value(node.input[1]).tolist()
            shape = self.shape(node.input[0])
            rank = 4 if shape is None else len(shape)
            return axes is not None and {a % rank for a in axes} >= set(range(2, rank)) and rank > 2
        if node.op_type in ("AveragePool", "MaxPool"):
            before, after = self.shape(node.input[0]), self.shape(node.output[0])
            return before is not None and after is not None and set(after[2:]) == {1} != set(before[2:])
        return False

    def _descendants(self, starts: Collection[NodeProto]) -> set[str]:
        found = {node.name for node in starts}
        for node in self.nodes:
            parents = (self.producer.get(name) for name in node.input)
            if any(parent is not None and parent.name in found for parent in parents):
                found.add(node.name)
        return found

    def shortcut(self, add: NodeProto) -> int | None:
        """Which input of a residual Add (0 or 1) is the shortcut; none when it is no residual Add.

        It is the one with the shorter path to the lowest common ancestor of both; with equal paths the second. Q/DQ and
        Cast nodes count nothing.
        """
        if add.op_type != "Add" or any(name in self.initializers for name in add.input):
            return None
        left, right = (self._distances(name) for name in add.input)
        common = left.keys() & right.keys()
        if not common:
            return None
        lowest = max(common, key=lambda name: (self._depth(name), name))
        if left[lowest] == right[lowest] == 0:
            return None  # x + x
        return 0 if left[lowest] < right[lowest] else 1

    def _depth(self, tensor: str) -> int:
        node = self.producer.get(tensor)
        return -1 if node is None else self.place[node.name]

    def _distances(self, tensor: str) -> dict[str, int]:
        """Ancestors of a tensor (itself at 0) with the number of nodes on the longest path to them."""
        start = self.origin(tensor)
        found = {start: 0}
        pending = {start}
        while pending:
            # The deepest first: all paths to it are known then.
            name = max(pending, key=self._depth)
            pending.remove(name)
            node = self.producer.get(name)
            for above in node.input if node is not None else ():
                above = self.origin(above)
                if above and above not in self.initializers:
                    found[above] = max(found.get(above, 0), found[name] + 1)
                    pending.add(above)
        return found

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Tensors that share one scale: both sides of a max-pool or a change of shape, and all that a Concat joins.

        Returns:
            tensor -> all members of its group, itself among them; tensors alone are left out.
        """
        parent: dict[str, str] = {}

        def root(name: str) -> str:
            while parent.setdefault(name, name) != name:
                name = parent[name]
            return name

        for node in self.nodes:
            if node.op_type in PASSING and node.name not in self.head:
                joined = node.input if node.op_type == "Concat" else node.input[:1]
                for name in joined:
                    if name and name not in self.initializers:
                        parent[root(name)] = root(node.output[0])
        members: dict[str, list[str]] = {}
        for name in parent:
            members.setdefault(root(name), []).append(name)
        return {name: tuple(sorted(members[root(name)])) for name in parent}


def layers(graph: bytes) -> list[Layer]:
    """Layers with weights of a float graph, in order: what may be excluded by name from a lowering."""
    return GraphView.load(graph).layers()
