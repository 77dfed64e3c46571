"""Runs `tests/lean` on Python 3.10 with onnxruntime 1.23.2 and numpy < 2, where that interpreter is found.

The environment is kept in `.venv-py310` and made anew when pyproject.toml changes.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers_modules import ROOT

ENVIRONMENT = ROOT / ".venv-py310"
PINS = ("onnxruntime==1.23.2", "numpy<2", "pytest>=8.3")


def _candidates() -> Iterator[str]:
    """Places where a Python 3.10 may be: the search path, then pyenv's versions."""
    if found := shutil.which("python3.10"):
        yield found
    roots = [Path.home() / ".pyenv"]
    if pyenv := shutil.which("pyenv"):
        done = subprocess.run([pyenv, "root"], capture_output=True, text=True)
        if done.returncode == 0:
            roots.append(Path(done.stdout.strip()))
    for root in roots:
        yield from sorted((str(path) for path in root.glob("versions/3.10.*/bin/python3.10")), reverse=True)


def _interpreter() -> str | None:
    """The first candidate that starts and can make environments; pyenv's shims exist without starting."""
    test = "import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 10))"
    for candidate in _candidates():
        try:
            if subprocess.run([candidate, "-c", test], capture_output=True, timeout=30).returncode == 0:
                return candidate
        except (OSError, subprocess.TimeoutExpired):
            continue
    return None


@pytest.fixture(scope="module")
def lean_python() -> Path:
    """The interpreter of the lean environment."""
    base = _interpreter()
    if base is None:
        pytest.skip("no Python 3.10 on this machine")
    stamp = ENVIRONMENT / "ready"
    recipe = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + repr((PINS, base)).encode()).hexdigest()
    python = ENVIRONMENT / "bin" / "python"
    if stamp.is_file() and stamp.read_text() == recipe:
        return python
    subprocess.run([base, "-m", "venv", "--clear", str(ENVIRONMENT)], check=True, capture_output=True)
    # The few modules that are imported are compiled when they are: all of them would take longer than the tests.
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    done = subprocess.run([*pip, *PINS, "--editable", str(ROOT)], capture_output=True, text=True, timeout=600)
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), "pip failed")
        pytest.skip(f"the lean environment cannot be installed: {reason}")
    stamp.write_text(recipe)
    return python


def test_the_runtime_works_in_jetpack_6s_world(lean_python: Path) -> None:
    kept_out = ("PYTHONPATH", "PYTEST_ADDOPTS", "PYTHONDONTWRITEBYTECODE")
    environment = {name: value for name, value in os.environ.items() if name not in kept_out}
    done = subprocess.run(
        [str(lean_python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/lean"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        env={**environment, "MEMEDGE_LEAN": "1"},
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert not re.search(r"\bskipped\b", done.stdout.splitlines()[-1]), done.stdout[-2000:]
