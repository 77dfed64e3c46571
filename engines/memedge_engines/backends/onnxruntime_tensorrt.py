"""ONNX Runtime's TensorRT provider: an alternative to the engine ``tensorrt``, by name only.

ONNX Runtime builds its TensorRT engine inside this process, for seconds to many minutes when a node is opened for the
first time, without progress, cancellation or golden frames; hence ``auto`` never takes it. Engines and measurements
are kept in the user's cache, a folder for each bundle, node, lowering, batch and onnxruntime, since the provider's own
names of them do not depend on a graph's weights.

The provider builds weakly typed networks, so types in the graph need the flags of half precision and int8, and the
float graph runs with TF32 on GPUs that have it, which no option switches off: its precision is called ``fp32-tf32``.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from pathlib import Path

from .. import cache, onnx_file, onnx_providers
from ..bundle import Bundle
from ..manifest import Node
from .base import Availability, Backend, Engine, EngineOptions, contract_shape
from .onnxruntime_cuda import OPTIONS as CUDA_OPTIONS
from .onnxruntime_cuda import PROVIDER as CUDA_PROVIDER
from .onnxruntime_cuda import BoundEngine, gpu_session

PROVIDER = "TensorrtExecutionProvider"
_FOLDER = "onnxruntime-tensorrt"
_MOST_FOLDERS = 32


class OnnxRuntimeTensorRTBackend(Backend):
    """The TensorRT provider; what it does not take runs on the CUDA provider behind it."""

    name = "onnxruntime-tensorrt"
    lowerings = ("trt-int8", "trt-fp16", "fp32")
    gpu = True
    by_name_only = True
    module = "onnxruntime"
    distributions = ("onnxruntime-gpu", "onnxruntime")

    def availability(self) -> Availability:
        """Driver, an onnxruntime with this provider, and the TensorRT that it was built for: 10 in the registry's."""
        return onnx_providers.availability(PROVIDER, "TensorRT")

    def _open(self, bundle: Bundle, node: Node, lowering: str, options: EngineOptions) -> Engine:
        settings = provider_options(bundle, node, lowering, options)
        providers = [(PROVIDER, settings), (CUDA_PROVIDER, CUDA_OPTIONS)]
        session = gpu_session(self.name, bundle, node, lowering, options, providers)
        return BoundEngine(session, self.name, lowering, precision="fp32-tf32" if lowering == "fp32" else "")


def provider_options(bundle: Bundle, node: Node, lowering: str, options: EngineOptions) -> dict[str, str]:
    """Options of the provider for one node: types, batch range, cache.

    Raises:
        BundleError: the node's file is missing or altered.
    """
    entry = node.files[lowering]  # type: ignore[index]
    half = onnx_file.has_half(onnx_file.graph_bytes(bundle, entry))
    settings = {
        "device_id": "0",
        "trt_fp16_enable": "1" if half else "0",
        "trt_int8_enable": "1" if lowering == "trt-int8" else "0",
        "trt_auxiliary_streams": "0",
    }
    settings.update(_profile(node, options.max_batch))
    place = _place(bundle, node, lowering, options.max_batch)
    if place is not None:
        settings.update(
            {
                "trt_engine_cache_enable": "1",
                "trt_engine_cache_path": str(place),
                "trt_timing_cache_enable": "1",
                "trt_timing_cache_path": str(place),
            }
        )
    return settings


def _profile(node: Node, max_batch: int) -> dict[str, str]:
    """Range of batches as ``input:1x3x224x224``; none where a contract leaves a size free: the provider then adapts."""
    shapes = {item.name: contract_shape(item) for item in node.inputs}
    rows: dict[str, list[str]] = {"min": [], "opt": [], "max": []}
    for name, shape in shapes.items():
        if shape is None or None in shape[1:]:
            return {}
        for key, batch in (("min", 1), ("opt", max_batch), ("max", max_batch)):
            rows[key].append(f"{name}:" + "x".join(str(size) for size in (batch, *shape[1:])))
    return {f"trt_profile_{key}_shapes": ",".join(texts) for key, texts in rows.items()}


def _place(bundle: Bundle, node: Node, lowering: str, max_batch: int) -> Path | None:
    """The cache folder of one engine, for this user alone; none where it cannot be written."""
    import onnxruntime as ort

    told = f"{bundle.hash}|{node.name}|{lowering}|{max_batch}|{ort.__version__}|{onnx_providers.cuda_release()}"
    parent = cache.folder() / _FOLDER
    place = parent / hashlib.sha256(told.encode()).hexdigest()[:32]
    try:
        # Loading an engine is running code from it.
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.touch()
    except OSError:
        return None
    _prune(parent)
    return place


def _prune(parent: Path) -> None:
    """Forget the folders that were not used for longest, beyond 32."""
    dated: list[tuple[int, Path]] = []
    with contextlib.suppress(OSError):
        for path in parent.iterdir():
            with contextlib.suppress(OSError):
                dated.append((path.stat().st_mtime_ns, path))
    for _, path in sorted(dated, reverse=True)[_MOST_FOLDERS:]:
        shutil.rmtree(path, ignore_errors=True)


BACKEND = OnnxRuntimeTensorRTBackend()
