"""ruff and mypy, as `make lint` runs them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from helpers_modules import ROOT


def _run(tool: str, *arguments: str) -> None:
    if importlib.util.find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed")
    done = subprocess.run(
        [sys.executable, "-m", tool, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_ruff() -> None:
    _run("ruff", "check", "--quiet", ".")


def test_mypy() -> None:
    _run("mypy")
