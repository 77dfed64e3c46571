"""A plan behind the engine seam: numpy arrays in and out, device and page-locked buffers of its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends.base import Engine
from ..cuda import ending, shared
from ..cuda.driver_errors import unless_lost
from ..cuda.memory import DeviceBuffer, PinnedBuffer
from ..cuda.tensors import Layout
from ..cuda.worker import Worker
from ..manifest import Node
from . import library
from .runtime import LoadedPlan, PlanContext
from .store import Plan


class TensorRTEngine(Engine):
    """A plan with numpy arrays in and out; one upload, one inference and one read-back per run.

    Nothing but the plan itself lies on the device before the first run: an executor that brings buffers of its own
    takes ``plan`` and ``worker`` and never runs the engine.

    Attributes:
        plan: the loaded plan; used in the worker's thread only.
        worker: the device's thread, held until ``close``.
    """

    def __init__(self, node: Node, lowering: str, plan: Plan) -> None:
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
        ending.users.add(self)

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
        def free() -> None:
            if self._runner is not None:
                self._runner.close()
            self.plan.close()

        ending.users.discard(self)
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
        unless_lost(partial(self._driver.stream_destroy, self._stream))
