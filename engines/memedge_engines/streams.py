"""Open streams of an executor: what every executor does alike, whatever its device.

An executor on top of this keeps its work in order in one thread and says so by ``_in_order``; the state of a stream is
touched only there, its schedule only under the lock.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from .bundle import Bundle
from .dataflow import Due, StreamState
from .errors import ExecutorError
from .executor import Executor
from .frame import Frame

T = TypeVar("T")


class StreamsExecutor(Executor):
    """The part of an executor that is about streams; see :class:`Executor` for what its methods promise."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._manifest = bundle.manifest
        self._streams: dict[str, StreamState] = {}
        self._lock = threading.RLock()
        self._closed = False

    @abstractmethod
    def _in_order(self, work: Callable[[], T]) -> T:
        """Run ``work`` after everything submitted so far is done, and before what comes later."""

    def open_stream(self, stream: str, caller: Mapping[str, Any] | None = None, rates: Sequence[float] = ()) -> None:
        """See :meth:`Executor.open_stream`."""
        with self._lock:
            self._check_open()
            if stream in self._streams:
                raise ExecutorError(f"stream '{stream}' is open already")
            self._streams[stream] = StreamState(self._manifest, caller or {}, rates)

    def set_caller(self, stream: str, caller: Mapping[str, Any]) -> None:
        """See :meth:`Executor.set_caller`."""
        state = self._stream(stream)
        self._in_order(lambda: state.set_caller(caller))

    def wants(self, stream: str, pts_s: float, duration_s: float, index: int) -> bool:
        """See :meth:`Executor.wants`."""
        return not self.due(stream, pts_s, duration_s, index).empty

    def due(self, stream: str, pts_s: float, duration_s: float, index: int) -> Due:
        """See :meth:`Executor.due`."""
        with self._lock:
            return self._stream(stream).schedule.peek(pts_s, duration_s, index)

    def reset(self, stream: str) -> None:
        """See :meth:`Executor.reset`."""
        state = self._stream(stream)
        self._in_order(state.reset)

    def state(self, stream: str) -> bytes:
        """See :meth:`Executor.state`."""
        state = self._stream(stream)
        return self._in_order(lambda: state.save(self.bundle.hash))

    def restore(self, stream: str, data: bytes) -> None:
        """See :meth:`Executor.restore`."""
        state = self._stream(stream)
        self._in_order(lambda: state.load(data, self.bundle.hash))

    def close_stream(self, stream: str) -> None:
        """See :meth:`Executor.close_stream`."""
        with self._lock:
            self._stream(stream)
            del self._streams[stream]

    def hand_over(self) -> dict[str, StreamState]:
        """See :meth:`Executor.hand_over`."""

        def take() -> dict[str, StreamState]:
            with self._lock:
                streams, self._streams = self._streams, {}
            return streams

        return self._in_order(take)

    def take_over(self, streams: Mapping[str, StreamState]) -> None:
        """See :meth:`Executor.take_over`."""
        with self._lock:
            self._check_open()
            twice = sorted(self._streams.keys() & streams.keys())
            if twice:
                raise ExecutorError(f"streams {twice} are open here already; expected others to take over")
            for state in streams.values():
                state.mark_partial()
            self._streams.update(streams)

    def _check_open(self) -> None:
        if self._closed:
            raise ExecutorError("executor was used after it was closed")

    def _stream(self, stream: str) -> StreamState:
        self._check_open()
        try:
            return self._streams[stream]
        except KeyError:
            raise ExecutorError(f"no stream '{stream}'; open are {sorted(self._streams) or 'none'}") from None

    def _take(self, batch: Sequence[tuple[str, Frame]]) -> list[tuple[Frame, StreamState, Due]]:
        """Hold a batch's frames and take them off their streams' schedules; all or none are held."""
        taken: list[tuple[Frame, StreamState, Due]] = []
        held: list[Frame] = []
        with self._lock:
            try:
                for stream, frame in batch:
                    state = self._stream(stream)
                    held.append(frame.retain())
                    due = state.schedule.take(frame.pts_s, frame.duration_s, frame.index)
                    taken.append((frame, state, due))
            except BaseException:
                for frame in held:
                    frame.release()
                raise
        return taken
