"""The CPU's executor: one worker thread, a depth of one, the same seam as a GPU's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from . import extractors
from .backends.base import Engine
from .bundle import Bundle
from .dataflow import Due, NodeValue, StreamState, picture_key
from .device import Device, HostDevice, PictureMaker
from .errors import EngineError, ExecutorError
from .executor import Outputs, Ticket
from .frame import Frame
from .manifest import InputStorage, Node, NodeInput
from .streams import StreamsExecutor

T = TypeVar("T")


@dataclass
class _Job:
    """One frame of one stream on its way through the nodes."""

    stream: str
    frame: Frame
    state: StreamState
    due: Due
    values: dict[str, NDArray[Any]] = field(default_factory=dict)
    complete: dict[str, bool] = field(default_factory=dict)
    pictures: dict[tuple[object, ...], NDArray[np.uint8]] = field(default_factory=dict)
    ran: set[str] = field(default_factory=set)
    flags: set[str] = field(default_factory=set)
    preprocess_s: float = 0.0
    infer_s: float = 0.0


class HostExecutor(StreamsExecutor):
    """Executor over host memory.

    Args:
        bundle: the opened bundle.
        engines: graph node name to its opened engine; the executor closes them.
        device: where pictures are made, the CPU by default; the executor closes it.
        depth: submitted batches that may be under way at once.
        max_batch: largest batch given to an engine; frames of several streams share one.
    """

    def __init__(
        self,
        bundle: Bundle,
        engines: Mapping[str, Engine],
        device: Device | None = None,
        depth: int = 1,
        max_batch: int = 1,
    ) -> None:
        super().__init__(bundle)
        graphs = [n.name for n in self._manifest.nodes if n.kind == "graph"]
        if set(engines) != set(graphs):
            raise ExecutorError(f"engines for nodes {sorted(engines)}; the bundle has graph nodes {sorted(graphs)}")
        self._engines = dict(engines)
        self.engine = "+".join(sorted({e.name for e in engines.values()}))
        self.precision = "+".join(sorted({e.precision for e in engines.values()}, key=_bits))
        self.lowering = "+".join(sorted({e.lowering for e in engines.values()}))
        self._device: Device = device or HostDevice()
        self._max_batch = max(1, max_batch)
        self._makers: dict[tuple[object, ...], PictureMaker] = {}
        self._host = {n.name: extractors.find(n) for n in self._manifest.nodes if n.kind != "graph"}
        self._slots = threading.BoundedSemaphore(max(1, depth))
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="memedge-executor")

    def close(self) -> None:
        """See :meth:`Executor.close`."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._worker.shutdown(wait=True)
        for engine in self._engines.values():
            engine.close()
        self._device.close()
        self._streams.clear()

    def _in_order(self, work: Callable[[], T]) -> T:
        self._check_open()
        return self._worker.submit(work).result()

    # Frames ------------------------------------------------------------------------------------------------------

    def submit(self, batch: Sequence[tuple[str, Frame]]) -> Ticket:
        """See :meth:`Executor.submit`."""
        for stream, frame in batch:
            self._stream(stream)
            self._device.check(frame)
        self._slots.acquire()
        jobs: list[_Job] = []
        try:
            with self._lock:
                taken = self._take(batch)
                jobs = [_Job(stream, *one) for (stream, _), one in zip(batch, taken, strict=True)]
                submitted = time.perf_counter()
                future: Future[list[Outputs]] = self._worker.submit(self._process, jobs, submitted)
        except BaseException:
            for job in jobs:
                job.frame.release()
            self._slots.release()
            raise
        return Ticket(future)

    def _process(self, jobs: list[_Job], submitted: float) -> list[Outputs]:
        started = time.perf_counter()
        try:
            for wave in _waves(jobs):
                for job in wave:
                    self._make_pictures(job)
                for node in self._manifest.nodes:
                    self._run_node(node, wave)
            queue_ms = (started - submitted) * 1e3
            return [
                Outputs(
                    job.stream,
                    job.values,
                    job.complete,
                    tuple(sorted(job.flags)),
                    job.preprocess_s * 1e3,
                    job.infer_s * 1e3,
                    queue_ms,
                    self.engine,
                    self.precision,
                )
                for job in jobs
            ]
        finally:
            for job in jobs:
                job.frame.release()
            self._slots.release()

    def _make_pictures(self, job: _Job) -> None:
        """Preprocess the frame once per contract that a due node or a picture window needs, and fill the windows."""
        begin = time.perf_counter()
        for node in self._manifest.nodes:
            for item in node.inputs:
                contract = item.preprocess
                if contract is None:
                    continue
                keep = job.due.keeps.get((node.name, item.name))
                if keep is None and (node.name not in job.due.nodes or item.last > 1):
                    continue
                key = picture_key(contract)
                if key not in job.pictures:
                    if key not in self._makers:
                        self._makers[key] = self._device.preprocessor(contract)
                    job.pictures[key] = self._makers[key].picture(job.frame)
                if keep is not None:
                    job.state.windows[node.name, item.name].push(keep, job.frame.pts_s, job.pictures[key], True)
        job.preprocess_s = time.perf_counter() - begin

    def _run_node(self, node: Node, wave: Sequence[_Job]) -> None:
        ready: list[tuple[_Job, dict[str, Sequence[NDArray[Any]]], bool]] = []
        for job in wave:
            if node.name in job.due.nodes:
                tick = job.due.nodes[node.name]
            elif job.state.triggered(node, job.ran):
                tick = 0
            else:
                continue
            pictures = {
                i.name: job.pictures[picture_key(i.preprocess)]
                for i in node.inputs
                if i.preprocess is not None and i.last == 1
            }
            gathered = job.state.gather(node, tick, pictures)
            if gathered is None:
                continue
            inputs, complete, resampled = gathered
            if resampled:
                job.flags.add("resampled")
            ready.append((job, {name: filled.values for name, filled in inputs.items()}, complete))
        for begin in range(0, len(ready), self._max_batch):
            chunk = ready[begin : begin + self._max_batch]
            results = self._compute(node, [inputs for _, inputs, _ in chunk], [job for job, _, _ in chunk])
            for (job, _, complete), arrays in zip(chunk, results, strict=True):
                value = NodeValue(arrays, job.frame.pts_s, complete)
                job.state.accept(node, value, job.frame.duration_s, job.frame.index)
                job.values.update(arrays)
                job.complete[node.name] = complete
                job.ran.add(node.name)

    def _compute(
        self, node: Node, inputs: Sequence[Mapping[str, Sequence[NDArray[Any]]]], jobs: Sequence[_Job]
    ) -> list[dict[str, NDArray[Any]]]:
        names = [output.name for output in node.outputs]
        begin = time.perf_counter()
        if node.kind != "graph":
            function = self._host[node.name]
            rows: list[dict[str, NDArray[Any]]] = [dict(function(one, node)) for one in inputs]
        else:
            engine = self._engines[node.name]
            tensors: dict[str, NDArray[Any]] = {}
            for item in node.inputs:
                storage = node.files[engine.lowering].inputs.get(item.name) if engine.lowering in node.files else None
                tensors[item.name] = np.concatenate([to_input(item, one[item.name], storage) for one in inputs])
            middle = time.perf_counter()
            for job in jobs:
                job.preprocess_s += (middle - begin) / len(jobs)
            begin = middle
            results = engine.run(tensors)
            missing = [name for name in names if name not in results]
            if missing:
                raise EngineError(f"node '{node.name}' gave {sorted(results)}; the manifest names {missing} too")
            # Copied: an engine may reuse its output buffers, and windows keep what they are given.
            rows = [{name: np.array(results[name][i]) for name in names} for i in range(len(inputs))]
        spent = (time.perf_counter() - begin) / len(jobs)
        for job in jobs:
            job.infer_s += spent
        return [{f"{node.name}.{name}": row[name] for name in names} for row in rows]


def _bits(precision: str) -> tuple[int, str]:
    """Order of precisions: ``int8+fp16+fp32``."""
    return int("".join(filter(str.isdigit, precision.partition("-")[0])) or 0), precision


def to_input(item: NodeInput, values: Sequence[NDArray[Any]], storage: InputStorage | None) -> NDArray[Any]:
    """One node input as a tensor with a batch axis of one: pictures normalised, windows of values stacked on axis 1."""
    if item.preprocess is not None:
        from .preprocess import to_tensor

        tensor: NDArray[Any] = to_tensor(values, item.preprocess)
    elif item.last > 1:
        tensor = np.stack([np.asarray(v, np.float32) for v in values])[np.newaxis]
    else:
        tensor = np.asarray(values[0], np.float32)[np.newaxis]
    if storage is None or storage.dtype == "float32":
        return tensor
    if storage.dtype in ("int8", "uint8") and storage.scale:
        limits = np.iinfo(storage.dtype)
        return np.clip(np.rint(tensor / storage.scale), limits.min, limits.max).astype(storage.dtype)
    return tensor.astype(storage.dtype)


def _waves(jobs: Sequence[_Job]) -> list[list[_Job]]:
    """Jobs in groups that hold each stream at most once, in order: frames of one stream depend on each other."""
    waves: list[list[_Job]] = []
    for job in jobs:
        place = max((i for i, wave in enumerate(waves) if any(j.stream == job.stream for j in wave)), default=-1) + 1
        if place >= len(waves):
            waves.append([])
        waves[place].append(job)
    return waves
