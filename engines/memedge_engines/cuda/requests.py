"""What was submitted: frames of one ticket, in chunks that fit the plan, until the ticket is done."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from ..dataflow import Due, StreamState
from ..executor import Outputs
from ..frame import Frame


@dataclass(frozen=True)
class Item:
    """One submitted frame of one stream."""

    stream: str
    frame: Frame
    state: StreamState
    due: Due


@dataclass(eq=False)
class Request:
    """One ticket.

    Attributes:
        items: the frames, held until the ticket is done.
        outputs: one for each frame, in order, as they come.
        submitted: ``time.perf_counter`` of the submission.
        error: the first thing that went wrong; the ticket's result then.
        under_way: chunks that are neither done nor given up.
    """

    items: Sequence[Item]
    outputs: list[Outputs]
    future: Future[list[Outputs]] = field(default_factory=Future)
    submitted: float = field(default_factory=time.perf_counter)
    error: BaseException | None = None
    under_way: int = 0

    def settle(self) -> None:
        """Release the frames, each once, and end the ticket."""
        for item in self.items:
            try:
                item.frame.release()
            except Exception as error:  # whatever the frame's maker does there, the others are released
                self.error = self.error or error
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.outputs)


@dataclass(eq=False)
class Chunk:
    """Frames of one request that are inferred together: their places in it."""

    request: Request
    places: Sequence[int]

    @property
    def frames(self) -> list[Frame]:
        """The frames."""
        return [self.request.items[place].frame for place in self.places]


def chunks(request: Request, node: str, most: int) -> Iterator[Chunk]:
    """The frames at which the node is due, at most ``most`` together."""
    places = [place for place, item in enumerate(request.items) if node in item.due.nodes]
    for begin in range(0, len(places), most):
        yield Chunk(request, places[begin : begin + most])
