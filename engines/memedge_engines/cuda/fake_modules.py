"""Modules and launches of the fake driver: PTX is read for its version, its entries and their parameters."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .driver import KernelArgument
from .driver_errors import driver_error
from .fake_memory import FakeDriverMisuse, FakeHandle

Kernel = Callable[[Any, tuple[int, int, int], tuple[int, int, int], tuple[Any, ...], int], None]
"""``kernel(driver, grid, block, arguments, shared_bytes)``; arguments are plain numbers, addresses the fake's own."""

# CUDA's release notes (PTX ISA, release history): the first CUDA version whose driver compiles each version of PTX.
_PTX_SINCE = (((8, 5), 12050), ((8, 6), 12070), ((8, 7), 12080), ((8, 8), 12090), ((9, 0), 13000), ((9, 1), 13010))
_SIZES = {"8": 1, "16": 2, "32": 4, "64": 8}
_MAX_THREADS = 1024
_MAX_BLOCK = (1024, 1024, 64)
_MAX_GRID = (2**31 - 1, 65535, 65535)
_MAX_SHARED = 48 * 1024


@dataclass(frozen=True)
class Entry:
    """A kernel of PTX: bytes of each parameter, the largest block it was compiled for (0: not said)."""

    parameters: tuple[int, ...]
    max_threads: int


class FakeModule(FakeHandle):
    """A loaded module; ``entries`` is none for a cubin, whose parameters the fake does not read."""

    def __init__(self, entries: dict[str, Entry] | None, image: bytes, site: str) -> None:
        super().__init__("module", site)
        self.entries = entries
        self.image = image


class FakeFunction(FakeHandle):
    """A kernel of a loaded module."""

    def __init__(self, name: str, module: FakeModule, run: Kernel, site: str) -> None:
        super().__init__("function", site)
        self.name = name
        self.module = module
        self.entry = module.entries[name] if module.entries is not None else None
        self.run = run


def load(image: bytes, driver_version: int, site: str) -> FakeModule:
    """Read PTX text or accept a cubin; the driver's own error for what neither is or what is too new."""
    if not isinstance(image, bytes):
        raise FakeDriverMisuse(f"a module's image is {type(image).__name__}, not bytes")
    if image[:4] == b"\x7fELF":
        return FakeModule(None, image, site)
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", image.rstrip(b"\0").decode("ascii", "replace"), flags=re.S)
    version = re.search(r"^\s*\.version\s+(\d+)\.(\d+)", text, re.M)
    if version is None:
        raise driver_error("cuModuleLoadDataEx", 200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid")
    if re.search(r"^\s*\.target\s+sm_\d+", text, re.M) is None:
        raise driver_error("cuModuleLoadDataEx", 218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed")
    wanted = (int(version[1]), int(version[2]))
    for isa, since in _PTX_SINCE:
        if wanted >= isa and driver_version < since:
            text = "the provided PTX was compiled with an unsupported toolchain."
            raise driver_error("cuModuleLoadDataEx", 222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", text)
    return FakeModule(dict(_entries(text)), image, site)


def _entries(text: str) -> list[tuple[str, Entry]]:
    found = []
    for match in re.finditer(r"\.entry\s+([\w$]+)\s*(?:\(([^)]*)\))?([^{]*)\{", text):
        sizes = []
        for parameter in (match[2] or "").split(","):
            kind = re.search(r"\.param\b(.*)", parameter, re.S)
            if kind is None:
                continue
            width = re.search(r"\.[usbf](8|16|32|64)\b", kind[1])
            count = re.search(r"\[(\d+)\]", kind[1])
            sizes.append((_SIZES[width[1]] if width else 0) * (int(count[1]) if count else 1))
        limit = re.search(r"\.(?:maxntid|reqntid)\s+(\d+)(?:\s*,\s*(\d+))?(?:\s*,\s*(\d+))?", match[3])
        threads = 1
        for part in limit.groups() if limit else ():
            threads *= int(part or 1)
        found.append((match[1], Entry(tuple(sizes), threads if limit else 0)))
    return found


def function(module: FakeModule, name: str, kernels: Mapping[str, Kernel], site: str) -> FakeFunction:
    """A kernel by name: it must be in the image and the test must have said what it does."""
    known = name in module.entries if module.entries is not None else name.encode() in module.image
    if not known:
        raise driver_error("cuModuleGetFunction", 500, "CUDA_ERROR_NOT_FOUND", "named symbol not found")
    if name not in kernels:
        raise FakeDriverMisuse(f"the fake was not told what the kernel {name!r} does; it knows {sorted(kernels)}")
    return FakeFunction(name, module, kernels[name], site)


def check_launch(
    made: FakeFunction, grid: tuple[int, int, int], block: tuple[int, int, int], arguments: Sequence[KernelArgument],
    shared_bytes: int,
) -> tuple[Any, ...]:  # fmt: skip
    """The arguments' values; the driver's error or a misuse for a launch that no device would take."""
    for given, what in ((grid, "grid"), (block, "block")):
        if len(given) != 3 or not all(isinstance(side, int) for side in given):
            raise FakeDriverMisuse(f"launch of {made.name}: the {what} is {given!r}, not three integers")
    limits = [*zip(grid, _MAX_GRID, strict=True), *zip(block, _MAX_BLOCK, strict=True), (shared_bytes + 1, _MAX_SHARED)]
    threads = block[0] * block[1] * block[2]
    if any(not 1 <= side <= most for side, most in limits) or threads > _MAX_THREADS:
        raise driver_error("cuLaunchKernel", 1, "CUDA_ERROR_INVALID_VALUE", "invalid argument")
    if made.entry is not None and made.entry.max_threads and threads > made.entry.max_threads:
        raise driver_error("cuLaunchKernel", 1, "CUDA_ERROR_INVALID_VALUE", "invalid argument")
    for argument in arguments:
        if not isinstance(argument, (ctypes.c_int32, ctypes.c_uint64, ctypes.c_float)):
            raise FakeDriverMisuse(
                f"launch of {made.name}: an argument is {type(argument).__name__}, not c_int32, c_uint64 or c_float"
            )
    sizes = tuple(ctypes.sizeof(argument) for argument in arguments)
    if made.entry is not None and sizes != made.entry.parameters:
        raise FakeDriverMisuse(
            f"launch of {made.name}: arguments of {sizes} bytes, the PTX declares {made.entry.parameters}"
        )
    return tuple(argument.value for argument in arguments)
