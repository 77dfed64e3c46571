"""The simulated libcuda for tests of the real providers, and processes that use it."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from memedge_engines.cuda import conformance
from memedge_engines.cuda.fake import FakeDriver

ROOT = Path(__file__).resolve().parents[1]
_SOURCE = ROOT / "tests" / "engines" / "cuda" / "libcuda_twin.c"


def needs_package(provider: str) -> None:
    """Skip where the provider's package is not installed; nothing of it is imported."""
    name = {"cuda-python": "cuda", "pycuda": "pycuda"}[provider]
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{provider} is not installed")


@functools.cache
def twin() -> Path:
    """Folder of the simulated libcuda.so.1, built once a process and gone with it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler, or not Linux: the simulated driver library cannot be built")
    folder = Path(tempfile.mkdtemp(prefix="memedge-twin-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    rest = folder / "rest.c"
    rest.write_text("".join(f"int {name}(void) {{ return 801; }}\n" for name in _other_names()))
    words = [compiler, "-O1", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", str(folder / "libcuda.so.1")]
    subprocess.run([*words, str(_SOURCE), str(rest), "-ldl"], check=True)
    return folder


def _other_names() -> list[str]:
    """What PyCUDA, where installed, links to beyond what the simulation has: there, but not supported."""
    spec = importlib.util.find_spec("pycuda")
    if spec is None or not spec.submodule_search_locations:
        return []
    binary = next(Path(spec.submodule_search_locations[0]).glob("_driver*.so"))
    wanted = {name.decode() for name in re.findall(rb"(?<=\0)cu[A-Z][A-Za-z0-9_]*(?=\0)", binary.read_bytes())}
    return sorted(name for name in wanted if f" {name}(" not in _SOURCE.read_text())


def on_twin(code: str, code_expected: int = 0, **variables: str) -> Any:
    """Run Python on the simulated driver; what it printed last, decoded from JSON, or none."""
    folder = twin()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CUDA_", "MEMEDGE_", "TWIN_"))}
    path = os.pathsep.join(filter(None, [str(ROOT / "engines"), *sys.path]))
    wanted = {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": path, **variables}
    if "PRELOAD" in wanted:  # a PyCUDA that was linked without the library finds its names in the process
        wanted["LD_PRELOAD"] = str(folder / wanted.pop("PRELOAD"))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "faulthandler", "-c", code],
        capture_output=True, text=True, timeout=120, env={**kept, **wanted},
    )  # fmt: skip
    assert done.returncode == code_expected, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
    assert not done.stderr, done.stderr
    lines = done.stdout.strip().splitlines()
    return json.loads(lines[-1]) if lines else None


def opened(**options: Any) -> FakeDriver:
    """A fake driver with the conformance kernel, retained and bound."""
    made = FakeDriver({conformance.KERNEL: conformance.scale}, **options)
    made.retain(0)
    made.bind()
    return made
