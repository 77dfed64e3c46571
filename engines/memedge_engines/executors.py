"""Which executor runs opened engines: the GPU's for a frame model on TensorRT, else the host's."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .backends.base import Engine
from .bundle import Bundle
from .device import AutoDevice
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
        found = _on_gpu(bundle, engines, tell) if any(e.name == "tensorrt" for e in engines.values()) else None
        return found or HostExecutor(bundle, engines, AutoDevice(), max_batch=max_batch)
    except BaseException:
        for engine in engines.values():
            engine.close()
        raise


def _on_gpu(bundle: Bundle, engines: Mapping[str, Engine], tell: Callable[[str], None]) -> Executor | None:
    """The GPU's executor; none for windows, several presets or nodes, which the host's executor runs."""
    from .cuda_executor import CudaExecutor, fits
    from .plans.engine import TensorRTEngine

    ours = [engine for engine in engines.values() if isinstance(engine, TensorRTEngine)]
    return CudaExecutor(bundle, ours[0], tell) if fits(bundle.manifest) and len(ours) == 1 else None
