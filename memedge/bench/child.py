"""One combination in a process of its own: time from the start of the process to the first score, and its peak memory.

Run as ``python -m memedge.bench.child '<request as JSON>'``; the answer is one line of JSON on stdout.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import msgspec

from .report import Start

_LIMIT_S = 180.0


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What the process is to do; ``begin_ns`` is the parent's monotonic clock just before it was started."""

    bundle: str
    engine: str
    lowering: str
    threads: int
    bf16: bool
    source: str | None
    frames: int
    begin_ns: int = 0


def measure(request: Request) -> Start | None:
    """Run the request in a fresh interpreter; none when that process fails, since nothing else depends on it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    started = msgspec.structs.replace(request, begin_ns=time.monotonic_ns())
    try:
        found = subprocess.run(
            [sys.executable, "-m", "memedge.bench.child", msgspec.json.encode(started).decode()],
            capture_output=True, timeout=_LIMIT_S, check=True, env=environment, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return msgspec.json.decode(found.stdout.splitlines()[-1], type=Start)
    except (OSError, subprocess.SubprocessError, IndexError, msgspec.MsgspecError):
        return None


def answer(request: Request) -> Start:
    """What :func:`measure` asks for, in this process."""
    from memedge_engines.backends.base import EngineOptions
    from memedge_engines.bundle import Bundle
    from memedge_engines.choice import Candidate

    from ..environment import peak_memory_mb
    from ..loop import Loop
    from ..scorer import FixedScorer
    from ..sources import open_source
    from .feeds import Looped, end, noise

    before = time.monotonic_ns()
    options = EngineOptions(threads=request.threads, bf16=request.bf16)
    scorer = FixedScorer(Bundle.open(request.bundle), Candidate(request.engine, request.lowering), options)
    opened = time.monotonic_ns()
    with scorer:
        uri = request.source
        source = noise() if uri is None else Looped(lambda: open_source(uri))
        readings = Loop(source, {"bundle": scorer}).readings()
        first = 0
        for _ in range(request.frames):
            scored = next(readings).score is not None
            if scored and not first:
                first = time.monotonic_ns()
        end(readings)  # type: ignore[arg-type]
    return Start(
        first_score_ms=round(((first or time.monotonic_ns()) - request.begin_ns) / 1e6, 3),
        open_ms=round((opened - before) / 1e6, 3),
        peak_memory_mb=peak_memory_mb(),
        frames=request.frames,
    )


if __name__ == "__main__":
    print(msgspec.json.encode(answer(msgspec.json.decode(sys.argv[1], type=Request))).decode(), flush=True)
