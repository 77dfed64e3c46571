"""Synthetic sink: remembers what it was given and fails on demand, for tests and as an example of the seam."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SinkError
from ..reading import Reading
from .base import Picture, Sink, SinkContext, Summary

MAX_KEPT = 100_000


class SyntheticSink(Sink):
    """Records every call.

    Args:
        needs_pictures: ask for pictures; the newest one's pixels are kept in ``picture``.
        fail_at: number of the ``write`` call (from 0) that raises SinkError; every later one does, too.
        fail_on_start, fail_on_finish: raise SinkError there.

    Attributes:
        calls: names of the calls in order, the newest 100,000.
        contexts, readings, summaries: what came with them.
    """

    def __init__(
        self,
        needs_pictures: bool = False,
        fail_at: int | None = None,
        fail_on_start: bool = False,
        fail_on_finish: bool = False,
    ) -> None:
        self.needs_pictures = needs_pictures
        self._fail_at = fail_at
        self._fail_on_start = fail_on_start
        self._fail_on_finish = fail_on_finish
        self.calls: deque[str] = deque(maxlen=MAX_KEPT)
        self.contexts: deque[SinkContext] = deque(maxlen=MAX_KEPT)
        self.readings: deque[Reading] = deque(maxlen=MAX_KEPT)
        self.summaries: deque[Summary] = deque(maxlen=MAX_KEPT)
        self.picture: NDArray[np.uint8] | None = None
        self.writes = 0
        self.closed = False

    def start(self, context: SinkContext) -> None:
        """Record the context."""
        self.calls.append("start")
        if self._fail_on_start:
            raise SinkError("synthetic sink: told to fail on start")
        self.contexts.append(context)

    def write(self, reading: Reading, picture: Picture | None, stats: dict[str, Any]) -> None:
        """Record the reading."""
        self.calls.append("write")
        number, self.writes = self.writes, self.writes + 1
        if self.closed:
            raise SinkError("synthetic sink: written to after it was closed")
        if self._fail_at is not None and number >= self._fail_at:
            raise SinkError(f"synthetic sink: told to fail at write {self._fail_at}")
        self.readings.append(reading)
        if picture is not None:
            self.picture = picture.rgb().copy()

    def finish(self, summary: Summary) -> None:
        """Record the summary."""
        self.calls.append("finish")
        if self._fail_on_finish:
            raise SinkError("synthetic sink: told to fail on finish")
        self.summaries.append(summary)

    def close(self) -> None:
        """Record it."""
        self.calls.append("close")
        self.closed = True
