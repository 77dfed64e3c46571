"""The GPU's steps in a process of their own: one that crashes or hangs is a line of the report, and the next one runs.

``python -m memedge.selftest.child BUNDLE`` does the steps whose names come on stdin, a line each, and answers each with
an outcome as a line of JSON on what was stdout. What libraries print goes to stderr.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import msgspec

from memedge_engines.bundle import Bundle

from .report import Outcome, Step, attempt, missing

MODULE = "memedge.selftest.child"
"""What runs in the other process."""

_LIMIT_S = {"plan": 1800.0}
_USUAL_LIMIT_S = 180.0
_LAST_WORDS = 400
_decoder = msgspec.json.Decoder(Outcome)


def run_gpu_steps(
    bundle: Bundle, tell: Callable[[str], None], steps: Sequence[Step] | None = None, *, isolated: bool = True
) -> list[Outcome]:
    """Every GPU step's outcome.

    Args:
        tell: told each step's name before it begins.
        steps: none: all of them, see :func:`.gpu.gpu_steps`.
        isolated: in child processes; otherwise here, where a crash ends this process.
    """
    if steps is None:
        from .gpu import gpu_steps

        steps = gpu_steps(bundle)
    done: list[Outcome] = []
    child: _Child | None = None
    try:
        for number, step in enumerate(steps):
            tell(step.name)
            skipped = missing(step, done)
            if skipped is not None:
                done.append(skipped)
                continue
            if not isolated:
                done.append(attempt(step))
                continue
            if child is None:
                child = _Child(bundle)
            outcome = child.do(step.name)
            done.append(outcome)
            if child.gone and number + 1 < len(steps):
                child.close()
                child = None
    finally:
        if child is not None:
            child.close()
    return done


class _Child:
    """A process that does one step after the other, as it is asked."""

    def __init__(self, bundle: Bundle) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        self._answers: queue.Queue[bytes | None] = queue.Queue()
        self.gone = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULE, os.fspath(bundle.path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, env=environment,
        )  # fmt: skip
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, out: IO[bytes]) -> None:
        for line in out:
            self._answers.put(line)
        self._answers.put(None)

    def do(self, name: str) -> Outcome:
        """One step; whatever becomes of the process is an outcome."""
        began = time.monotonic()
        limit = _LIMIT_S.get(name, _USUAL_LIMIT_S)
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(name.encode() + b"\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=limit)
            if line is not None:
                return _decoder.decode(line)
            text = self._ending()
        except queue.Empty:
            text = f"not done after {limit:.0f} s"
        except OSError:
            text = self._ending()
        except msgspec.DecodeError as error:
            text = f"the process said something that is no outcome: {error}"
        self.gone = True
        fix = "report it with these lines" + self._last_words()
        return Outcome(name, "failed", text, fix, round(time.monotonic() - began, 3))

    def _ending(self) -> str:
        code = self._process.wait()
        return f"the process crashed (signal {-code})" if code < 0 else f"the process ended early (exit code {code})"

    def _last_words(self) -> str:
        with contextlib.suppress(OSError, ValueError):
            self._said.seek(0)
            words = " ".join(self._said.read()[-_LAST_WORDS:].decode("utf-8", "replace").split())
            return f"; it said: {words}" if words else ""
        return ""

    def close(self) -> None:
        """End the process, at once where it does not listen."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(0 if self.gone else 20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(5)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._said.close()


def main(words: Sequence[str]) -> int:
    """Do the steps whose names come on stdin."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    from .gpu import gpu_steps

    steps = {step.name: step for step in gpu_steps(Bundle.open(Path(words[0])))}
    for line in sys.stdin.buffer:
        name = line.decode().strip()
        out.write(msgspec.json.encode(attempt(steps[name])) + b"\n")
        out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
