"""Building in a child process, so that a builder that crashes, hangs or runs out of memory never stops scoring."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from ..errors import BuildCancelled, MemedgeError, PlanError
from . import library, sidecar
from .machine import Machine
from .messages import CANCEL, LONGEST_LINE, PARENT_GONE, Failed, Finished, Request, Step, decode, encode, error_of
from .profile import Profile
from .sidecar import SideCar

MOST_EVENTS = 64
_MOST_SAID = 40
_GRACE_S = 10.0
_JOIN_S = 2.0


@dataclass(frozen=True)
class BuildProgress:
    """How far a build is. ``fraction``: of the whole bundle, 0..1, never falling; ``text``: what is being done."""

    fraction: float
    text: str
    node: str = ""


@dataclass(frozen=True)
class BuiltPlan:
    """A node's plan in the store. ``reused``: it was there already."""

    node: str
    path: Path
    sidecar: SideCar
    reused: bool


@dataclass(frozen=True)
class BuildResult:
    """Every graph node's plan of one lowering, and the seconds that it took."""

    lowering: str
    plans: tuple[BuiltPlan, ...]
    seconds: float


class BuildProcess:
    """Builds every graph node of one lowering of a bundle in a child process. Not thread-safe; a context manager.

    The child is polled, never waited for, so that a run goes on between two frames. It ends when this process ends, in
    whatever way.

    Args:
        bundle_path: the bundle's folder.
        lowering: ``trt-int8``, ``trt-fp16`` or ``fp32``.
        profile: batch range and effort.
        machine: what the plans are keyed by; none asks the driver, in the child.
        force: build even where a fitting plan is stored.
        module: name of the module that is TensorRT; another than ``tensorrt`` skips the driver check.
        limit_s: the build is ended after this many seconds.
        silence_s: and when nothing was heard of it for this long.
    """

    def __init__(
        self,
        bundle_path: str | os.PathLike[str],
        lowering: str,
        profile: Profile | None = None,
        machine: Machine | None = None,
        *,
        force: bool = False,
        module: str = "tensorrt",
        limit_s: float = 7200.0,
        silence_s: float = 1800.0,
    ) -> None:
        self._request = Request(
            bundle=os.path.abspath(bundle_path),
            lowering=lowering,
            profile=profile or Profile(),
            machine=machine,
            force=force,
            module=module,
        )
        self._limit_s = limit_s
        self._silence_s = silence_s
        self._process: subprocess.Popen[bytes] | None = None
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._events: deque[BuildProgress] = deque(maxlen=MOST_EVENTS)
        self._said: deque[str] = deque(maxlen=_MOST_SAID)
        self._outcome: Finished | Failed | None = None
        self._started = self._heard = 0.0
        self._fraction = 0.0
        self._cancelled = False
        self._result: BuildResult | None = None
        self._error: MemedgeError | None = None
        self._done = False

    def start(self) -> None:
        """Start the child process.

        Raises:
            PlanError: it cannot be started, or was started before.
            DriverMissing: there is no driver; what else keeps this machine from building is the result's error.
        """
        if self._process is not None or self._done:
            raise PlanError("this build was started before")
        if self._request.module == "tensorrt":
            library.check_driver()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "memedge_engines.plans.child"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
                # A terminal's Ctrl-C goes to this process, which asks the child to stop.
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise PlanError(f"cannot start a process to build in: {error.strerror or error}") from None
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self._started = self._heard = time.monotonic()
        for target, stream in ((self._read, process.stdout), (self._listen, process.stderr)):
            thread = threading.Thread(target=target, args=(stream,), name="memedge-build", daemon=True)
            thread.start()
            self._threads.append(thread)
        self._write(encode(self._request))

    def poll(self) -> list[BuildProgress]:
        """What happened since the last call, at most 64 entries; never waits. Also enforces the limits."""
        if self._process is not None and not self._done:
            self._enforce()
            if not self._done and self._process.poll() is not None:
                self._finish()
        with self._lock:
            events = list(self._events)
            self._events.clear()
        return events

    @property
    def pid(self) -> int | None:
        """Number of the child process, or none before it was started."""
        return None if self._process is None else self._process.pid

    @property
    def done(self) -> bool:
        """Whether the child has ended, in whatever way; ``poll`` keeps this up to date."""
        return self._done

    @property
    def error(self) -> MemedgeError | None:
        """Why there is no result, once done; none when there is one."""
        return self._error

    def result(self) -> BuildResult:
        """The plans. Raises the error where there is none, and PlanError while the build goes on."""
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise PlanError("the build has not ended yet")
        return self._result

    def cancel(self) -> None:
        """Ask the child to stop at the builder's next step; does not wait. Safe to call at any time."""
        self._cancelled = True
        self._write(CANCEL)

    def close(self) -> None:
        """Cancel, wait a few seconds, then kill; nothing of the child is left. Safe to call twice."""
        if self._process is None or self._done:
            self._done = True
            return
        self.cancel()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._finish()

    def __enter__(self) -> BuildProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, line: bytes) -> None:
        if self._process is not None and self._process.stdin is not None and not self._done:
            # A child that ended has closed it; how it ended is told by its exit code.
            with contextlib.suppress(OSError, ValueError):
                self._process.stdin.write(line)
                self._process.stdin.flush()

    def _read(self, stream: IO[bytes]) -> None:
        for line in _lines(stream):
            message = decode(line)
            with self._lock:
                if message is None:
                    self._said.append(_text(line))
                    continue
                self._heard = time.monotonic()
                if isinstance(message, Step):
                    self._fraction = max(self._fraction, message.fraction)
                    self._events.append(BuildProgress(self._fraction, message.text, message.node))
                else:
                    self._outcome = message

    def _listen(self, stream: IO[bytes]) -> None:
        for line in _lines(stream):
            text = _text(line)
            if text:
                with self._lock:
                    self._said.append(text)

    def _enforce(self) -> None:
        assert self._process is not None
        now = time.monotonic()
        with self._lock:
            quiet = now - self._heard
        problem = ""
        if now - self._started > self._limit_s:
            problem = f"took longer than {self._limit_s:g} s"
        elif quiet > self._silence_s:
            problem = f"gave no sign of life for {quiet:.0f} s"
        if problem and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
            self._finish(PlanError(f"the build {problem} and was ended", fix="memedge build --level 1", cause="hang"))

    def _finish(self, error: MemedgeError | None = None) -> None:
        assert self._process is not None
        for thread in self._threads:
            thread.join(_JOIN_S)
        with self._lock:
            outcome, said = self._outcome, tuple(self._said)
        code = self._process.returncode
        try:
            if error is not None:
                self._error = error
            elif isinstance(outcome, Finished):
                self._result = _collect(self._request.lowering, outcome)
            elif isinstance(outcome, Failed):
                self._error = error_of(outcome)
            elif self._cancelled:
                self._error = BuildCancelled("the build was cancelled", cause="cancelled")
            else:
                self._error = _crash(code, said)
        except MemedgeError as problem:
            self._error = problem
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
        self._done = True


def _collect(lowering: str, outcome: Finished) -> BuildResult:
    plans = []
    for node, name, reused in outcome.plans:
        path = Path(name)
        beside = path.with_name(path.name.removesuffix(".plan") + sidecar.SUFFIX)
        try:
            record = sidecar.decode(beside.read_bytes())
        except OSError as error:
            raise PlanError(f"the plan was built, but '{beside}' cannot be read: {error.strerror or error}") from None
        plans.append(BuiltPlan(node, path, record, reused))
    return BuildResult(lowering, tuple(plans), outcome.seconds)


def _crash(code: int, said: tuple[str, ...]) -> PlanError:
    """What an exit code without a last word means."""
    tail = f"; it said last: {said[-1]}" if said else ""
    if code == -getattr(signal, "SIGKILL", 9):
        return PlanError(
            "the building process was killed from outside, most often because the system ran out of memory",
            log=said,
            fix="memedge build --workspace 256, close other programs, or give a Jetson swap",
            cause="killed",
        )
    if code < 0:
        name = next((s.name for s in signal.Signals if s == -code), f"signal {-code}")
        text = f"TensorRT crashed while building ({name}){tail}"
        return PlanError(text, log=said, fix="memedge build --precision fp16", cause="crash")
    why = "lost its parent" if code == PARENT_GONE else f"ended with exit code {code} and no result"
    return PlanError(f"the building process {why}{tail}", log=said, fix="memedge doctor", cause="crash")


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Lines of at most a megabyte, longer ones in pieces, until the stream ends or is closed."""
    while True:
        try:
            line = stream.readline(LONGEST_LINE)
        except (OSError, ValueError):
            return
        if not line:
            return
        yield line


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").strip()[:300]
