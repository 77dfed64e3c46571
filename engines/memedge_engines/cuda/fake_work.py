"""Asynchronous work of the fake driver: streams as queues, events, capture into graphs, replay.

Nothing that is queued happens before somebody waits: a host that reads too early reads rubbish here, every time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from .fake_memory import Block, FakeDriverMisuse, FakeHandle

_QUEUE_LIMIT = 100_000


@dataclass(eq=False)
class Operation:
    """One thing to do in stream order.

    Attributes:
        run: does it, or none for a pure wait.
        blocks: memory that it is known to touch.
        prepare: called when the operation is queued by a graph's replay; gives its ``run`` of that time.
        owners: what may not be destroyed before it is done (functions, events).
    """

    name: str
    run: Callable[[], None] | None
    blocks: tuple[Block, ...] = ()
    prepare: Callable[[], Callable[[], None]] | None = None
    owners: tuple[FakeHandle, ...] = ()
    after: Operation | None = None
    stream: FakeStream | None = None
    done: bool = False
    done_at: float = 0.0

    def things(self) -> tuple[Block | FakeHandle, ...]:
        """All that must stay while the operation is queued or held by a graph."""
        return (*self.blocks, *self.owners)


class FakeStream(FakeHandle):
    """A queue of operations."""

    def __init__(self, site: str) -> None:
        super().__init__("stream", site)
        self.queue: deque[Operation] = deque()
        self.capture: Capture | None = None

    def push(self, operation: Operation) -> None:
        """Queue an operation, or record it where the stream is being captured."""
        operation.stream = self
        if self.capture is not None:
            self.capture.add(self, operation)
            return
        if len(self.queue) >= _QUEUE_LIMIT:
            raise FakeDriverMisuse(f"{_QUEUE_LIMIT} operations are queued and nobody waits for them")
        self.queue.append(operation)
        for thing in operation.things():
            thing.pending += 1

    def run_until(self, last: Operation | None) -> None:
        """Do what is queued up to and with the operation; all of it for none."""
        while self.queue and (last is None or not last.done):
            operation = self.queue[0]
            if operation.after is not None and not operation.after.done and operation.after.stream is not None:
                operation.after.stream.run_until(operation.after)
            self.queue.popleft()
            for thing in operation.things():
                thing.pending -= 1
            operation.done, operation.done_at = True, time.perf_counter()
            if operation.run is not None:
                operation.run()
                operation.done_at = time.perf_counter()


class FakeEvent(FakeHandle):
    """Marks the operation that it was recorded behind."""

    def __init__(self, timing: bool, site: str) -> None:
        super().__init__("event", site)
        self.timing = timing
        self.mark: Operation | None = None
        self.captured: Capture | None = None
        self.waited = False


@dataclass(eq=False)
class Capture:
    """A capture in progress: what was recorded, and which other streams were drawn in and not joined again."""

    origin: FakeStream
    thread: int
    operations: list[Operation] = field(default_factory=list)
    tails: dict[FakeStream, int] = field(default_factory=dict)
    joined: dict[FakeStream, int] = field(default_factory=dict)
    spoilt: bool = False

    def add(self, stream: FakeStream, operation: Operation) -> None:
        """Record an operation."""
        self.operations.append(operation)
        self.tails[stream] = len(self.operations)

    def draw_in(self, stream: FakeStream, event: FakeEvent) -> None:
        """``stream`` waits for an event of this capture: it joins the capture, or the event's stream is joined."""
        source = event.mark.stream if event.mark is not None else None
        if stream.capture is None:
            stream.capture = self
            self.tails[stream] = len(self.operations)
        if source is not None and event.mark is not None:
            self.joined[source] = max(self.joined.get(source, 0), self.operations.index(event.mark) + 1)

    def close(self) -> bool:
        """Take all streams out of the capture; whether each was joined."""
        whole = True
        for stream, tail in self.tails.items():
            stream.capture = None
            whole &= stream is self.origin or self.joined.get(stream, 0) >= tail
        self.origin.capture = None
        return whole


class FakeGraph(FakeHandle):
    """What a capture recorded, in an order that respects all its waits."""

    def __init__(self, operations: tuple[Operation, ...], site: str) -> None:
        super().__init__("graph", site)
        self.operations = operations


class FakeExecutable(FakeHandle):
    """A graph made ready; holds the memory and functions whose addresses it froze."""

    def __init__(self, operations: tuple[Operation, ...], site: str) -> None:
        super().__init__("graph executable", site)
        self.operations = operations
        for operation in operations:
            for thing in operation.things():
                thing.held += 1

    def replay(self, stream: FakeStream) -> None:
        """Queue all of it again."""
        for kept in self.operations:
            run = kept.prepare() if kept.prepare is not None else kept.run
            stream.push(Operation(kept.name, run, kept.blocks, kept.prepare, (*kept.owners, self)))

    def let_go(self) -> None:
        """Release what was held."""
        for operation in self.operations:
            for thing in operation.things():
                thing.held -= 1
