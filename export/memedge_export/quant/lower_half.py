"""Half precision as types in the graph: weights, Casts at borders, and what stays float32.

TensorRT 11 has no precision flags: a strongly typed network computes in the types that the ONNX file says. Each node is
given one float type; where a tensor passes from one type to the other a Cast is inserted, once for each tensor and
type. Graph inputs and outputs keep their float32.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ..errors import ExportError
from .graph import GraphView
from .insert import drop_unused
from .lower_nodes import attribute, has_subgraphs, sort_nodes
from .ranges import RangeTable

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
# Half of the largest half-precision number: the next picture may be twice as bright as the calibration's brightest.
LIMIT = 32768.0
_LARGEST = 65504.0
# They take any type and give another one: no reason to cast what they read.
_ANY_INPUT = frozenset({"Cast", "Shape", "Size", "IsNaN", "IsInf"})


def too_large(view: GraphView, table: RangeTable) -> dict[str, str]:
    """Nodes that half precision cannot hold -> why: a tensor they read or make passed 32,768, or a constant 65,504."""
    found: dict[str, str] = {}
    heavy = {name for name in view.initializers if _overflows(view, name)}
    for node in view.nodes:
        for name in (*node.input, *node.output):
            if name in heavy:
                found.setdefault(
                    node.name, f"constant '{name}' has numbers above 65,504, the largest in half precision"
                )
            elif table.magnitudes.get(name, 0.0) > LIMIT:
                seen = table.magnitudes[name]
                found.setdefault(
                    node.name, f"tensor '{name}' reached {seen:.6g}; half precision is trusted up to 32,768"
                )
    return found


def _overflows(view: GraphView, name: str) -> bool:
    if view.initializers[name].data_type != FLOAT:
        return False
    value = view.value(name)
    return bool(value.size) and not bool(np.abs(value).max() <= _LARGEST)


class HalfPass:
    """Turns a float32 model, with or without Q/DQ, into a typed one.

    Args:
        view: of the model; edited in place.
        keep: names of nodes that stay float32.
    """

    def __init__(self, view: GraphView, keep: Collection[str]) -> None:
        self._view, self._keep = view, keep
        self._graph = view.model.graph
        self._types: dict[str, int] = dict.fromkeys(view.inputs, FLOAT)
        self._floats = {
            name for name in (*view.inputs, *view.producer, *view.initializers) if view.dtype(name) == FLOAT
        }
        self._casts: dict[tuple[str, int], str] = {}
        self._halves: dict[str, str] = {}
        self._new: list[NodeProto] = []

    def run(self) -> onnx.ModelProto:
        """The typed model.

        Raises:
            ExportError: control flow, whose inner graphs have types of their own.
        """
        if looping := next((node for node in self._view.nodes if has_subgraphs(node)), None):
            raise ExportError(
                f"node '{looping.name}' ({looping.op_type}) holds a graph of its own; expected no control flow"
            )
        for node in self._view.nodes:
            self._type(node)
        self._float_outputs()
        nodes = sort_nodes(
            [*self._new, *self._view.nodes], {*self._view.inputs, *(t.name for t in self._graph.initializer)}
        )
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        drop_unused(self._graph)
        del self._graph.value_info[:]
        return self._view.model

    def _type(self, node: NodeProto) -> None:
        """Give a node its float type: cast what it reads, note what it makes."""
        schema = onnx.defs.get_schema(node.op_type, self._view.opset, node.domain)
        allowed = {c.type_param_str: "tensor(float16)" in c.allowed_type_strs for c in schema.type_constraints}
        # What it makes depends on the operator: the type of its inputs, or one that an attribute names.
        target = HALF if node.name not in self._keep else FLOAT
        if node.op_type == "Cast":
            self._retarget(node, target)
            return
        if node.op_type not in _ANY_INPUT:
            for position, variable in _variables(schema.inputs, len(node.input)):
                name = node.input[position]
                if name in self._floats:
                    wanted = target if allowed.get(variable, False) else FLOAT
                    node.input[position] = self._as(name, wanted)
        inputs = {variable for _, variable in _variables(schema.inputs, len(node.input))}
        for position, variable in _variables(schema.outputs, len(node.output)):
            name = node.output[position]
            if name in self._floats:
                tied = variable in inputs and allowed.get(variable, False)
                self._types[name] = target if tied else FLOAT

    def _retarget(self, node: NodeProto, target: int) -> None:
        if attribute(node, "to") == FLOAT:
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("to", target))
            self._types[node.output[0]] = target

    def _as(self, name: str, wanted: int) -> str:
        """The name under which a float tensor can be read in the wanted type."""
        if name in self._view.initializers:
            return name if wanted == FLOAT else self._half_constant(name)
        if self._types[name] == wanted:
            return name
        key = (name, wanted)
        if key not in self._casts:
            output = f"{name}:{'half' if wanted == HALF else 'float'}"
            self._new.append(helper.make_node("Cast", [name], [output], name=f"{output}:Cast", to=wanted))
            self._casts[key] = output
        return self._casts[key]

    def _half_constant(self, name: str) -> str:
        if name not in self._halves:
            self._halves[name] = f"{name}:half"
            value = np.clip(self._view.value(name), -_LARGEST, _LARGEST).astype(np.float16)
            self._graph.initializer.append(numpy_helper.from_array(value, f"{name}:half"))
        return self._halves[name]

    def _float_outputs(self) -> None:
        """Graph outputs made in half precision: the tensor is renamed and a Cast takes its name."""
        for output in self._view.outputs:
            if self._types.get(output) != HALF:
                continue
            inner = f"{output}:half"
            for node in (*self._view.nodes, *self._new):
                for position, name in enumerate(node.input):
                    if name == output:
                        node.input[position] = inner
                for position, name in enumerate(node.output):
                    if name == output:
                        node.output[position] = inner
            self._new.append(helper.make_node("Cast", [inner], [output], name=f"{output}:Cast", to=FLOAT))


def _variables(formal: Sequence[onnx.defs.OpSchema.FormalParameter], count: int) -> Iterator[tuple[int, str]]:
    """Position and type variable (or fixed type) of ``count`` inputs or outputs; the last one may repeat."""
    for position in range(count):
        yield position, formal[min(position, len(formal) - 1)].type_str
