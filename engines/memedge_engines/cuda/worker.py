"""The thread that owns a device: its context, and so every stream, buffer and graph made in it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar

from ..errors import ExecutorError
from . import ending
from .driver import Driver

_T = TypeVar("_T")
_Job = tuple[Callable[[], Any], "Future[Any]"]
Watch = Callable[[], "float | None"]
"""Looks after work that is queued on the device; raises nothing. Seconds until it wants to look again, or none."""
_QUEUE_LIMIT = 1024


class Worker:
    """One thread, bound to a driver's context from its start to its end.

    Args:
        open_device: makes the driver in the worker's thread, retained and bound there: ``lambda: open_driver(0)``.
            What it raises is raised by the constructor.
        name: of the thread.

    Jobs run in the order in which they were handed in. ``close`` lets queued jobs finish, unbinds and releases; what
    jobs made must be closed by jobs before. A worker that is forgotten is closed when the interpreter ends.
    """

    def __init__(self, open_device: Callable[[], Driver], name: str = "memedge-device") -> None:
        self._jobs: queue.Queue[_Job | None] = queue.Queue(_QUEUE_LIMIT)
        self._lock = threading.Lock()
        self._watches: list[Watch] = []
        self._closed = False
        started: Future[Driver] = Future()
        self._end: Future[None] = Future()
        # A daemon, so that the interpreter does not wait for a forgotten worker before it runs the exit handlers.
        self._thread = threading.Thread(target=self._work, args=(open_device, started), name=name, daemon=True)
        self._thread.start()
        self.driver: Driver = started.result()
        ending.workers.add(self)

    def submit(self, job: Callable[[], _T]) -> Future[_T]:
        """Queue a job; its result or error is in the future. ExecutorError after ``close``."""
        future: Future[_T] = Future()
        with self._lock:
            if self._closed:
                raise ExecutorError(f"the worker {self._thread.name!r} is closed")
            self._jobs.put((job, future))
        return future

    def call(self, job: Callable[[], _T]) -> _T:
        """Run a job and wait for it. From the worker's own thread it runs at once."""
        if threading.current_thread() is self._thread:
            return job()
        return self.submit(job).result()

    def watch(self, look: Watch) -> None:
        """Call ``look`` in the worker's thread after every job, and again when the time that it asked for is over."""
        self.call(lambda: self._watches.append(look))

    def unwatch(self, look: Watch) -> None:
        """Undo ``watch``."""
        self.call(lambda: self._watches.remove(look))

    def close(self) -> None:
        """Finish queued jobs, give the context back, end the thread; what went wrong at the end is raised, once."""
        if threading.current_thread() is self._thread:
            raise ExecutorError("a worker cannot be closed by one of its own jobs")
        with self._lock:
            first, self._closed = not self._closed, True
        if first:
            self._jobs.put(None)
            ending.workers.discard(self)
        self._thread.join()
        if first:
            self._end.result()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _work(self, open_device: Callable[[], Driver], started: Future[Driver]) -> None:
        try:
            driver = open_device()
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(driver)
        del started
        while (item := self._next()) is not None:
            job, future = item
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(job())
                except BaseException as error:
                    future.set_exception(error)
            del item, job, future  # no buffer may live on in this frame while the queue is empty
        try:
            driver.release()
        except BaseException as error:
            self._end.set_exception(error)
        else:
            self._end.set_result(None)

    def _next(self) -> _Job | None:
        """The next job; meanwhile who watches looks as often as it asked to."""
        while True:
            waits = [seconds for look in self._watches if (seconds := look()) is not None]
            try:
                return self._jobs.get(timeout=min(waits, default=None))
            except queue.Empty:
                continue
