"""The graph nodes of a system as ONNX graphs, on what the dataflow really gives them.

A golden picture, shown for ever, is walked through the nodes by the runtime's own rules; host nodes are computed on the
way. What arrives at a graph node is its example input, so that shapes follow from the dataflow alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from memedge.console import status
from memedge_engines import golden as golden_frames
from memedge_engines.bundle import Bundle
from memedge_engines.frame import Frame
from memedge_engines.golden import GoldenFrames, RunGraph
from memedge_engines.manifest import Manifest, Node, NodeInput
from memedge_engines.preprocess.reference import reference_tensor

from .data.pictures import Picture
from .errors import ExportError
from .models import count
from .models.system import System
from .onnx_export import Exported, check_outputs, export_module
from .quant.scoring import open_model

Arrays = dict[str, NDArray[Any]]
_FEWEST = 3
"""Rows that parity is checked on: batch 1 and 3."""


@dataclass(frozen=True)
class NodeGraph:
    """A graph node as it is exported.

    Attributes:
        exported: its graph. worst: largest difference from torch of its scores (of its outputs where it has none).
        parameters, macs: of the module; multiply-adds of one run.
    """

    exported: Exported
    worst: float
    parameters: int
    macs: int


def shown(manifest: Manifest, pictures: Sequence[Picture]) -> GoldenFrames:
    """Pictures with the exact tensor of every input that takes some; no scores yet."""
    inputs = golden_frames.source_inputs(manifest)
    frames = [Frame.from_rgb(picture) for picture in pictures]
    tensors = {
        (node.name, item.name): tuple(reference_tensor(frame, contract) for frame in frames)
        for node, item, contract in inputs
    }
    return GoldenFrames(tuple(pictures), tensors, {})


def fed(manifest: Manifest, frames: GoldenFrames, number: int, run: RunGraph) -> dict[str, Arrays]:
    """Graph node to its inputs for one picture shown for ever, batch of one; see :func:`golden.inputs_of`."""
    return golden_frames.inputs_of(Bundle(Path(), manifest, ""), frames, number, "fp32", run)


def values(manifest: Manifest, frames: GoldenFrames, number: int, run: RunGraph, lowering: str = "fp32") -> Arrays:
    """``node.output`` to its value for one picture shown for ever; see :func:`golden.values_of`."""
    return golden_frames.values_of(Bundle(Path(), manifest, ""), frames, number, lowering, run)


def torch_runner(network: System) -> RunGraph:
    """Runs graph nodes in torch, in evaluation mode."""
    network.eval()

    def run(node: Node, inputs: Arrays) -> Arrays:
        return run_module(network.graphs[node.name].module, node, inputs)

    return run


def run_module(module: nn.Module, node: Node, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
    """A graph node's module on float32 arrays with a batch axis: output name to array."""
    given = [torch.from_numpy(np.ascontiguousarray(inputs[item.name], np.float32)) for item in node.inputs]
    with torch.inference_mode():
        results = module(*given)
    return {output.name: result.numpy() for output, result in zip(node.outputs, results, strict=True)}


def session_runner(graphs: Mapping[str, bytes], *, optimise: bool = True) -> RunGraph:
    """Runs graph nodes (name to ONNX bytes) in ONNX Runtime on the CPU, with the runtime's own options.

    ``optimise``: see :func:`.quant.scoring.open_model`.
    """
    sessions = {name: open_model(data, optimise=optimise) for name, data in graphs.items()}

    def run(node: Node, inputs: Arrays) -> Arrays:
        names = [output.name for output in node.outputs]
        found = sessions[node.name].run(names, {name: np.asarray(array) for name, array in inputs.items()})
        return dict(zip(names, found, strict=True))

    return run


def export_nodes(network: System, frames: GoldenFrames, tell: Callable[[str], None] = status) -> dict[str, NodeGraph]:
    """Graph node name to its graph, checked against torch.

    Raises:
        ExportError: a module that cannot be exported, or whose graph gives other numbers; the node is named.
    """
    manifest = network.dataflow
    run = torch_runner(network)
    walks = [fed(manifest, frames, n % len(frames.frames), run) for n in range(max(_FEWEST, len(frames.frames)))]
    made = {}
    for name, graph in network.graphs.items():
        node = network.node(name)
        inputs = {i.name: np.concatenate([walk[name][i.name] for walk in walks]) for i in node.inputs}
        inputs = {item.name: _mixed(item, inputs[item.name]) for item in node.inputs}
        examples = {key: torch.from_numpy(np.ascontiguousarray(array[:2])) for key, array in inputs.items()}
        try:
            exported = export_module(graph.module, examples, [o.name for o in node.outputs], graph.form)
            is_score = [(output.name, output.role == "score") for output in node.outputs]
            worst = check_outputs(graph.module, exported.data, inputs, is_score)
        except ExportError as error:
            raise ExportError(f"node '{name}': {error.message}", fix=error.fix) from error
        how = f", by the tracing exporter ({exported.reason})" if exported.reason else ""
        tell(f"node {name}: ONNX graph of {len(exported.data) / 1e6:.1f} MB, within {worst:.1g} of torch{how}")
        one = [tensor[:1] for tensor in examples.values()]
        made[name] = NodeGraph(exported, worst, count.parameters(graph.module), count.macs_of(graph.module, *one))
    return made


def _mixed(item: NodeInput, rows: NDArray[Any]) -> NDArray[Any]:
    """Rows ``[N, ...]`` whose windows hold elements of different rows: a picture shown for ever is no test of time.
    Values of the caller are random: their default is no test of them."""
    if item.source == "caller":
        return np.random.default_rng(0).standard_normal(rows.shape).astype(np.float32)
    if item.last == 1:
        return rows
    axis = 2 if item.preprocess is not None and item.preprocess.layout == "ncthw" else 1
    parts = [np.roll(rows.take([k], axis), k, 0) for k in range(rows.shape[axis])]
    return np.concatenate(parts, axis)
