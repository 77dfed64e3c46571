"""The form of a bundle's ONNX graphs: opset 19, IR version 10, ONNX's own operators, no loops, names that tell nothing.

Names of files and code that an exporter writes into the graph are removed, so that the same network gives the same
bytes wherever it is exported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .errors import ExportError

OPSET = 19
IR_VERSION = 10
FORBIDDEN = frozenset({"Loop", "Scan", "If", "LSTM", "GRU", "RNN", "NonZero", "Unique"})
"""Operators that runtimes on devices lack, or run one step at a time."""
_DOMAINS = {"", "ai.onnx"}


def tidy(model: Any) -> None:
    """Pin IR version and opset, and drop names of code, files and packages from an ``onnx.ModelProto``."""
    import onnx

    model.ir_version = IR_VERSION
    model.doc_string = ""
    model.producer_name = "memedge"
    model.producer_version = ""
    graph = model.graph
    graph.name = "model"
    holders = [model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]
    for holder in holders:
        for name in ("metadata_props", "doc_string"):
            if name in holder.DESCRIPTOR.fields_by_name:
                holder.ClearField(name)
    _rename(graph)
    _merge_equal_initializers(graph)
    del graph.value_info[:]
    del model.functions[:]
    kept = [o for o in model.opset_import if o.domain in _DOMAINS]
    del model.opset_import[:]
    model.opset_import.extend(kept or [onnx.helper.make_opsetid("", OPSET)])


def _rename(graph: Any) -> None:
    """Give nodes and inner tensors names that depend on nothing but their order."""
    fixed = {v.name for v in (*graph.input, *graph.output)} | {i.name for i in graph.initializer}
    counts: dict[str, int] = {}
    names: dict[str, str] = {}
    for node in graph.node:
        number = counts[node.op_type] = counts.get(node.op_type, -1) + 1
        node.name = f"{node.op_type}_{number}"
        for position, output in enumerate(node.output):
            if output and output not in fixed:
                names[output] = f"{node.name}:{position}" if len(node.output) > 1 else f"{node.name}:out"
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _merge_equal_initializers(graph: Any) -> None:
    first: dict[bytes, str] = {}
    same: dict[str, str] = {}
    for tensor in graph.initializer:
        key = tensor.SerializeToString(deterministic=True).replace(tensor.name.encode(), b"", 1)
        same[tensor.name] = first.setdefault(key, tensor.name)
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def foreign(model: Any) -> list[str]:
    """Operators that no bundle may hold, as ``domain::Operator`` where the domain is not ONNX's; each once, sorted."""
    found = set()
    for node in _all_nodes(model.graph):
        if node.domain not in _DOMAINS:
            found.add(f"{node.domain}::{node.op_type}")
        elif node.op_type in FORBIDDEN:
            found.add(node.op_type)
    return sorted(found)


def _all_nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for held in node.attribute:
            for inner in (held.g, *held.graphs):
                yield from _all_nodes(inner)


def set_output_shapes(model: Any, shapes: Sequence[Sequence[int]], batch: str) -> None:
    """Write sizes into the graph's outputs, the first axis free: an exporter may leave them open.

    Args:
        shapes: of torch's outputs, in order; the first size is not looked at.
        batch: name of the free axis.
    """
    for value, shape in zip(model.graph.output, shapes, strict=True):
        tensor = value.type.tensor_type
        del tensor.shape.dim[:]
        tensor.shape.dim.add().dim_param = batch
        for size in shape[1:]:
            tensor.shape.dim.add().dim_value = size


def check_form(model: Any, inputs: Mapping[str, Sequence[int]], outputs: Sequence[str]) -> None:
    """Refuse a graph that is not of this form.

    Args:
        inputs: names and shapes, the first size being the batch, which must be free.
        outputs: names, in order.

    Raises:
        ExportError: another opset, a forbidden operator, a batch-norm that was not folded, other names or sizes.
    """
    opsets = {o.domain: o.version for o in model.opset_import}
    if set(opsets.values()) != {OPSET}:
        raise ExportError(f"graph has opsets {opsets}; expected opset {OPSET} only")
    if strange := foreign(model):
        raise ExportError(
            f"graph holds {', '.join(strange)}; expected ONNX's own operators without loops, branches and recurrences"
        )
    if any(node.op_type == "BatchNormalization" for node in model.graph.node):
        raise ExportError("graph holds BatchNormalization; expected it folded into the convolutions")
    graph = model.graph
    if [o.name for o in graph.output] != list(outputs) or [i.name for i in graph.input] != list(inputs):
        raise ExportError(
            f"graph takes {[i.name for i in graph.input]} and gives {[o.name for o in graph.output]}; "
            f"expected {list(inputs)} and {list(outputs)}"
        )
    for value in (*graph.input, *graph.output):
        shape = [d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim]
        wanted = ["batch", *inputs[value.name][1:]] if value.name in inputs else None
        free = bool(shape) and isinstance(shape[0], str)
        if not free or (wanted[1:] != shape[1:] if wanted else any(isinstance(d, str) for d in shape[1:])):
            raise ExportError(
                f"graph has '{value.name}' of shape {shape}; "
                f"expected {wanted or 'fixed sizes behind a free batch axis'}, the batch axis free"
            )
