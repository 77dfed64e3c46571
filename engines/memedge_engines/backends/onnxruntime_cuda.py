"""ONNX Runtime's CUDA provider: float graphs only, inputs and outputs bound to device memory.

Never the int8 lowerings: the CUDA provider runs their quantise and dequantise nodes one by one, slower than the float
graph and with another rounding.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import onnx_providers
from ..bundle import Bundle
from ..errors import BackendUnavailable, EngineError
from ..manifest import Node
from .base import Availability, Backend, Engine, EngineOptions, first_line
from .onnxruntime import create_session, session_options, specs

# TF32 rounds the operands of fp32 products to 10 bits: another number than fp32. Heuristic search keeps opening short.
PROVIDER = "CUDAExecutionProvider"
OPTIONS = {"device_id": "0", "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
_SHAPES = 8


class BoundEngine(Engine):
    """A session with inputs copied into device buffers that are kept per shape (at most 8 shapes).

    ``device``: where buffers lie; ``cpu`` runs the same binding without a GPU, for tests.
    """

    def __init__(self, session: Any, name: str, lowering: str, device: str = "cuda", precision: str = "") -> None:
        inputs, outputs = specs(session.get_inputs(), "input"), specs(session.get_outputs(), "output")
        super().__init__(name, lowering, inputs, outputs, precision)
        self._session = session
        self._device = device
        self._buffers: OrderedDict[tuple[object, ...], dict[str, Any]] = OrderedDict()

    def _device_inputs(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        import onnxruntime as ort

        key = tuple((spec.name, inputs[spec.name].shape) for spec in self.inputs)
        held = self._buffers.get(key)
        if held is None:
            held = {
                n: ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(a), self._device, 0) for n, a in inputs.items()
            }
            self._buffers[key] = held
            if len(self._buffers) > _SHAPES:
                self._buffers.popitem(last=False)
        else:
            for name, value in held.items():
                value.update_inplace(np.ascontiguousarray(inputs[name]))
        self._buffers.move_to_end(key)
        return held

    def _run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        try:
            binding = self._session.io_binding()
            for name, value in self._device_inputs(inputs).items():
                binding.bind_ortvalue_input(name, value)
            for spec in self.outputs:
                binding.bind_output(spec.name, self._device, 0)
            self._session.run_with_iobinding(binding)
            results = binding.copy_outputs_to_cpu()
        except Exception as error:
            raise EngineError(f"engine {self.name} failed while running: {first_line(error)}") from None
        return {spec.name: array for spec, array in zip(self.outputs, results, strict=True)}

    def _close(self) -> None:
        self._buffers.clear()
        del self._session


class OnnxRuntimeCudaBackend(Backend):
    """The CUDA provider: the fp16 graph where the bundle has one, else the float graph."""

    name = "onnxruntime-cuda"
    lowerings = ("trt-fp16", "fp32")
    gpu = True
    module = "onnxruntime"
    distributions = ("onnxruntime-gpu", "onnxruntime")

    def availability(self) -> Availability:
        """Whether there is a driver, and an onnxruntime with the CUDA provider. The driver is looked for first."""
        return onnx_providers.availability(PROVIDER, "CUDA")

    def _open(self, bundle: Bundle, node: Node, lowering: str, options: EngineOptions) -> Engine:
        session = gpu_session(self.name, bundle, node, lowering, options, [(PROVIDER, OPTIONS)])
        return BoundEngine(session, self.name, lowering)


def gpu_session(
    name: str,
    bundle: Bundle,
    node: Node,
    lowering: str,
    options: EngineOptions,
    providers: Sequence[tuple[str, dict[str, str]]],
) -> Any:
    """A session on the first of these providers; what it does not take runs on the next ones, at last on the CPU.

    Raises:
        EngineError: ONNX Runtime refuses the graph; bf16 was asked for.
        BackendUnavailable: the session went to another provider, as ONNX Runtime does it without an error.
    """
    if options.bf16:
        raise EngineError(f"engine {name} does not compute in bf16; openvino does", fix="--engine openvino")
    order = [*providers, "CPUExecutionProvider"]
    session = create_session(bundle, node, lowering, session_options(options.threads), order, name)
    if session.get_providers()[0] != providers[0][0]:
        release = onnx_providers.cuda_release()
        built = f"built for CUDA {release}" if release else "whatever CUDA it was built for"
        raise BackendUnavailable(
            f"engine {name}: the CUDA or cuDNN libraries of this onnxruntime, {built}, do not load, or the driver is "
            "older than they are",
            fix="memedge doctor",
        )
    return session


BACKEND = OnnxRuntimeCudaBackend()
