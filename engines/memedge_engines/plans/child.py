"""What runs in the building process: ``python -m memedge_engines.plans.child``, started by :mod:`.process`.

A request as one line of JSON on stdin; messages as lines of JSON on what was stdout. Whatever libraries print goes to
stderr. ``cancel`` on stdin stops the builder at its next step; the end of stdin means that the parent is gone, and ends
this process at once. It is nice to others, and the first to go when memory runs out.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
from typing import IO

import msgspec

from ..errors import BuildCancelled, MemedgeError
from . import library
from .messages import CANCEL, LONGEST_LINE, PARENT_GONE, Failed, Message, Request, Step, encode, failure

_NICE = 10
# The highest score there is: the system ends this process before the one that scores.
_OOM_SCORE = "1000"


class Teller:
    """Writes messages; thread-safe. A parent that left ends the process."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._lock = threading.Lock()

    def step(self, fraction: float, text: str, node: str) -> None:
        """How far the build is."""
        self.send(Step(round(fraction, 4), text[:300], node))

    def send(self, message: Message) -> None:
        """One message."""
        try:
            with self._lock:
                self._out.write(encode(message))
                self._out.flush()
        except OSError:
            os._exit(PARENT_GONE)


def main() -> int:
    """Read the request, do the work, tell how it ended. Exit code 0 whenever that was told."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    teller = Teller(out)
    cancelled = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: cancelled.set())
    _be_modest()
    try:
        request = msgspec.json.decode(sys.stdin.buffer.readline(LONGEST_LINE), type=Request)
    except (msgspec.DecodeError, MemedgeError) as error:
        teller.send(Failed("PlanError", f"the request is not one: {error}"))
        return 0
    threading.Thread(target=_listen, args=(sys.stdin.buffer, cancelled), name="memedge-parent", daemon=True).start()
    try:
        teller.send(_work(request, teller, cancelled))
    except KeyboardInterrupt:
        teller.send(failure(BuildCancelled("the build was cancelled", cause="cancelled")))
    except BaseException as error:
        teller.send(failure(error))
    return 0


def _work(request: Request, teller: Teller, cancelled: threading.Event) -> Message:
    from . import assembly

    teller.step(0.0, f"loading {request.module}", "")
    if request.module == "tensorrt":
        return assembly.assemble(request, library.tensorrt(), teller.step, cancelled.is_set)
    with library.use(importlib.import_module(request.module)) as trt:
        return assembly.assemble(request, trt, teller.step, cancelled.is_set)


def _listen(stdin: IO[bytes], cancelled: threading.Event) -> None:
    while True:
        line = stdin.readline(LONGEST_LINE)
        if not line:
            os._exit(PARENT_GONE)
        if line == CANCEL:
            cancelled.set()


def _be_modest() -> None:
    if hasattr(os, "nice"):
        with contextlib.suppress(OSError):
            os.nice(_NICE)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(_OOM_SCORE)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Without the interpreter's end: a library that crashes while it unloads would spoil a finished build.
    os._exit(code)
