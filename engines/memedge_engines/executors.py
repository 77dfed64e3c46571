"""Which executor runs opened engines: the GPU's for a frame model on TensorRT, else the host's."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .backends.base import Engine
from .bundle import Bundle
from .device import Device
from .executor import Executor
from .host_executor import HostExecutor


def make(
    bundle: Bundle,
    engines: Mapping[str, Engine],
    max_batch: int = 1,
    tell: Callable[[str], None] = lambda text: None,
) -> Executor:
    """An executor that owns the engines (graph node name to engine); they are closed when it cannot be made.

    Args:
        max_batch: largest batch given to an engine of the host's executor.
        tell: told, in one line each, what is worth knowing of how frames are run.

    Raises:
        EngineError: the device refuses.
    """
    try:
        if any(engine.name == "tensorrt" for engine in engines.values()):
            return _on_gpu(bundle, engines, max_batch, tell)
        return HostExecutor(bundle, engines, max_batch=max_batch)
    except BaseException:
        for engine in engines.values():
            engine.close()
        raise


def _on_gpu(bundle: Bundle, engines: Mapping[str, Engine], max_batch: int, tell: Callable[[str], None]) -> Executor:
    from .cuda.device import CudaDevice
    from .cuda_executor import CudaExecutor, fits
    from .plans.engine import TensorRTEngine

    ours = [engine for engine in engines.values() if isinstance(engine, TensorRTEngine)]
    if fits(bundle.manifest) and len(ours) == 1:
        return CudaExecutor(bundle, ours[0], tell)
    # Pictures of several presets, windows and nodes: pictures on the host, which also reads what lies on the device.
    device: Device | None = CudaDevice() if ours else None
    return HostExecutor(bundle, engines, device, max_batch=max_batch)
