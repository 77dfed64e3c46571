"""A building block of the zoo as an ONNX graph, run by ONNX Runtime beside torch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence

import numpy as np
import onnx
import torch
from torch import nn

from memedge_export.onnx_export import OPSET, open_session, tidy

FORBIDDEN = {"Loop", "Scan", "If", "LSTM", "GRU", "RNN", "NonZero", "Unique"}


def export_block(block: nn.Module, *inputs: torch.Tensor) -> onnx.ModelProto:
    """The block's graph, full-checked, inputs ``x0``, ``x1``, ..., batch axis free; ``inputs`` has batch 2 or more."""
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            block.eval(),
            inputs,
            input_names=[f"x{i}" for i in range(len(inputs))],
            dynamic_shapes=(tuple({0: torch.export.Dim("batch")} for _ in inputs),)
            if _takes_any_number(block)
            else tuple({0: torch.export.Dim("batch")} for _ in inputs),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            optimize=True,
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    tidy(model)
    onnx.checker.check_model(model, full_check=True)
    found = {node.op_type for node in model.graph.node}
    assert not found & FORBIDDEN, found
    return model


def _takes_any_number(block: nn.Module) -> bool:
    import inspect

    kinds = [p.kind for p in inspect.signature(block.forward).parameters.values()]
    return inspect.Parameter.VAR_POSITIONAL in kinds


def operators(model: onnx.ModelProto) -> list[str]:
    """The graph's operators, in order."""
    return [node.op_type for node in model.graph.node]


def largest_difference(block: nn.Module, model: onnx.ModelProto, *inputs: torch.Tensor) -> float:
    """Between torch and ONNX Runtime, over all outputs, at the inputs' batch and at batch 1."""
    session = open_session(model.SerializeToString(), threads=1)

    def run(given: Sequence[torch.Tensor]) -> float:
        with torch.no_grad():
            expected = block.eval()(*given)
        wanted = [expected] if isinstance(expected, torch.Tensor) else list(expected)
        found = session.run(None, {f"x{i}": tensor.numpy() for i, tensor in enumerate(given)})
        assert [f.shape for f in found] == [tuple(w.shape) for w in wanted]
        return max(float(np.abs(f - w.numpy()).max()) for f, w in zip(found, wanted, strict=True))

    return max(run(inputs), run([tensor[:1] for tensor in inputs]))
