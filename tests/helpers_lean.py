"""Runs the command line as a device would: no test's own modules, warnings as errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def command(*words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs the command line; checks its exit code and that nothing was raised."""
    start = "from memedge.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", start, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=180,
        cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done
