"""The command line in tests: in this process for speed, or as a real process where signals, pipes and limits matter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Done:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one error line; fails unless there is exactly one, no traceback, and an exit code that says so."""
        lines = [line for line in self.err.splitlines() if line.startswith("memedge: error: ")]
        assert "Traceback" not in self.err + self.out, self.err
        assert len(lines) == 1, self
        assert self.code in (1, 2), self
        return lines[0].removeprefix("memedge: error: ")


def inside(capfd: pytest.CaptureFixture[str], *words: str | Path) -> Done:
    """Run the command line in this process."""
    from memedge.cli import main

    capfd.readouterr()
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    out, err = capfd.readouterr()
    code = left.value.code
    assert isinstance(code, int)
    assert "Traceback" not in err, err
    return Done(code, out, err)


class _Ended(subprocess.Popen[str]):
    """A process that a failing test does not leave running, nor wait for."""

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, error, trace)


def start(
    *words: str | Path,
    before: Callable[[], None] | None = None,
    env: Mapping[str, str] | None = None,
    program: Sequence[str] = ("-m", "memedge"),
    **more: Any,
) -> subprocess.Popen[str]:
    """Start the command line, or another program, as a process of its own, warnings being errors as in the tests."""

    def prepare() -> None:
        # A test run in the background of a shell inherits an ignored SIGINT, under nohup an ignored SIGHUP.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        if before is not None:
            before()

    paths = [str(ROOT), str(ROOT / "engines"), str(ROOT / "export")]
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **more}
    return _Ended(
        [sys.executable, "-W", "error", *program, *map(str, words)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(env or {})},
        preexec_fn=prepare,
        **options,
    )


def command(*words: str | Path, timeout: float = 120, **more: Any) -> Done:
    """Run the command line as a process of its own and wait for its end."""
    stdin = more.pop("input", None)
    if stdin is not None:
        more["stdin"] = subprocess.PIPE
    with start(*words, **more) as process:
        try:
            out, err = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return Done(process.returncode, out or "", err or "")


def jsonl(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(readings, summaries) of a JSON Lines file, in their order; every line must be whole."""
    text = path.read_text()
    assert text == "" or text.endswith("\n")
    entries = [json.loads(line) for line in text.splitlines()]
    return [e for e in entries if "summary" not in e], [e["summary"] for e in entries if "summary" in e]


def plugged(name: str = "world") -> None:
    """Greets: a command that a test plugs in."""
    print(f"hello {name}")
