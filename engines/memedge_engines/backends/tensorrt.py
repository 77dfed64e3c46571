"""TensorRT: plans that were built on this device, run by name in device buffers of their own.

A plan is looked up, never built here: ``memedge build`` and ``memedge run`` build. Everything of a device happens in
the one worker thread that its engines and executors share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..bundle import Bundle
from ..errors import CudaError, EngineError, MemedgeError
from ..manifest import Node
from ..plans import LOWERINGS
from .base import Availability, Backend, Engine, EngineOptions, first_line

if TYPE_CHECKING:
    from ..plans.store import Plan


class TensorRTBackend(Backend):
    """Plans of the int8, half and float graphs, in the order in which ``auto`` takes them."""

    name = "tensorrt"
    lowerings = LOWERINGS
    gpu = True
    module = "tensorrt"
    distributions = ("tensorrt", "tensorrt-cu12", "tensorrt-cu13")

    def availability(self) -> Availability:
        """What is missing, in this order: driver, package that speaks to it, device, TensorRT, its version."""
        from ..plans import library

        try:
            trt = library.tensorrt()
            devices = _devices()
        except MemedgeError as error:
            return Availability(False, error.message, error.fix)
        except Exception as error:  # a driver's package that fails in whatever way
            return Availability(False, f"TensorRT cannot be used: {first_line(error)}", "memedge doctor")
        return Availability(True, version=str(trt.__version__), devices=devices)

    def _open(self, bundle: Bundle, node: Node, lowering: str, options: EngineOptions) -> Engine:
        if options.bf16:
            raise EngineError(f"engine {self.name} does not compute in bf16; openvino does", fix="--engine openvino")
        from ..plans import library, lookup
        from ..plans.machine import Machine

        machine = Machine.here(library.tensorrt())
        return open_plan(node, lowering, lookup.find(bundle, node, lowering, options.max_batch, machine))


def open_plan(node: Node, lowering: str, plan: Plan) -> Engine:
    """A node's engine out of a plan that was read from the store or has just been built.

    Raises:
        PlanMismatch, PlanError: TensorRT refuses the plan.
        CudaError: no driver, no device, no memory.
    """
    from ..plans.engine import TensorRTEngine

    return TensorRTEngine(node, lowering, plan)


def _devices() -> tuple[str, ...]:
    from ..cuda.opening import load_driver

    try:
        return tuple(info.name for info in load_driver().devices())
    except CudaError:  # a module that stands in for TensorRT where no driver is
        return ()


BACKEND = TensorRTBackend()
