"""A slot: everything that one batch of frames needs on its way through the device, in a stream of its own.

Two slots overlap: while one infers, the other one's frames are copied and preprocessed. A slot holds one batch at a
time; its pinned memory is written and read only when nothing of it is queued.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..frame import Frame
from ..plans.runtime import LoadedPlan
from .capture import Capture
from .driver import ALIGNMENT, Driver
from .driver_errors import unless_lost
from .memory import DeviceBuffer, PinnedBuffer
from .pictures import PicturesToTensor
from .tensors import Layout, Shape


@dataclass(frozen=True)
class Finished:
    """What a batch brought: outputs with the batch as first axis; milliseconds of the whole batch."""

    outputs: dict[str, NDArray[Any]]
    preprocess_ms: float
    infer_ms: float


class Arrangement:
    """Execution context, buffers and graph for one shape of the input: none of it moves while it is held.

    One context for each shape, since a context whose shape changes makes graphs that were captured from it invalid.
    What changes from frame to frame (planes, pitches, colour, crop) lies in the maker's parameter block.

    Attributes:
        input: address of the input.
        graph: executable of kernel, inference and read-back, or none.
    """

    def __init__(self, driver: Driver, plan: LoadedPlan, scratch: DeviceBuffer, shape: Shape, mapped: bool) -> None:
        self._driver = driver
        self.graph: int | None = None
        self._buffers: list[DeviceBuffer | PinnedBuffer] = []
        self.context = plan.context((scratch.address, scratch.size))
        try:
            name = plan.inputs[0].name
            sizes = self.context.shape({name: shape})
            given, self._made = Layout(plan.inputs, {name: shape}), Layout(plan.outputs, sizes)
            source = DeviceBuffer(driver, given.size)
            self._buffers.append(source)
            self.input = source.address
            self._host = PinnedBuffer(driver, self._made.size, mapped)
            self._buffers.append(self._host)
            if mapped:
                self._output = self._host.device_address
            else:
                target = DeviceBuffer(driver, self._made.size)
                self._buffers.append(target)
                self._output = target.address
            self._mapped = mapped
            self.context.address({**given.addresses(self.input), **self._made.addresses(self._output)})
        except BaseException:
            self.close()
            raise

    def infer(self, stream: int) -> None:
        """Queue the inference and the read-back of all outputs."""
        self.context.enqueue(stream)
        if not self._mapped:
            self._driver.copy_to_host(self._host.address, self._output, self._made.size, stream)

    def outputs(self) -> dict[str, NDArray[Any]]:
        """Copies of the outputs; nothing may be queued."""
        return {name: np.array(view) for name, view in self._made.views(self._host.array).items()}

    def close(self) -> None:
        """Give everything back, the graph before what it uses."""
        graph, self.graph = self.graph, None
        if graph is not None:
            unless_lost(partial(self._driver.executable_destroy, graph))
        self.context.close()
        for buffer in self._buffers:
            buffer.close()


class Slot:
    """One batch's place on the device; see the module.

    Args:
        number: which of ``maker``'s slots is this one's.
        driver: bound; everything of a slot happens in its thread.
        plan: takes one input.
        maker: makes that input out of frames.
        capture: shared by all slots of an executor.
        mapped: outputs are written straight into page-locked memory instead of being copied there.
    """

    SHAPES = 4

    def __init__(
        self, number: int, driver: Driver, plan: LoadedPlan, maker: PicturesToTensor, capture: Capture, mapped: bool
    ) -> None:
        self._number = number
        self._driver = driver
        self._plan = plan
        self._maker = maker
        self._capture = capture
        self.mapped = mapped
        self._arranged: OrderedDict[Shape, Arrangement] = OrderedDict()
        self._present: Arrangement | None = None
        self._host_ms = 0.0
        self._events: list[int] = []
        self._scratch: DeviceBuffer | None = None
        self._stream = driver.stream_create()
        try:
            self._events = [driver.event_create(timing=True) for _ in range(3)]
            # Contexts of one slot never run at the same time: they share the memory that they run in.
            self._scratch = DeviceBuffer(driver, max(plan.scratch_bytes, ALIGNMENT))
        except BaseException:
            self.close()
            raise

    def start(self, frames: Sequence[Frame]) -> None:
        """Queue the frames' copies, the kernel, the inference and the read-back.

        The first batch of a shape is waited for, since it is what a capture needs to have run before.

        Raises:
            FrameError, PreprocessError: frames that cannot be preprocessed.
            EngineError: the device or TensorRT refuses. Nothing is queued any more then.
        """
        arrangement = self._present = self._arrange((len(frames), *self._maker.picture_shape(frames[0])))
        driver, maker, stream, (begin, middle, end) = self._driver, self._maker, self._stream, self._events
        began = time.perf_counter()
        maker.prepare(self._number, frames, arrangement.input)
        self._host_ms = (time.perf_counter() - began) * 1e3
        graph = arrangement.graph
        try:
            driver.event_record(begin, stream)
            maker.upload(self._number, stream)
            if graph is not None:
                driver.event_record(middle, stream)
                driver.graph_launch(graph, stream)
            else:
                maker.launch(self._number, stream)
                driver.event_record(middle, stream)
                arrangement.infer(stream)
            driver.event_record(end, stream)
            if graph is None and self._capture.on:
                driver.stream_synchronize(stream)

                def again() -> None:
                    maker.launch(self._number, stream)
                    arrangement.infer(stream)

                arrangement.graph = self._capture.graph(stream, again)
        except BaseException:
            # The next batch writes the same memory: nothing that was queued before the refusal may still read it.
            self.settle()
            raise

    def done(self) -> bool:
        """Whether the batch's outputs are there; raises what went wrong on the device."""
        return self._driver.event_query(self._events[2])

    def wait(self) -> None:
        """Block until they are."""
        self._driver.event_synchronize(self._events[2])

    def settle(self) -> None:
        """Block until nothing is queued, whatever became of it."""
        unless_lost(partial(self._driver.stream_synchronize, self._stream))

    def finish(self) -> Finished:
        """The outputs of a batch that is done."""
        assert self._present is not None
        begin, middle, end = self._events
        before = self._driver.event_elapsed_ms(begin, middle)
        return Finished(self._present.outputs(), self._host_ms + before, self._driver.event_elapsed_ms(middle, end))

    def _arrange(self, shape: Shape) -> Arrangement:
        found = self._arranged.get(shape)
        if found is None:
            while len(self._arranged) >= self.SHAPES:
                self._arranged.popitem(last=False)[1].close()
            assert self._scratch is not None
            found = Arrangement(self._driver, self._plan, self._scratch, shape, self.mapped)
            self._arranged[shape] = found
        self._arranged.move_to_end(shape)
        return found

    def close(self) -> None:
        """Give everything back; nothing may be queued. Safe to call twice."""
        self._present = None
        while self._arranged:
            self._arranged.popitem()[1].close()
        if self._scratch is not None:
            self._scratch.close()
        while self._events:
            unless_lost(partial(self._driver.event_destroy, self._events.pop()))
        stream, self._stream = self._stream, 0
        if stream:
            unless_lost(partial(self._driver.stream_destroy, stream))
