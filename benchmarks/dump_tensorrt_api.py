"""Record which names each TensorRT version has: classes, enumeration members, methods, properties and their parameters.

    python benchmarks/dump_tensorrt_api.py [--versions 10.3.0 11.4.0.106] [--wheels FOLDER] [--out FOLDER]

Needs no GPU and no TensorRT: the small bindings wheels are downloaded with pip and imported against three stub
libraries that gcc makes of nine symbols. The wheels stay in a temporary folder; what is recorded are names, and never
an enumeration's numbers, since several changed between versions.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import inspect
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "tests" / "data" / "tensorrt_api"
# Distribution by version: JetPack's releases, the newest 10.x, the first and the newest 11.x.
PACKAGES = {
    "10.3.0": "tensorrt-cu12-bindings",
    "10.7.0": "tensorrt-cu12-bindings",
    "10.13.3.9": "tensorrt-cu12-bindings",
    "10.16.1.11": "tensorrt-cu12-bindings",
    "11.0.0.114": "tensorrt-cu13-bindings",
    "11.4.0.106": "tensorrt-cu13-bindings",
}
LIBRARIES = ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser")
SYMBOLS = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
    "createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getBuilderPluginRegistry",
    "getPluginRegistry", "getNvOnnxParserVersion", "initLibNvInferPlugins",
)  # fmt: skip


def make_stubs(folder: Path, major: str) -> list[Path]:
    """Libraries of the right names in which every function returns null."""
    source = folder / "stub.c"
    source.write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in SYMBOLS), encoding="utf-8")
    made = []
    for library in LIBRARIES:
        name = f"{library}.so.{major}"
        command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(folder / name), str(source)]
        subprocess.run(command, check=True)
        made.append(folder / name)
    return made


def fetch(version: str, wheels: Path) -> Path:
    """The bindings wheel of a version, downloaded where it is not there yet."""
    package = PACKAGES.get(version) or f"tensorrt-cu{12 if version.startswith('10.') else 13}-bindings"
    pattern = f"{package.replace('-', '_')}-{version}-*.whl"
    found = sorted(wheels.glob(pattern))
    if not found:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels)]
        subprocess.run([*command, f"{package}=={version}"], check=True)
        found = sorted(wheels.glob(pattern))
    if not found:
        raise SystemExit(f"pip gave no wheel {pattern}")
    return found[0]


def parameters(text: str) -> str:
    """``name,other?`` of one signature's text, ``?`` for those with a default; the receiver is left out."""
    depth, start, parts = 0, 0, []
    for index, letter in enumerate(text):
        depth += (letter in "([{<") - (letter in ")]}" or (letter == ">" and text[index - 1] != "-"))
        if letter == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    parts = [part.strip() for part in [*parts, text[start:]] if part.strip()]
    named = [re.split(r"[:=]", part, maxsplit=1)[0].strip() + ("?" if "=" in part else "") for part in parts]
    return ",".join(name for name in named if name != "self")


def signatures(name: str, doc: str) -> list[str]:
    """Parameters of each overload as the docstring tells them; empty where it does not."""
    found = re.findall(rf"^(?:\d+\. )?{re.escape(name)}\((.*)\)(?: ->.*)?$", doc, re.MULTILINE)
    return list(dict.fromkeys(parameters(text) for text in found if text != "*args, **kwargs"))


def describe(kind: type) -> dict[str, Any]:
    """What a class has of its own: ``enum`` members, or ``methods``, ``properties`` and ``values``."""
    bases = [base.__name__ for base in kind.__bases__ if not base.__name__.startswith(("pybind11", "object"))]
    told: dict[str, Any] = {"bases": bases} if bases else {}
    members = getattr(kind, "__members__", None)
    if isinstance(members, dict):
        told["enum"] = sorted(members)
    methods: dict[str, list[str]] = {}
    properties: dict[str, str] = {}
    values: list[str] = []
    classes: dict[str, Any] = {}
    for name, value in sorted(vars(kind).items()):
        if members is not None and (name in members or name in ("name", "value")):
            continue
        if name == "__init__":
            methods[name] = signatures(name, value.__doc__ or "")
        elif name.startswith("_"):
            continue
        elif isinstance(value, property):
            properties[name] = "rw" if value.fset is not None else "r"
        elif isinstance(value, type):
            classes[name] = describe(value)
        elif callable(value) or isinstance(value, staticmethod):
            methods[name] = signatures(name, inspect.getdoc(getattr(kind, name)) or "")
        else:
            values.append(name)
    groups = {"methods": methods, "properties": properties, "values": values, "classes": classes}
    return {**told, **{name: group for name, group in groups.items() if group}}


def dump(wheel: Path, version: str) -> dict[str, Any]:
    """Import one version's bindings in this process (one version for each process) and describe them."""
    with tempfile.TemporaryDirectory() as folder:
        for stub in make_stubs(Path(folder), version.split(".", maxsplit=1)[0]):
            ctypes.CDLL(str(stub), ctypes.RTLD_GLOBAL)
        with zipfile.ZipFile(wheel) as file:
            file.extractall(folder)
        sys.path.insert(0, folder)
        module = importlib.import_module("tensorrt_bindings")
        own = vars(module)["tensorrt"]
        classes, functions, values = {}, {}, []
        for name in sorted(set(vars(module)) | set(vars(own))):
            value = getattr(module, name, None)
            if name.startswith("_") or inspect.ismodule(value) or name in ("common_enter", "common_exit"):
                continue
            if isinstance(value, type):
                classes[name] = describe(value)
            elif inspect.isfunction(value):
                told = inspect.signature(value).parameters.values()
                functions[name] = [",".join(p.name + ("?" if p.default is not p.empty else "") for p in told)]
            elif callable(value):
                functions[name] = signatures(name, value.__doc__ or "")
            else:
                values.append(name)
        return {"version": module.__version__, "functions": functions, "values": values, "classes": classes}


def encode(described: dict[str, Any]) -> str:
    """JSON with one class a line, so that versions compare line by line."""
    lines = [f'"{name}": {json.dumps(value)}' for name, value in described.items() if name != "classes"]
    classes = [f'  "{name}": {json.dumps(value, sort_keys=True)}' for name, value in described["classes"].items()]
    lines.append('"classes": {\n' + ",\n".join(classes) + "\n}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> int:
    """Write one file for each version; a child process for each, since a process imports one version only."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", nargs="+", default=list(PACKAGES))
    parser.add_argument("--wheels", type=Path, help="folder that keeps the downloaded wheels")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--one", nargs=2, metavar=("VERSION", "WHEEL"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        version, wheel = arguments.one
        sys.stdout.write(encode(dump(Path(wheel), version)))
        return 0
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        wheels = arguments.wheels or Path(temporary)
        for version in arguments.versions:
            command = [sys.executable, __file__, "--one", version, str(fetch(version, wheels))]
            text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            (arguments.out / f"{version}.json").write_text(text, encoding="utf-8")
            described = json.loads(text)
            print(f"{version}: {len(described['classes'])} classes, {len(text)} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
