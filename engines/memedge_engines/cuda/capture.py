"""Work of one frame as a CUDA graph: captured after it has run once, replayed from then on.

Capture is thread-local: other threads may allocate meanwhile. What is refused once is never tried again: the frames
are queued call by call from then on, and that is said once. With the driver's own calls a refusal leaves no error
behind that would have to be cleared.
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import CudaError, EngineError
from .driver import Driver
from .driver_errors import context_lost


class Capture:
    """Captures work of one executor, or not.

    Args:
        driver: a bound driver.
        tell: told once, in one line, why frames are queued call by call.

    Attributes:
        on: whether work is captured.
    """

    def __init__(self, driver: Driver, tell: Callable[[str], None]) -> None:
        self._driver = driver
        self._tell = tell
        self.on = driver.graphs
        if not self.on:
            self._say(f"{driver.name} has no CUDA graphs")

    def graph(self, stream: int, work: Callable[[], None]) -> int | None:
        """An executable of what ``work`` queues in the stream, or none where that is refused.

        The same work must have run before, and nothing of it may be queued any more.

        Raises:
            CudaError: the context is lost.
        """
        try:
            return self._captured(stream, work)
        except EngineError as error:
            if context_lost(error):
                raise
            self.on = False
            self._say(error.message)
            return None

    def _captured(self, stream: int, work: Callable[[], None]) -> int:
        driver = self._driver
        driver.capture_begin(stream)
        try:
            work()
        except BaseException:
            # A capture that was begun must end, or the stream stays unusable; what came of it is of no use.
            try:
                driver.graph_destroy(driver.capture_end(stream))
            except CudaError as error:
                if context_lost(error):
                    raise
            raise
        graph = driver.capture_end(stream)
        try:
            return driver.graph_instantiate(graph)
        finally:
            driver.graph_destroy(graph)

    def _say(self, why: str) -> None:
        self._tell(f"frames are queued call by call, not as one CUDA graph: {why}")
