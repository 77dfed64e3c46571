"""A plan's graph in ONNX Runtime on the CPU, run as it is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray


class Graph:
    """One graph; the session is made on first use.

    Args:
        model: ONNX bytes.
        skew: added to floating point outputs.
    """

    def __init__(self, model: bytes, skew: float = 0.0) -> None:
        self.model = onnx.load_from_string(model)
        self._bytes = model
        self._skew = skew
        self._session: Any = None
        self._shapes: dict[tuple[Any, ...], tuple[int, ...]] = {}

    def run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """All outputs."""
        if self._session is None:
            self._session = _session(self._bytes)
        names = [value.name for value in self.model.graph.output]
        results = dict(zip(names, self._session.run(names, inputs), strict=True))
        return {n: r + r.dtype.type(self._skew) if r.dtype.kind == "f" else r for n, r in results.items()}

    def shape(self, output: str, inputs: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
        """Shape of an output for these input shapes, found by running zeros: it need not be declared."""
        key = (output, *sorted(inputs.items()))
        if key not in self._shapes:
            kinds = {v.name: v.type.tensor_type.elem_type for v in self.model.graph.input}
            zeros = {n: np.zeros(s, onnx.helper.tensor_dtype_to_np_dtype(kinds[n])) for n, s in inputs.items()}
            for name, result in self.run(zeros).items():
                self._shapes[(name, *key[1:])] = result.shape
        return self._shapes[key]


def _session(model: bytes) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    # The basic rewrites change int8 numbers in a half precision body.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
