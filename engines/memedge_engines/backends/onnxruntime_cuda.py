"""ONNX Runtime's CUDA provider: float graphs only, inputs and outputs bound to device memory.

Never the int8 lowerings: the CUDA provider runs their quantise and dequantise nodes one by one, slower than the float
graph and with another rounding.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..errors import BackendUnavailable, EngineError
from ..hardware import gpus, nvidia_driver
from ..manifest import Node
from .base import Availability, Backend, Engine, EngineOptions, first_line
from .onnxruntime import create_session, session_options, specs

# TF32 rounds the operands of fp32 products to 10 bits: another number than fp32. Heuristic search keeps opening short.
_CUDA = {"device_id": "0", "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
_SHAPES = 8


class CudaEngine(Engine):
    """A session with inputs copied into device buffers that are kept per shape (at most 8 shapes).

    ``device``: where buffers lie; ``cpu`` runs the same binding without a GPU, for tests.
    """

    def __init__(self, session: Any, lowering: str, device: str = "cuda") -> None:
        super().__init__(
            "onnxruntime-cuda", lowering, specs(session.get_inputs(), "input"), specs(session.get_outputs(), "output")
        )
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
        if not nvidia_driver():
            return Availability(False, "no NVIDIA driver is loaded", "install the GPU's driver; CPU engines need none")
        fix = 'pip uninstall -y onnxruntime && pip install --force-reinstall "memedge[gpu]"'
        if not self.installed():
            return Availability(False, "onnxruntime is not installed", fix)
        try:
            import onnxruntime as ort

            providers = ort.get_available_providers()
        except Exception as error:
            return Availability(False, f"onnxruntime does not import: {first_line(error)}", fix)
        if "CUDAExecutionProvider" not in providers:
            reason = f"this onnxruntime {ort.__version__} was built without CUDA"
            return Availability(False, reason, fix, ort.__version__)
        names = tuple(gpu.name for gpu in gpus()) or ("NVIDIA GPU",)
        return Availability(True, version=ort.__version__, devices=names)

    def _open(self, bundle: Bundle, node: Node, lowering: str, options: EngineOptions) -> Engine:
        if options.bf16:
            raise EngineError(f"engine {self.name} does not compute in bf16; openvino does", fix="--engine openvino")
        providers = [("CUDAExecutionProvider", _CUDA), "CPUExecutionProvider"]
        session = create_session(bundle, node, lowering, session_options(options.threads), providers, self.name)
        if session.get_providers()[0] != "CUDAExecutionProvider":
            # ONNX Runtime falls back to the CPU without an error when CUDA or cuDNN do not load.
            raise BackendUnavailable(
                f"engine {self.name}: CUDA or cuDNN libraries do not load", fix="install CUDA 12 and cuDNN 9 libraries"
            )
        return CudaEngine(session, lowering)


BACKEND = OnnxRuntimeCudaBackend()
