"""The preprocessing kernel as data: its PTX, what PTX and sources have in common, names and sizes of its launch.

PTX alone is shipped, no cubins: compute_75 PTX of CUDA 12.2 loads on every driver from CUDA 12.2 (535) on and every GPU
from Turing on; the driver compiles it once a machine, in about half a second, and keeps the result.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from ..errors import CudaError

FOLDER = Path(__file__).parent
PTX = FOLDER / "preprocess.ptx"
SOURCES = ("preprocess.cu", "sources.h", "device.h", "pixels.h")
NAME = "memedge_preprocess"
TILE = (32, 8)
"""Results (across, down) that one block makes."""
THREADS = 256
_LABEL = "// sha256 of "


def source_hash() -> str:
    """SHA-256 over the kernel's sources."""
    total = hashlib.sha256()
    for name in SOURCES:
        total.update((FOLDER / name).read_bytes())
    return total.hexdigest()


def label() -> str:
    """The first line of PTX made from the present sources."""
    return f"{_LABEL}{', '.join(SOURCES)}: {source_hash()}"


def body(text: str) -> str:
    """PTX without comments and empty lines: what two builds by one compiler have in common."""
    kept = (re.sub(r"//.*", "", line).rstrip() for line in text.splitlines())
    return "\n".join(line for line in kept if line)


def ptx() -> bytes:
    """The PTX to load. Raises CudaError where the installation lacks it."""
    try:
        return PTX.read_bytes()
    except OSError as error:
        raise CudaError(
            f"the preprocessing kernel cannot be read: {error}", fix="pip install --force-reinstall memedge"
        ) from None


def grid(width: int, height: int, pictures: int) -> tuple[int, int, int]:
    """The launch's grid for targets of ``width`` x ``height``: enough tiles for either stored orientation."""
    tiles = max(_tiles(width, height), _tiles(height, width))
    return tiles, 1, pictures


def _tiles(across: int, down: int) -> int:
    return -(-across // TILE[0]) * -(-down // TILE[1])
