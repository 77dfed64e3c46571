"""TensorRT: plans that were built on this device, run by name in device buffers of their own.

A plan is looked up, never built here: ``memedge build`` and ``memedge run`` build. Everything of a device happens in
the one worker thread that its engines and executors share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..cuda.driver_errors import unless_lost
from ..cuda.memory import DeviceBuffer, PinnedBuffer
from ..cuda.tensors import Layout
from ..cuda.worker import Worker
from ..errors import CudaError, EngineError, MemedgeError
from ..manifest import Node
from ..plans import LOWERINGS, library, lookup
from ..plans.machine import Machine
from ..plans.runtime import LoadedPlan, PlanContext
from ..plans.store import Plan
from .base import Availability, Backend, Engine, EngineOptions, first_line


class TensorRTEngine(Engine):
    """A plan with numpy arrays in and out; one upload, one inference and one read-back per run.

    Nothing but the plan itself lies on the device before the first run: an executor that brings buffers of its own
    takes ``plan`` and ``worker`` and never runs the engine.

    Attributes:
        plan: the loaded plan; used in the worker's thread only.
        worker: the device's thread, held until ``close``.
    """

    def __init__(self, node: Node, lowering: str, plan: Plan) -> None:
        from ..cuda import shared

        trt = library.tensorrt()
        self.worker: Worker = shared.hold()
        try:
            what = f"engine tensorrt: node '{node.name}' ({lowering})"
            self.plan = self.worker.call(lambda: LoadedPlan(trt, plan.data, what))
        except BaseException:
            shared.let_go(self.worker)
            raise
        super().__init__("tensorrt", lowering, self.plan.inputs, self.plan.outputs)
        self._runner: _Runner | None = None

    @property
    def max_batch(self) -> int:
        """Frames that one inference may take together."""
        return self.plan.max_batch

    def _run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        def infer() -> dict[str, NDArray[Any]]:
            self._runner = self._runner or _Runner(self.worker, self.plan)
            return self._runner.infer(inputs)

        return self.worker.call(infer)

    def _close(self) -> None:
        from ..cuda import shared

        def free() -> None:
            if self._runner is not None:
                self._runner.close()
            self.plan.close()

        try:
            self.worker.call(free)
        finally:
            shared.let_go(self.worker)


class _Runner:
    """Stream, context and buffers of one engine; lives in the worker's thread."""

    def __init__(self, worker: Worker, plan: LoadedPlan) -> None:
        self._driver = worker.driver
        self._plan = plan
        self._stream = self._driver.stream_create()
        self._context: PlanContext | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._layouts: tuple[Layout, Layout] | None = None
        self._device: dict[str, DeviceBuffer] = {}
        self._host: dict[str, PinnedBuffer] = {}

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """One inference, waited for."""
        arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        layouts = self._arrange({name: array.shape for name, array in arrays.items()})
        given, made = layouts
        for name, view in given.views(self._host["inputs"].array).items():
            view[...] = arrays[name]
        driver, stream, device, host = self._driver, self._stream, self._device, self._host
        try:
            driver.copy_to_device(device["inputs"].address, host["inputs"].address, given.size, stream)
            assert self._context is not None
            self._context.enqueue(stream)
            driver.copy_to_host(host["outputs"].address, device["outputs"].address, made.size, stream)
        finally:
            # Also after a refusal: what was queued before it reads the buffers.
            driver.stream_synchronize(stream)
        return {name: np.array(view) for name, view in made.views(host["outputs"].array).items()}

    def _arrange(self, shapes: dict[str, tuple[int, ...]]) -> tuple[Layout, Layout]:
        """Context and buffers for these shapes; kept while they stay the same."""
        if self._layouts is not None and shapes == self._shapes:
            return self._layouts
        self._layouts = None
        if self._context is None:
            self._context = self._plan.context()
        sizes = self._context.shape(shapes)
        made = Layout(self._plan.inputs, shapes), Layout(self._plan.outputs, sizes)
        for key, layout in zip(("inputs", "outputs"), made, strict=True):
            if key not in self._device or self._device[key].size < layout.size:
                for old in (self._device.pop(key, None), self._host.pop(key, None)):
                    if old is not None:
                        old.close()
                self._device[key] = DeviceBuffer(self._driver, layout.size)
                self._host[key] = PinnedBuffer(self._driver, layout.size)
            self._context.address(layout.addresses(self._device[key].address))
        self._shapes, self._layouts = dict(shapes), made
        return made

    def close(self) -> None:
        """Free everything."""
        if self._context is not None:
            self._context.close()
        for buffer in (*self._device.values(), *self._host.values()):
            buffer.close()
        unless_lost(lambda: self._driver.stream_destroy(self._stream))


class TensorRTBackend(Backend):
    """Plans of the int8, half and float graphs, in the order in which ``auto`` takes them."""

    name = "tensorrt"
    lowerings = LOWERINGS
    gpu = True
    module = "tensorrt"
    distributions = ("tensorrt", "tensorrt-cu12", "tensorrt-cu13")

    def availability(self) -> Availability:
        """What is missing, in this order: driver, package that speaks to it, device, TensorRT, its version."""
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
        machine = Machine.here(library.tensorrt())
        return open_plan(node, lowering, lookup.find(bundle, node, lowering, options.max_batch, machine))


def open_plan(node: Node, lowering: str, plan: Plan) -> TensorRTEngine:
    """A node's engine out of a plan that was read from the store or has just been built.

    Raises:
        PlanMismatch, PlanError: TensorRT refuses the plan.
        CudaError: no driver, no device, no memory.
    """
    return TensorRTEngine(node, lowering, plan)


def _devices() -> tuple[str, ...]:
    from ..cuda.opening import load_driver

    try:
        return tuple(info.name for info in load_driver().devices())
    except CudaError:  # a module that stands in for TensorRT where no driver is
        return ()


BACKEND = TensorRTBackend()
