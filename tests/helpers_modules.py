"""The project's modules, read from the files: names, paths and imports, without importing anything."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "memedge": ROOT / "memedge",
    "memedge_engines": ROOT / "engines" / "memedge_engines",
    "memedge_export": ROOT / "export" / "memedge_export",
}
# What a device need not have. The runtime packages import without any of them.
ABSENT_ON_DEVICES = (
    "torch", "torchvision", "onnx", "onnxscript", "cv2", "scipy", "matplotlib", "openvino", "tensorrt",
    "tensorrt_rtx", "cuda", "pycuda", "gi", "safetensors", "PyNvVideoCodec", "sklearn",
)  # fmt: skip


@dataclass(frozen=True)
class Module:
    """One source file: dotted name and path."""

    name: str
    path: Path

    @property
    def is_package(self) -> bool:
        """Whether it is a package's `__init__.py`."""
        return self.path.name == "__init__.py"

    def imports(self) -> Iterator[tuple[str, int]]:
        """Absolute dotted names imported anywhere in the file, also inside functions, with their lines."""
        package = self.name if self.is_package else self.name.rpartition(".")[0]
        for node in ast.walk(ast.parse(self.path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield alias.name, node.lineno
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    parts = package.split(".")
                    base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
                yield base, node.lineno
                for alias in node.names:
                    yield f"{base}.{alias.name}", node.lineno


def modules(*packages: str) -> list[Module]:
    """Every module of the named packages, all three when none is named, sorted by name."""
    found = []
    for package in packages or tuple(PACKAGES):
        folder = PACKAGES[package]
        for path in folder.rglob("*.py"):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found.append(Module(".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return sorted(found, key=lambda module: module.name)
