"""Imports run in one line, and the runtime needs nothing that a device may lack."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from helpers_modules import ABSENT_ON_DEVICES, ROOT, modules

# Blocks packages as if they were not installed, imports modules one by one, reports what failed and what got loaded.
_PROBE = """
import importlib, importlib.abc, json, sys, traceback
names, blocked, paths = json.loads(sys.stdin.read())
sys.path[:0] = paths
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r} (blocked)", name=name)
sys.meta_path.insert(0, Absent())
failed = {}
for name in names:
    try:
        importlib.import_module(name)
    except BaseException:
        failed[name] = traceback.format_exc(limit=-3)
print(json.dumps({"failed": failed, "loaded": sorted(sys.modules)}))
"""


def probe(names: list[str], blocked: tuple[str, ...] = ()) -> dict[str, Any]:
    """Imports ``names`` in a fresh interpreter where ``blocked`` cannot be imported."""
    paths = [str(ROOT), str(ROOT / "engines"), str(ROOT / "export")]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _PROBE],
        input=json.dumps([names, blocked, paths]),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_every_runtime_module_imports_on_a_bare_device() -> None:
    names = [m.name for m in modules("memedge", "memedge_engines") if not m.name.endswith("__main__")]
    assert len(names) > 20
    failed = probe(names, ABSENT_ON_DEVICES)["failed"]
    assert not failed, "\n\n".join(f"{name}:\n{trace}" for name, trace in failed.items())


def test_every_export_module_imports() -> None:
    pytest.importorskip("torch", reason="torch is absent: the export extra is not installed", exc_type=ImportError)
    names = [m.name for m in modules("memedge_export") if not m.name.endswith("__main__")]
    failed = probe(names, ("torchvision", "cv2", "openvino", "tensorrt", "cuda", "pycuda", "gi"))["failed"]
    assert not failed, "\n\n".join(f"{name}:\n{trace}" for name, trace in failed.items())


@pytest.mark.parametrize("package", ["memedge", "memedge_engines"])
def test_importing_the_package_is_light(package: str) -> None:
    loaded = {name.partition(".")[0] for name in probe([package])["loaded"]}
    heavy = {
        "av",
        "cv2",
        "onnxruntime",
        "PIL",
        "typer",
        "rich",
        "openvino",
        "torch",
        "onnx",
        "scipy",
        "matplotlib",
        "memedge_export",
    }
    assert not loaded & heavy


def test_the_command_line_starts_without_the_heavy_packages() -> None:
    loaded = {name.partition(".")[0] for name in probe(["memedge.cli"])["loaded"]}
    assert not loaded & {"av", "cv2", "onnxruntime", "openvino", "torch", "onnx", "matplotlib", "memedge_export"}


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("memedge_engines", ("memedge", "memedge_export")),
        ("memedge", ("memedge_export",)),
        ("memedge_export", ("memedge.cli",)),
    ],
)
def test_imports_run_in_one_line(package: str, forbidden: tuple[str, ...]) -> None:
    wrong = [
        f"{module.path.relative_to(ROOT)}:{line} imports {name}"
        for module in modules(package)
        for name, line in module.imports()
        for taboo in forbidden
        if name == taboo or name.startswith(taboo + ".")
    ]
    assert not wrong, "\n".join(wrong)


def test_engines_import_only_numpy_and_msgspec_at_the_top() -> None:
    """`import memedge_engines.<anything>` outside the back ends loads neither decoders nor engines."""
    names = [m.name for m in modules("memedge_engines") if ".backends." not in m.name and ".cuda" not in m.name]
    loaded = {name.partition(".")[0] for name in probe(names)["loaded"]}
    assert not loaded & {"cv2", "onnxruntime", "openvino", "torch", "onnx", "scipy", "PIL"}
