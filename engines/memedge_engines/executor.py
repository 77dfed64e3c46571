"""The executor seam: frames of several streams in, named outputs per frame out; one per opened bundle and device.

It owns preprocessing, windows and inference of one device. Frames stay the caller's: an executor holds a frame only
until its ticket is done.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from .bundle import Bundle
from .dataflow import Due, StreamState
from .frame import Frame


@dataclass(frozen=True)
class Outputs:
    """What one frame brought.

    Attributes:
        stream: its stream.
        values: ``node.output`` to array without batch axis, of the nodes that ran at this frame.
        complete: node name to whether its inputs were whole, of the nodes that ran.
        flags: ``resampled`` when a missing sample was filled by the nearest earlier one.
        preprocess_ms, infer_ms, queue_ms: milliseconds of work for this frame (a batch's time is shared evenly) and of
            waiting for the worker.
        engine, precision: what ran the graphs.
    """

    stream: str
    values: Mapping[str, NDArray[Any]]
    complete: Mapping[str, bool]
    flags: tuple[str, ...] = ()
    preprocess_ms: float = 0.0
    infer_ms: float = 0.0
    queue_ms: float = 0.0
    engine: str = ""
    precision: str = ""


@dataclass
class Ticket:
    """A submitted batch; ``result`` blocks until it is done and raises what went wrong."""

    _future: Future[list[Outputs]] = field(repr=False)

    def done(self) -> bool:
        """Whether ``result`` would return at once."""
        return self._future.done()

    def wait(self) -> None:
        """Block until it is done, whatever became of it; raises nothing."""
        wait([self._future])

    def result(self, timeout_s: float | None = None) -> list[Outputs]:
        """One Outputs per submitted frame, in their order. TimeoutError after ``timeout_s``."""
        return self._future.result(timeout_s)


class Executor(ABC):
    """Runs a bundle on one device. Thread-safe; a context manager.

    State is per stream and can be saved, restored and reset. Which nodes are due at a frame is decided by
    :mod:`memedge_engines.dataflow` from capture times alone.
    """

    bundle: Bundle
    engine: str
    precision: str
    lowering: str

    @abstractmethod
    def open_stream(self, stream: str, caller: Mapping[str, Any] | None = None, rates: Sequence[float] = ()) -> None:
        """Open a stream.

        Args:
            stream: its name; ExecutorError when it is open already.
            caller: values of the bundle's ``caller`` inputs.
            rates: periods in seconds that replace "every frame" for nodes with ``period_s`` 0; empty: every frame.
        """

    @abstractmethod
    def set_caller(self, stream: str, caller: Mapping[str, Any]) -> None:
        """Change caller inputs; they hold from the next submitted frame on."""

    @abstractmethod
    def wants(self, stream: str, pts_s: float, duration_s: float, index: int) -> bool:
        """Whether a frame with these times would be used at all; lets a source skip its conversion."""

    @abstractmethod
    def due(self, stream: str, pts_s: float, duration_s: float, index: int) -> Due:
        """Which nodes a frame with these times would run; changes nothing."""

    @abstractmethod
    def submit(self, batch: Sequence[tuple[str, Frame]]) -> Ticket:
        """Score frames, each of its stream, in order; blocks while the executor's depth is used up.

        Raises:
            ExecutorError: closed, or an unknown stream.
        """

    @abstractmethod
    def reset(self, stream: str) -> None:
        """Forget the stream's past."""

    @abstractmethod
    def state(self, stream: str) -> bytes:
        """The stream's state after everything submitted so far."""

    @abstractmethod
    def restore(self, stream: str, data: bytes) -> None:
        """Continue from saved state; ExecutorError when it is not of this bundle."""

    @abstractmethod
    def close_stream(self, stream: str) -> None:
        """Close a stream and give its memory back."""

    @abstractmethod
    def hand_over(self) -> dict[str, StreamState]:
        """Finish what was submitted and give up all streams, for another executor of the bundle to take over."""

    @abstractmethod
    def take_over(self, streams: Mapping[str, StreamState]) -> None:
        """Go on with streams that another executor of the same bundle handed over.

        Windows of pictures stay; windows of node outputs came from other engines and are partial until filled anew.

        Raises:
            ExecutorError: closed, or a stream of that name is open here.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish what was submitted, close the engines; safe to call twice."""

    def __enter__(self) -> Executor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
