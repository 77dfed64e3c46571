"""Which convolutions ONNX Runtime really computes in integers, read from the graph that it optimised here."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx

from ..errors import ExportError


def integer_convs(model: bytes) -> tuple[int, int]:
    """Number of integer convolutions and of all convolutions in ONNX Runtime's optimised graph.

    Raises:
        ExportError: ONNX Runtime refuses the graph.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "optimized.onnx")
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        try:
            onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions have no common base class
            raise ExportError(f"ONNX Runtime refuses the graph: {str(error).splitlines()[0]}") from None
        nodes = onnx.load(str(path), load_external_data=False).graph.node
    # FusedConv, NhwcFusedConv and Conv (also in the layouts' own domains) are float; QLinearConv stands in the default
    # or in Microsoft's domain.
    kinds = [node.op_type for node in nodes if node.op_type.endswith("Conv") or node.op_type == "ConvInteger"]
    return sum(kind in ("QLinearConv", "ConvInteger") for kind in kinds), len(kinds)
