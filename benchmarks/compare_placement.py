"""Our placement of Q/DQ pairs beside that of ONNX Runtime's ``quantize_static``, an independent oracle.

ONNX Runtime is given the settings with which it writes files that TensorRT takes: signed and symmetric, per channel,
float bias, no pairs on outputs. The same untrained network and the same pictures serve both; nothing is built or timed.

    python benchmarks/compare_placement.py [--model resnet18]

What differs, and why (each tensor is listed under its reason; a tensor without one ends the script with exit code 1):

- *the branch of a residual addition*: ONNX Runtime quantises both inputs of an Add; we only the shortcut, so that the
  addition fuses into the convolution of the other branch. It has no option for that.
- *read by the head*: ONNX Runtime quantises the input of the Gemm; our head is float from the global pooling on.
- *read by an operator that only picks values*: ONNX Runtime puts a pair before a max-pool and another one behind it;
  ours stands behind it, and TensorRT moves it over the max-pool by itself.

Everything else carries a pair in both, with the same scale. Found with ONNX Runtime 1.31.1 on resnet18: 20 pairs here,
30 there, 20 in both with scales equal to the last digit; the other ten are eight branches of additions, the stem's
result before the max-pool, and the pooled features.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from memedge.pictures import generate
from memedge_export import models, onnx_export, weights
from memedge_export.data.pictures import to_tensor
from memedge_export.quant.graph import PASSING, GraphView
from memedge_export.quant.lower import lower_trt_int8
from memedge_export.quant.ranges import RangeTable, graph_hash

PICTURES = 4


class Pictures(CalibrationDataReader):
    """Tensors one at a time, as ONNX Runtime's calibrator asks for them."""

    def __init__(self, name: str, tensors: np.ndarray) -> None:
        self._waiting: Iterator[dict[str, Any]] = iter([{name: tensors[i : i + 1]} for i in range(len(tensors))])

    def get_next(self) -> dict[str, Any]:
        """The next one; none at the end."""
        return next(self._waiting, None)  # type: ignore[return-value]


def scales(model: bytes) -> dict[str, float]:
    """Activation tensor that carries a pair -> its scale."""
    view = GraphView.load(model)
    found = {}
    for node in view.of_type("QuantizeLinear"):
        # A graph output is renamed before it is quantised.
        tensor = view.origin(node.input[0]).removesuffix("_QuantizeLinear_Input")
        if tensor not in view.initializers:
            found[tensor] = float(view.value(node.input[1]).reshape(-1)[0])
    return found


def theirs(graph: bytes, tensors: np.ndarray) -> dict[str, float]:
    """The pairs of ``quantize_static``."""
    ops = sorted({node.op_type for node in onnx.load_from_string(graph).graph.node})
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        before.write_bytes(graph)
        quantize_static(
            str(before),
            str(after),
            Pictures("frames", tensors),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "AddQDQPairToWeight": True,
                "OpTypesToExcludeOutputQuantization": ops,
                "ForceQuantizeNoInputCheck": True,
                "DedicatedQDQPair": False,
                "QDQOpTypePerChannelSupportToAxis": {"Conv": 0, "ConvTranspose": 1},
                "QDQDisableWeightAdjustForInt32Bias": True,
            },
        )
        return scales(after.read_bytes())


def ranges(graph: bytes, tensors: np.ndarray) -> RangeTable:
    """Smallest and largest value of every float tensor on these pictures."""
    model = onnx.load_from_string(graph)
    names = [name for node in model.graph.node for name in node.output]
    kept = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in kept)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = {"frames": (float(tensors.min()), float(tensors.max()))}
    for i in range(len(tensors)):
        for name, value in zip(names, session.run(names, {"frames": tensors[i : i + 1]}), strict=True):
            low, high = found.get(name, (np.inf, -np.inf))
            found[name] = (min(low, float(value.min())), max(high, float(value.max())))
    return RangeTable(
        graph_sha256=graph_hash(graph),
        method="minmax",
        source="compare_placement",
        frames=len(tensors),
        frames_sha256="0" * 64,
        tensors=found,
        magnitudes={name: max(abs(low), abs(high)) for name, (low, high) in found.items()},
    )


def reason(view: GraphView, tensor: str) -> str | None:
    """Why only one of the two quantises a tensor of the float graph; none when there is no reason to."""
    readers = view.readers(tensor)
    for add in readers:
        if add.op_type == "Add" and (shortcut := view.shortcut(add)) is not None and add.input[shortcut] != tensor:
            return "the branch of a residual addition"
    if any(reader.name in view.head for reader in readers):
        return "read by the head"
    if any(reader.op_type in PASSING for reader in readers):
        return "read by an operator that only picks values"
    return None


def main() -> int:
    """Compare; 1 when a difference has no reason."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--model", default="resnet18", help="a model of the zoo")
    name = arguments.parse_args().model
    entry = models.entry(name)
    logging.disable(logging.WARNING)  # quantize_static asks for a pre-processing that this graph has behind it
    with tempfile.TemporaryDirectory() as no_runs:  # nothing trained in it: the untrained network
        loaded = weights.load(name, runs=Path(no_runs))
    graph = onnx_export.export_graph(loaded.model, models.input_size(entry.preprocess))
    tensors = np.stack([to_tensor(picture, entry.preprocess).numpy() for picture in generate(PICTURES, 1)])
    view = GraphView.load(graph)
    mine = scales(lower_trt_int8(graph, ranges(graph, tensors), body="fp32").model)
    other = theirs(graph, tensors)
    both = mine.keys() & other.keys()
    apart = max((abs(mine[t] / other[t] - 1) for t in both), default=0.0)
    print(
        f"{name}: {len(mine)} pairs here, {len(other)} by ONNX Runtime {onnxruntime.__version__}, {len(both)} in both"
    )
    print(f"scales of these differ by at most {apart:.2%}")
    by_reason: dict[str, list[str]] = {}
    for tensor in sorted(mine.keys() ^ other.keys()):
        who = "here" if tensor in mine else "ONNX Runtime"
        by_reason.setdefault(f"only {who}: {reason(view, tensor) or 'NO REASON'}", []).append(tensor)
    for title, tensors_of in sorted(by_reason.items()):
        print(f"{title} ({len(tensors_of)}): {', '.join(tensors_of)}")
    return int(any("NO REASON" in title for title in by_reason))


if __name__ == "__main__":
    sys.exit(main())
