"""An executor whose place another one can take between two calls, while streams are open."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from .dataflow import Due, StreamState
from .errors import ExecutorError
from .executor import Executor, Ticket
from .frame import Frame


class ReplaceableExecutor(Executor):
    """Passes every call on to the present executor, and closes it with itself; see :class:`Executor`."""

    def __init__(self, first: Executor) -> None:
        self._present = first
        self._changed = threading.Condition()
        self._inside = 0
        self._changing = False
        self._describe()

    def _describe(self) -> None:
        self.bundle = self._present.bundle
        self.engine = self._present.engine
        self.precision = self._present.precision
        self.lowering = self._present.lowering

    def replace(self, executor: Executor) -> None:
        """Go on with another executor of the same bundle: calls under way end first, later ones wait.

        What was submitted is finished by the old executor, which is closed then.

        Raises:
            ExecutorError: of another bundle; the old one goes on.
        """
        if executor.bundle.hash != self.bundle.hash:
            raise ExecutorError(
                f"executor of bundle {executor.bundle.hash[:12]} cannot replace one of {self.bundle.hash[:12]}"
            )
        with self._changed:
            self._changed.wait_for(lambda: not self._changing)
            self._changing = True
            self._changed.wait_for(lambda: not self._inside)
        old = self._present
        try:
            streams = old.hand_over()
            try:
                executor.take_over(streams)
            except BaseException:
                old.take_over(streams)
                raise
            self._present = executor
            self._describe()
        finally:
            with self._changed:
                self._changing = False
                self._changed.notify_all()
        old.close()

    @contextmanager
    def _inner(self) -> Iterator[Executor]:
        with self._changed:
            self._changed.wait_for(lambda: not self._changing)
            self._inside += 1
        try:
            yield self._present
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def open_stream(self, stream: str, caller: Mapping[str, Any] | None = None, rates: Sequence[float] = ()) -> None:
        """See :meth:`Executor.open_stream`."""
        with self._inner() as executor:
            executor.open_stream(stream, caller, rates)

    def set_caller(self, stream: str, caller: Mapping[str, Any]) -> None:
        """See :meth:`Executor.set_caller`."""
        with self._inner() as executor:
            executor.set_caller(stream, caller)

    def wants(self, stream: str, pts_s: float, duration_s: float, index: int) -> bool:
        """See :meth:`Executor.wants`."""
        with self._inner() as executor:
            return executor.wants(stream, pts_s, duration_s, index)

    def due(self, stream: str, pts_s: float, duration_s: float, index: int) -> Due:
        """See :meth:`Executor.due`."""
        with self._inner() as executor:
            return executor.due(stream, pts_s, duration_s, index)

    def submit(self, batch: Sequence[tuple[str, Frame]]) -> Ticket:
        """See :meth:`Executor.submit`."""
        with self._inner() as executor:
            return executor.submit(batch)

    def reset(self, stream: str) -> None:
        """See :meth:`Executor.reset`."""
        with self._inner() as executor:
            executor.reset(stream)

    def state(self, stream: str) -> bytes:
        """See :meth:`Executor.state`."""
        with self._inner() as executor:
            return executor.state(stream)

    def restore(self, stream: str, data: bytes) -> None:
        """See :meth:`Executor.restore`."""
        with self._inner() as executor:
            executor.restore(stream, data)

    def close_stream(self, stream: str) -> None:
        """See :meth:`Executor.close_stream`."""
        with self._inner() as executor:
            executor.close_stream(stream)

    def hand_over(self) -> dict[str, StreamState]:
        """See :meth:`Executor.hand_over`."""
        with self._inner() as executor:
            return executor.hand_over()

    def take_over(self, streams: Mapping[str, StreamState]) -> None:
        """See :meth:`Executor.take_over`."""
        with self._inner() as executor:
            executor.take_over(streams)

    def close(self) -> None:
        """See :meth:`Executor.close`."""
        self._present.close()
