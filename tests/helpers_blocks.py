"""A building block of the zoo as an ONNX graph, run by ONNX Runtime beside torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import torch
from torch import nn

from memedge_export.onnx_export import export_module, open_session


class _Tuple(nn.Module):
    """A block whose outputs are a tuple, as graph nodes have them."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return _listed(self.block(*inputs))


def _listed(found: torch.Tensor | Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    return (found,) if isinstance(found, torch.Tensor) else tuple(found)


def export_block(block: nn.Module, *inputs: torch.Tensor) -> onnx.ModelProto:
    """The block's graph by torch's current exporter, checked for form, inputs ``x0``, ``x1``, ..., outputs ``y0``, ...,
    batch axis free; ``inputs`` has batch 2 or more."""
    with torch.no_grad():
        count = len(_listed(block.eval()(*inputs)))
    made = export_module(_Tuple(block), {f"x{i}": x for i, x in enumerate(inputs)}, [f"y{i}" for i in range(count)])
    assert made.exporter == "current", made.reason
    return onnx.load_from_string(made.data)


def operators(model: onnx.ModelProto) -> list[str]:
    """The graph's operators, in order."""
    return [node.op_type for node in model.graph.node]


def largest_difference(block: nn.Module, model: onnx.ModelProto, *inputs: torch.Tensor) -> float:
    """Between torch and ONNX Runtime, over all outputs, at the inputs' batch and at batch 1."""
    session = open_session(model.SerializeToString(), threads=1)

    def run(given: Sequence[torch.Tensor]) -> float:
        with torch.no_grad():
            wanted = _listed(block.eval()(*given))
        found = session.run(None, {f"x{i}": tensor.numpy() for i, tensor in enumerate(given)})
        assert [f.shape for f in found] == [tuple(w.shape) for w in wanted]
        return max(float(np.abs(f - w.numpy()).max()) for f, w in zip(found, wanted, strict=True))

    return max(run(inputs), run([tensor[:1] for tensor in inputs]))
