"""One pass of the calibration frames through the float graph, with every float activation as an extra output.

Cost: every value of every tensor is looked at, nothing is sampled. Ranges are exact; histograms take some five passes
over blocks that stay in the cache (scale, floor, convert, count), two nanoseconds a value, which is about as much again
as the inference itself. A tensor that only a ReLU or Clip reads gets no histogram: it is never quantised, since the
activation is fused into the operator before it; its exact range is kept.

Memory: the activations of one frame, plus 32 KiB a histogram.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memedge.console import progress, status
from memedge_engines import cache

from ..errors import ExportError
from .calib_statistics import Statistics, TensorStatistics
from .ranges import graph_hash

Feed = Mapping[str, NDArray[np.float32]]

SAVE_EVERY_S = 20.0
# They are fused into the operator before them, which then rounds once, after them.
_FUSED = frozenset({"Relu", "Clip"})


def collect(
    graph: bytes,
    frames: Iterable[Feed],
    *,
    source: str,
    total: int | None = None,
    state: Path | None = None,
    every_s: float = SAVE_EVERY_S,
    threads: int = 0,
) -> Statistics:
    """Statistics of every float activation of a graph over all frames.

    An interrupted pass goes on where it was saved: frames that were seen before are read again, compared by their hash
    and not run. Saved statistics of another graph or of other frames are left aside. Uninterrupted or not, the result
    is the same to the last bit.

    Args:
        graph: ONNX bytes of the float graph.
        frames: inputs of the graph, one frame each, float32 with a batch axis of 1; iterated once, twice when saved
            statistics turn out to be of other frames.
        source: what the frames are, in words, for the range table.
        total: number of frames where known, for the progress.
        state: file that keeps the statistics of an interrupted pass, see :func:`state_path`; removed at the end.
        every_s: seconds between two saves.
        threads: of the inference; 0: one for each usable core.

    Raises:
        ExportError: a graph that cannot be run or has no float activations, an activation that is not finite, or no
            frame at all.
    """
    session, names = _session(graph, threads)
    inputs = {argument.name for argument in session.get_inputs()}
    sha256 = graph_hash(graph)
    saved = None if state is None else Statistics.load(state, sha256, source, names)
    if saved is not None and saved.frames:
        status(f"calibration goes on after the {saved.frames} frames of an interrupted one ({state})")
    run = _Pass(session, [name for name in names if name not in inputs], saved or _empty(sha256, source, names))
    keep = _Keeper(state, every_s)
    stream = iter(frames)
    with progress("calibrating", total) as bar:
        if saved is not None:
            seen = 0
            for expected in saved.hashes:
                feed = next(stream, None)
                if feed is None or feed_hash(feed) != expected:
                    break
                seen += 1
                bar.advance()
            if seen < saved.frames:
                status("the saved statistics are of other frames: starting anew")
                if stream is frames:
                    raise ExportError(f"'{state}' holds statistics of other frames", fix=f"remove {state}")
                run.statistics = _empty(sha256, source, names)
                stream = iter(frames)
                bar.advance(-seen)
        _run(run, stream, keep, bar)
    if not run.statistics.frames:
        raise ExportError("no calibration frames were given; expected at least one")
    keep.remove()
    return run.statistics


def state_path(graph: bytes, frames_key: str) -> Path:
    """Where a pass over these frames is kept while it runs: in the user's cache folder, named by graph and frames."""
    name = hashlib.sha256(f"{graph_hash(graph)}:{frames_key}".encode()).hexdigest()[:32]
    return cache.folder() / "calibration" / f"{name}.npz"


def feed_hash(feed: Feed) -> str:
    """SHA-256 of one frame's input tensors, in hex: names, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(feed):
        tensor = np.ascontiguousarray(feed[name])
        digest.update(f"{name}:{tensor.dtype.str}:{tensor.shape}\n".encode())
        digest.update(tensor.data)
    return digest.hexdigest()


def activations(model: Any) -> dict[str, bool]:
    """Float activation tensors of an ``onnx.ModelProto``: name -> whether it gets a histogram, in the graph's order.

    Inputs and whatever a node computes count; weights and constants do not.

    Raises:
        ExportError: shape inference fails, or there is no float activation.
    """
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise ExportError(f"the float graph's shapes cannot be inferred: {error}") from None
    inner = inferred.graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*inner.input, *inner.value_info, *inner.output)}
    weights = {tensor.name for tensor in inner.initializer}
    readers: dict[str, set[str]] = {}
    made = [value.name for value in inner.input if value.name not in weights]
    for node in inner.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
        if node.op_type != "Constant":
            made.extend(name for name in node.output if name)
    names = [name for name in made if kinds.get(name) == onnx.TensorProto.FLOAT]
    if not names:
        raise ExportError("the graph has no float activations; expected a float32 graph")
    outputs = {value.name for value in inner.output}
    return {name: name in outputs or not (readers.get(name, set()) and readers[name] <= _FUSED) for name in names}


def _session(graph: bytes, threads: int) -> tuple[Any, dict[str, bool]]:
    """A session that gives every activation, and their names."""
    import onnx

    from memedge_engines.backends.base import first_line
    from memedge_engines.backends.onnxruntime import session_options

    try:
        model = onnx.load_model_from_string(graph)
    except Exception as error:  # protobuf's own error has no stable name
        raise ExportError(f"the float graph cannot be read: {first_line(error)}") from None
    names = activations(model)
    there = {value.name for value in (*model.graph.input, *model.graph.output)}
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names if name not in there
    )
    import onnxruntime

    data = model.SerializeToString()
    del model  # the weights are in memory often enough
    try:
        session = onnxruntime.InferenceSession(data, session_options(threads), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base class
        raise ExportError(f"ONNX Runtime refuses the float graph: {first_line(error)}") from None
    return session, names


def _empty(sha256: str, source: str, names: Mapping[str, bool]) -> Statistics:
    tensors = {name: TensorStatistics() if on else TensorStatistics(counts=None) for name, on in names.items()}
    return Statistics(sha256, source, [], tensors)


class _Pass:
    """The session and what was found so far; ``whole`` is false while a frame is half counted."""

    def __init__(self, session: Any, names: list[str], statistics: Statistics) -> None:
        self.session = session
        self.names = names
        self.statistics = statistics
        self.whole = True

    def add(self, feed: Feed) -> None:
        """Run one frame and count its activations."""
        from memedge_engines.backends.base import first_line

        number = self.statistics.frames + 1
        digest = feed_hash(feed)
        self._count(feed.items(), number)
        try:
            values = self.session.run(self.names, dict(feed))
        except Exception as error:
            raise ExportError(f"calibration frame {number} cannot be run: {first_line(error)}") from None
        self._count(zip(self.names, _taken(values), strict=True), number)
        self.statistics.hashes.append(digest)
        self.whole = True

    def _count(self, pairs: Iterable[tuple[str, NDArray[np.float32]]], number: int) -> None:
        for name, value in pairs:
            found = self.statistics.tensors.get(name)
            if found is None:
                continue
            self.whole = False
            try:
                found.add(value)
            except ValueError:
                bad = "NaN" if np.isnan(value).any() else "infinite"
                raise ExportError(
                    f"tensor '{name}' is {bad} on calibration frame {number}; expected finite numbers",
                    fix="check the weights: the float graph itself overflows",
                ) from None


def _taken(values: list[Any]) -> Iterator[NDArray[np.float32]]:
    """The arrays one by one, each forgotten once it is used."""
    for index in range(len(values)):
        value, values[index] = values[index], None
        yield value


class _Keeper:
    """Saves statistics every few seconds. A state that cannot be written costs only the resumption."""

    def __init__(self, path: Path | None, every_s: float) -> None:
        self._path = path
        self._every_s = every_s
        self._last = time.monotonic()

    def offer(self, statistics: Statistics, *, now: bool = False) -> None:
        """Save when it is time."""
        if self._path is None or not (now or time.monotonic() - self._last >= self._every_s):
            return
        try:
            statistics.save(self._path)
        except OSError as error:
            status(f"'{self._path}' cannot be written ({error.strerror or error}): an interrupted run will start anew")
            self._path = None
        self._last = time.monotonic()

    def remove(self) -> None:
        """Forget the saved statistics."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)


def _run(run: _Pass, stream: Iterator[Feed], keep: _Keeper, bar: Any) -> None:
    try:
        for feed in stream:
            run.add(feed)
            bar.advance()
            keep.offer(run.statistics)
    except KeyboardInterrupt:
        # Half a frame is not saved: the last regular save, at most ``every_s`` old, stays then.
        if run.whole and run.statistics.frames:
            keep.offer(run.statistics, now=True)
        raise
