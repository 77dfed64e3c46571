"""Console, progress and error helpers, public for all three packages' commands.

Results go to stdout, status and errors to stderr. Not a terminal: plain lines, no colour, no truncation.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TaskID


def err_console() -> Console:
    """A rich console on stderr."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True, highlight=False)


def status(message: str) -> None:
    """One line of status on stderr; a stderr that nobody reads any more never ends the work."""
    with suppress(OSError, ValueError):
        try:
            print(message, file=sys.stderr, flush=True)
        except BrokenPipeError:
            drop(sys.stderr)


def drop(stream: IO[Any]) -> None:
    """The reader of a stream left: nothing more to say, and nothing that is still buffered may be flushed into it at
    exit, or the interpreter would leave with code 120."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, stream.fileno())
        finally:
            os.close(null)


def say(message: str) -> None:
    """A status line of memedge itself: ``memedge: message``."""
    status(f"memedge: {message}")


def print_error(error: BaseException) -> None:
    """``memedge: error: message`` on stderr, one line whatever the message holds."""
    print(f"memedge: error: {' '.join(str(error).splitlines())}", file=sys.stderr, flush=True)


class Progress:
    """Progress of a long piece of work: a bar on a terminal, a plain line every few seconds elsewhere."""

    def __init__(self, what: str, total: int | None, every_s: float = 5.0) -> None:
        self.what = what
        self.total = total
        self.done = 0
        self._every_s = every_s
        self._started = time.monotonic()
        self._last = self._started
        self._bar: tuple[Bar, TaskID] | None = None

    def advance(self, count: int = 1, note: str = "") -> None:
        """``count`` more units are done; ``note`` follows the figure."""
        self.done += count
        if self._bar is not None:
            bar, task = self._bar
            bar.update(task, completed=self.done, description=f"{self.what} {note}".rstrip())
            return
        now = time.monotonic()
        if now - self._last >= self._every_s or (self.total is not None and self.done == self.total):
            self._last = now
            of = f"/{self.total}" if self.total else ""
            tail = f" {note}" if note else ""
            status(f"{self.what}: {self.done}{of}{tail} ({now - self._started:.0f} s)")


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Progress]:
    """Show the progress of ``what`` while the block runs."""
    tracker = Progress(what, total)
    if not sys.stderr.isatty():
        yield tracker
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=err_console(), transient=False) as bar:
        tracker._bar = (bar, bar.add_task(what, total=total))
        yield tracker
