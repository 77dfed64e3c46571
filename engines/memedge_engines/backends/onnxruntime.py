"""ONNX Runtime on the CPU: in the core package, runs everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..errors import EngineError
from ..hardware import cpu_model, has_vnni, usable_cores
from ..manifest import Node
from ..onnx_file import graph_bytes
from .base import Availability, Backend, Engine, EngineOptions, TensorSpec, first_line

DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


def session_options(threads: int) -> Any:
    """Options of every session, on any provider. ``threads`` 0: one for each usable core."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    # Given even when it is the default number: ONNX Runtime then leaves thread affinity alone, which it cannot set (and
    # complains about) inside containers.
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4  # errors arrive as exceptions; stderr stays the program's
    # Without VNNI, products of unsigned and signed int8 saturate in 16 bits, silently, unless this is set. With VNNI it
    # changes no bit of a score and takes ONNX Runtime off its fast kernels (resnet101: 26.4 ms instead of 11.7).
    if not has_vnni():
        options.add_session_config_entry("session.x64quantprecision", "1")
    # Threads that spin while they wait take the cores from decoding: with two, 38 ms of CPU time a frame instead
    # of 17 at the same latency (a chain of 16 convolutions, with pauses of 20 ms).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def specs(arguments: Any, what: str) -> list[TensorSpec]:
    """Specifications of a session's inputs or outputs; EngineError for an element type that no node may have."""
    found = []
    for argument in arguments:
        if argument.type not in DTYPES:
            raise EngineError(f"{what} '{argument.name}' has type {argument.type}; expected one of {', '.join(DTYPES)}")
        shape = tuple(d if isinstance(d, int) and d >= 0 else None for d in argument.shape)
        found.append(TensorSpec(argument.name, np.dtype(DTYPES[argument.type]), shape))
    return found


def create_session(bundle: Bundle, node: Node, lowering: str, options: Any, providers: list[Any], name: str) -> Any:
    """A session over the verified bytes of a node's file; EngineError with the library's reason when refused."""
    import onnxruntime as ort

    entry = node.files[lowering]  # type: ignore[index]
    data = graph_bytes(bundle, entry)
    try:
        # Without falling back: ONNX Runtime would print what failed and take the next provider.
        return ort.InferenceSession(data, options, providers=providers, enable_fallback=0)
    except Exception as error:  # onnxruntime's exceptions have no common base class
        reason = first_line(error)
        raise EngineError(f"engine {name}: ONNX Runtime {ort.__version__} refuses '{entry.file}': {reason}") from None


class OnnxRuntimeEngine(Engine):
    """A session on host memory."""

    def __init__(self, session: Any, name: str, lowering: str) -> None:
        super().__init__(name, lowering, specs(session.get_inputs(), "input"), specs(session.get_outputs(), "output"))
        self._session = session
        self._names = [spec.name for spec in self.outputs]

    def _run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        try:
            results = self._session.run(self._names, dict(inputs))
        except Exception as error:
            raise EngineError(f"engine {self.name} failed while running: {first_line(error)}") from None
        return dict(zip(self._names, results, strict=True))

    def _close(self) -> None:
        del self._session


class OnnxRuntimeBackend(Backend):
    """The CPU provider: the ``cpu`` lowering (uint8 activations) and the float graph."""

    name = "onnxruntime"
    lowerings = ("cpu", "fp32")
    module = "onnxruntime"
    distributions = ("onnxruntime", "onnxruntime-gpu")

    def availability(self) -> Availability:
        """Whether onnxruntime imports and brings its CPU provider."""
        if not self.installed():
            return Availability(False, "onnxruntime is not installed", "pip install onnxruntime")
        try:
            import onnxruntime as ort

            providers = ort.get_available_providers()
        except Exception as error:
            reason = f"onnxruntime does not import: {first_line(error)}"
            return Availability(False, reason, "pip install --force-reinstall onnxruntime")
        if "CPUExecutionProvider" not in providers:
            reason = "this onnxruntime has no CPU provider"
            return Availability(False, reason, "pip install onnxruntime", ort.__version__)
        return Availability(True, version=ort.__version__, devices=(cpu_model(),))

    def _open(self, bundle: Bundle, node: Node, lowering: str, options: EngineOptions) -> Engine:
        if options.bf16:
            raise EngineError("engine onnxruntime does not compute in bf16; openvino does", fix="--engine openvino")
        settings = session_options(options.threads)
        session = create_session(bundle, node, lowering, settings, ["CPUExecutionProvider"], self.name)
        return OnnxRuntimeEngine(session, self.name, lowering)


BACKEND = OnnxRuntimeBackend()
