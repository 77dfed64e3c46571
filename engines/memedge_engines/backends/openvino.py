"""OpenVINO on the CPU: 1.1 to 1.3 times as fast as ONNX Runtime on x86, where it is installed.

Its default precision on newer processors is bf16, which gives other numbers: the hint is always set, to f32 unless bf16
was asked for by name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..errors import EngineError
from ..hardware import usable_cores
from ..manifest import Node
from ..onnx_file import graph_bytes
from .base import Availability, Backend, Dim, Engine, EngineOptions, TensorSpec, first_line

_FIX = 'pip install "memedge[openvino]"'
# Compiled shapes of one node that are kept: batches of 1 and of a few other sizes.
_SHAPES = 4

_core: Any = None


def core() -> Any:
    """The process's OpenVINO core: making one takes 0.1 s."""
    global _core
    if _core is None:
        import openvino

        _core = openvino.Core()
    return _core


class OpenVinoEngine(Engine):
    """A compiled node.

    Where only the batch is free, each batch size is compiled as a static shape (faster) and at most 4 are kept; a graph
    with further free sizes is compiled once as it is.
    """

    def __init__(self, bundle: Bundle, node: Node, lowering: str, options: EngineOptions) -> None:
        self._bundle, self._entry = bundle, node.files[lowering]  # type: ignore[index]
        self._settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if options.bf16 else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": options.threads or usable_cores(),
            # Threads nailed to cores wait there behind whatever else runs (16.5 instead of 13.5 ms beside other work).
            "ENABLE_CPU_PINNING": False,
        }
        model = self._read()
        self._ports = [_tensor_name(port) for port in model.outputs]
        precision = "" if not options.bf16 else "bf16" if lowering == "fp32" else "int8-bf16"
        inputs, outputs = [_spec(port) for port in model.inputs], [_spec(port) for port in model.outputs]
        super().__init__("openvino", lowering, inputs, outputs, precision)
        self._static = all(None not in spec.shape[1:] and not spec.any_rank for spec in inputs)
        self._requests: OrderedDict[tuple[object, ...], Any] = OrderedDict()
        first = {spec.name: tuple(1 if d is None else d for d in spec.shape) for spec in inputs}
        self._request(first, model)

    def _read(self) -> Any:
        # Read anew for each shape rather than kept: OpenVINO's model holds a second copy of all weights.
        data = graph_bytes(self._bundle, self._entry)
        return _guard("refuses", self._entry.file, lambda: core().read_model(data, b""))

    def _request(self, shapes: Mapping[str, tuple[int, ...]], model: Any = None) -> Any:
        key: tuple[object, ...] = tuple(sorted(shapes.items())) if self._static else ()
        request = self._requests.get(key)
        if request is None:
            model = self._read() if model is None else model

            def compile_model() -> Any:
                if self._static:
                    model.reshape({name: list(shape) for name, shape in shapes.items()})
                return core().compile_model(model, "CPU", self._settings).create_infer_request()

            request = _guard("cannot compile", self._entry.file, compile_model)
            self._requests[key] = request
            if len(self._requests) > _SHAPES:
                self._requests.popitem(last=False)
        self._requests.move_to_end(key)
        return request

    def _run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        request = self._request({name: array.shape for name, array in inputs.items()})
        arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        try:
            results = request.infer(arrays, share_inputs=True)
        except Exception as error:
            raise EngineError(f"engine {self.name} failed while running: {first_line(error)}") from None
        # Copied: the request writes its next results into the same memory.
        return {name: np.array(results[number]) for number, name in enumerate(self._ports)}

    def _close(self) -> None:
        self._requests.clear()


def _guard(what: str, file: str, work: Any) -> Any:
    try:
        return work()
    except EngineError:
        raise
    except RuntimeError as error:  # OpenVINO's errors are RuntimeErrors
        raise EngineError(f"engine openvino: OpenVINO {what} '{file}': {first_line(error)}") from None


def _tensor_name(port: Any) -> str:
    return str(port.get_any_name())


def _spec(port: Any) -> TensorSpec:
    shape = port.get_partial_shape()
    dtype = np.dtype(port.get_element_type().to_dtype())
    if shape.rank.is_dynamic:
        return TensorSpec(_tensor_name(port), dtype, (), any_rank=True)
    dims: tuple[Dim, ...] = tuple(None if d.is_dynamic else int(d.get_length()) for d in shape)
    return TensorSpec(_tensor_name(port), dtype, dims)


class OpenVinoBackend(Backend):
    """The CPU plugin: the ``cpu`` lowering and the float graph."""

    name = "openvino"
    lowerings = ("cpu", "fp32")
    module = "openvino"
    distributions = ("openvino",)

    def availability(self) -> Availability:
        """Whether openvino imports and has its CPU plugin."""
        if not self.installed():
            return Availability(False, "openvino is not installed", _FIX)
        try:
            import openvino

            version = str(openvino.__version__).partition("-")[0]
            if "CPU" not in core().available_devices:
                return Availability(False, "this openvino has no CPU plugin", _FIX, version)
            device = str(core().get_property("CPU", "FULL_DEVICE_NAME"))
        except Exception as error:
            return Availability(False, f"openvino does not load: {first_line(error)}", f"{_FIX} --force-reinstall")
        return Availability(True, version=version, devices=(device,))

    def _open(self, bundle: Bundle, node: Node, lowering: str, options: EngineOptions) -> Engine:
        if options.bf16 and "BF16" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise EngineError("engine openvino: this processor does not compute in bf16", fix="leave out --bf16")
        return OpenVinoEngine(bundle, node, lowering, options)


BACKEND = OpenVinoBackend()
