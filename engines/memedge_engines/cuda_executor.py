"""The GPU's executor of frame models: source -> device -> score with one upload, one kernel, one inference and one
read-back.

One worker thread owns the device. It queues a batch into a free slot and looks whether an earlier one is done; while
nothing new comes it looks again as often as the last batches' duration makes useful. So a batch ends promptly whether
or not another one follows, and the next one is queued behind it as soon as it comes.

Times in ``Outputs``: ``preprocess_ms`` is the host's share and the copy, and the kernel too where frames are not
captured; ``infer_ms`` is the rest, by CUDA events: inference and read-back, and the kernel too where frames are
captured. Both include waiting for the other slot's work on the device.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import numpy as np

from .bundle import Bundle
from .cuda import ending
from .cuda.device import check_planes
from .cuda.driver_errors import context_lost
from .cuda.pipeline import SLOTS, Pipeline
from .cuda.requests import Chunk, Item, Request, chunks
from .cuda.slots import Slot
from .dataflow import NodeValue
from .errors import CudaError, EngineError, ExecutorError
from .executor import Outputs, Ticket
from .frame import Frame
from .manifest import InputStorage, Manifest
from .plans.engine import TensorRTEngine
from .streams import StreamsExecutor

T = TypeVar("T")
# The thread looks at least this far apart; a look takes some ten microseconds.
_SHORTEST_PAUSE_S = 50e-6
_OVERDUE_SHARE = 1 / 32


def fits(manifest: Manifest) -> bool:
    """Whether a bundle is one graph over the present frame alone, which is what this executor runs."""
    if len(manifest.nodes) != 1 or manifest.nodes[0].kind != "graph" or len(manifest.nodes[0].inputs) != 1:
        return False
    item = manifest.nodes[0].inputs[0]
    return item.preprocess is not None and item.last == 1 and item.preprocess.layout == "nchw"


class CudaExecutor(StreamsExecutor):
    """Executor over one device; two batches may be under way.

    Args:
        bundle: one for which :func:`fits` holds.
        engine: its plan; the executor closes it. Batches are as large as its profile allows.
        tell: told, in one line each, what is worth knowing (no graph capture, how outputs are read back).

    Attributes:
        way: how frames and outputs are moved: measured on opening where the device shares the host's memory.

    Raises:
        EngineError: the device refuses, or the plan gives something that is not finite. The engine stays open.
    """

    def __init__(self, bundle: Bundle, engine: TensorRTEngine, tell: Callable[[str], None] = lambda text: None) -> None:
        super().__init__(bundle)
        if not fits(bundle.manifest):
            raise ExecutorError(f"bundle '{bundle.manifest.name}' is not a single graph over the present frame")
        self.engine, self.precision, self.lowering = engine.name, engine.precision, engine.lowering
        self._engine = engine
        self._node = bundle.manifest.nodes[0]
        self._worker = engine.worker
        self._depth = threading.BoundedSemaphore(SLOTS)
        self._waiting: deque[Chunk] = deque()
        self._running: deque[tuple[Slot, Chunk, float]] = deque()
        self._lost: EngineError | None = None
        self._usual_s = 0.0
        self._pipeline = self._worker.call(lambda: self._open(tell))
        self.way = self._pipeline.way
        self._idle = list(self._pipeline.slots)
        self._worker.watch(self._look)
        ending.users.discard(engine)
        ending.users.add(self)

    @property
    def captured(self) -> bool:
        """Whether frames are replayed as one CUDA graph."""
        return self._pipeline.captured

    def _open(self, tell: Callable[[str], None]) -> Pipeline:
        item = self._node.inputs[0]
        assert item.preprocess is not None
        storage = self._node.files[self.lowering].inputs.get(item.name)  # type: ignore[index]
        driver = self._worker.driver
        info = driver.devices()[0]
        return Pipeline(driver, info, self._engine.plan, item.preprocess, storage or InputStorage(), tell)

    def _in_order(self, work: Callable[[], T]) -> T:
        self._check_open()

        def after_all() -> T:
            self._drain()
            return work()

        return self._worker.call(after_all)

    def submit(self, batch: Sequence[tuple[str, Frame]]) -> Ticket:
        """See :meth:`Executor.submit`. Raises EngineError once the device has failed for good."""
        self._check_usable(batch)
        self._depth.acquire()
        request: Request | None = None
        try:
            with self._lock:
                self._check_usable(batch)
                taken = self._take(batch)
                items = [Item(stream, *one) for (stream, _), one in zip(batch, taken, strict=True)]
                request = Request(items, [self._nothing(stream) for stream, _ in batch])
                self._worker.submit(lambda: self._accept(request))
        except BaseException:
            for item in request.items if request is not None else ():
                item.frame.release()
            self._depth.release()
            raise
        return Ticket(request.future)

    def close(self) -> None:
        """See :meth:`Executor.close`."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        ending.users.discard(self)

        def end() -> None:
            self._drain()
            self._pipeline.close()

        self._worker.unwatch(self._look)
        try:
            self._worker.call(end)
        finally:
            self._engine.close()
            self._streams.clear()

    def _check_usable(self, batch: Sequence[tuple[str, Frame]]) -> None:
        if self._lost is not None and not self._closed:
            raise self._lost
        for stream, frame in batch:
            self._stream(stream)
            check_planes(frame)

    def _nothing(self, stream: str) -> Outputs:
        """Of a frame at which nothing is due."""
        return Outputs(stream, {}, {}, engine=self.engine, precision=self.precision)

    # In the worker's thread --------------------------------------------------------------------------------------

    def _accept(self, request: Request) -> None:
        made = list(chunks(request, self._node.name, self._engine.max_batch))
        request.under_way = len(made)
        if self._lost is not None:
            self._give_up(request, self._lost)
        if not made:
            self._settle(request)
        self._waiting.extend(made)
        self._advance()

    def _look(self) -> float | None:
        """The worker's watch: seconds until the next look, none where nothing is under way."""
        self._advance()
        if not self._running:
            return None
        expected = self._usual_s - (time.perf_counter() - self._running[0][2])
        return max(_SHORTEST_PAUSE_S, expected / 2, self._usual_s * _OVERDUE_SHARE if expected < 0 else 0.0)

    def _advance(self) -> None:
        while self._running and self._ended(self._running[0]):
            self._running.popleft()
        while self._waiting and self._idle:
            self._begin(self._idle.pop(), self._waiting.popleft())

    def _begin(self, slot: Slot, chunk: Chunk) -> None:
        if chunk.request.error is None:
            began = time.perf_counter()
            try:
                slot.start(chunk.frames)
            except BaseException as error:
                self._give_up(chunk.request, error)
            else:
                self._running.append((slot, chunk, began))
                return
        self._idle.append(slot)
        self._leave(chunk)

    def _ended(self, running: tuple[Slot, Chunk, float]) -> bool:
        """Whether the oldest batch has ended, in whatever way; its slot is idle then."""
        slot, chunk, began = running
        try:
            if not slot.done():
                return False
            self._bring(slot, chunk, began)
        except BaseException as error:
            self._give_up(chunk.request, error)
            with suppress(EngineError):
                slot.settle()
        self._idle.append(slot)
        self._leave(chunk)
        return True

    def _bring(self, slot: Slot, chunk: Chunk, began: float) -> None:
        finished = slot.finish()
        self._usual_s = (finished.preprocess_ms + finished.infer_ms) / 1e3
        request, count, name = chunk.request, len(chunk.places), self._node.name
        keys = [output.name for output in self._node.outputs]
        for row, place in enumerate(chunk.places):
            item = request.items[place]
            values = {f"{name}.{key}": np.array(finished.outputs[key][row]) for key in keys}
            value = NodeValue(values, item.frame.pts_s, True)
            item.state.accept(self._node, value, item.frame.duration_s, item.frame.index)
            request.outputs[place] = Outputs(
                item.stream,
                values,
                {name: True},
                preprocess_ms=finished.preprocess_ms / count,
                infer_ms=finished.infer_ms / count,
                queue_ms=(began - request.submitted) * 1e3,
                engine=self.engine,
                precision=self.precision,
            )

    def _give_up(self, request: Request, error: BaseException) -> None:
        """A request fails with what went wrong first; where the context is lost, so does everything."""
        if context_lost(error) and self._lost is None:
            assert isinstance(error, CudaError)
            self._lost = EngineError(
                f"the GPU failed, and this process cannot use it any more: {error.message}", fix=error.fix
            )
            for chunk in (*self._waiting, *(chunk for _, chunk, _ in self._running)):
                chunk.request.error = chunk.request.error or self._lost
        request.error = request.error or self._lost or error

    def _leave(self, chunk: Chunk) -> None:
        chunk.request.under_way -= 1
        if not chunk.request.under_way:
            self._settle(chunk.request)

    def _settle(self, request: Request) -> None:
        # Before the ticket is done: whoever waits for it may submit at once.
        self._depth.release()
        request.settle()

    def _drain(self) -> None:
        """Wait until everything that was accepted has ended."""
        while self._running or self._waiting:
            if self._running:
                with suppress(EngineError):  # the look below finds it again, and tells the ticket
                    self._running[0][0].wait()
            self._advance()
