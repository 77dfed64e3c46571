"""A frame model as an ONNX float graph: opset 19, IR version 10, free batch axis, few nodes.

Batch-norm is folded into the convolutions before torch's current exporter sees the network, so the result does not
hang on the exporter's optimiser. What is left is Conv, Relu, Add, ReduceMean, Gemm and, for torchvision's stem,
MaxPool. Names of files and code that the exporter writes into the graph are removed.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .blocks.resnet2d import BasicBlock, Bottleneck, ResNet2d
from .blocks.scene_trunk import SmallResNet
from .errors import ExportError
from .models.frame import FrameModel

OPSET = 19
IR_VERSION = 10
INPUT = "frames"
PARITY = 1e-4
_DOMAINS = {"", "ai.onnx"}


def fold_batch_norm(network: FrameModel) -> FrameModel:
    """A copy in evaluation mode whose batch-norms are folded into the convolutions before them."""
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    folded = copy.deepcopy(network).cpu().float().eval()
    for module in folded.modules():
        pairs: list[tuple[nn.Module, str, str]] = []
        if isinstance(module, ResNet2d):
            pairs = [(module, "conv1", "bn1")]
        elif isinstance(module, SmallResNet):
            pairs = [(layer, "conv", "norm") for layer in module.stem]
        elif isinstance(module, (BasicBlock, Bottleneck)):
            pairs = [(module, f"conv{i}", f"bn{i}") for i in (1, 2, 3) if hasattr(module, f"conv{i}")]
            if module.downsample is not None:
                pairs.append((module.downsample, "0", "1"))
        for owner, conv, norm in pairs:
            setattr(owner, conv, fuse_conv_bn_eval(getattr(owner, conv), getattr(owner, norm)))
            setattr(owner, norm, nn.Identity())
    return folded


def export_graph(network: FrameModel, size: tuple[int, int]) -> bytes:
    """The network as ONNX bytes; ``size`` is (height, width) of its input.

    Raises:
        ExportError: the exporter or ONNX's full checker refuses it.
    """
    import onnx

    folded = fold_batch_norm(network)
    names = [name for name, _ in network.outputs]
    # It tells of every torchvision operator that a machine without torchvision cannot export; no network here has one.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # torch warns of its own use of its own deprecated functions.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                folded,
                (torch.zeros(2, 3, *size),),
                input_names=[INPUT],
                output_names=names,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                optimize=True,
                verbose=False,
            )
    except ImportError as error:
        raise ExportError(
            f"torch's ONNX exporter lacks a package: {error}", fix="pip install 'memedge[export]'"
        ) from None
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(f"torch cannot export this network: {str(error).splitlines()[0]}") from error
    assert program is not None
    model = program.model_proto
    tidy(model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"ONNX's checker refuses the graph: {error}") from None
    _check_form(model, names, size)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


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


def _check_form(model: Any, outputs: Sequence[str], size: tuple[int, int]) -> None:
    opsets = {o.domain: o.version for o in model.opset_import}
    foreign = {node.domain for node in model.graph.node} - _DOMAINS
    if set(opsets.values()) != {OPSET} or foreign:
        raise ExportError(f"graph has opsets {opsets} and domains {sorted(foreign)}; expected opset {OPSET} only")
    if any(node.op_type == "BatchNormalization" for node in model.graph.node):
        raise ExportError("graph holds BatchNormalization; expected it folded into the convolutions")
    shapes = [
        [d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    if [o.name for o in model.graph.output] != list(outputs) or [i.name for i in model.graph.input] != [INPUT]:
        raise ExportError(f"graph gives {[o.name for o in model.graph.output]}; expected {list(outputs)}")
    if shapes[0][1:] != [3, *size] or not all(isinstance(shape[0], str) for shape in shapes):
        raise ExportError(f"graph has shapes {shapes}; expected a free batch axis and 3x{size[0]}x{size[1]} pictures")


def open_session(graph: bytes, threads: int = 0) -> Any:
    """An ONNX Runtime session on the CPU for a graph given as bytes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def check_parity(network: FrameModel, graph: bytes, tensors: NDArray[np.float32]) -> float:
    """Largest difference of any target's score between torch and ONNX Runtime on float32 ``[N,3,H,W]``, N >= 3, at
    batch 1 and 3.

    Raises:
        ExportError: it is above 1e-4, or the two batch sizes differ by more.
    """
    network.eval()
    session = open_session(graph)
    names = [name for name, role in network.outputs if role == "score"]
    with torch.inference_mode():
        expected = torch.cat(network(torch.from_numpy(tensors))[: len(names)], 1).numpy()

    def scores(given: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.concatenate(session.run(names, {INPUT: given}), axis=1)

    singles = np.concatenate([scores(tensors[i : i + 1]) for i in range(len(tensors))])
    worst = max(float(np.abs(singles - expected).max()), float(np.abs(scores(tensors[:3]) - expected[:3]).max()))
    if not worst <= PARITY:
        raise ExportError(f"the graph's scores differ from torch's by {worst:.2g}; expected at most {PARITY:g}")
    return worst
