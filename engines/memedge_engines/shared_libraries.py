"""Which shared libraries a library asks for, and which of them this process cannot load: nothing of it is run.

Libraries that other packages load print to the terminal when theirs are missing; asking first keeps it silent and gives
a reason with names.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import struct
from collections.abc import Iterable
from pathlib import Path

_STRTAB, _NEEDED = 5, 1
_LOAD, _DYNAMIC = 1, 2
_LARGEST_TABLE = 4 << 20


def needed(path: Path) -> tuple[str, ...]:
    """Names of the libraries that a 64-bit little-endian ELF file asks for; empty where it is something else."""
    with contextlib.suppress(OSError, struct.error, ValueError), open(path, "rb") as file:
        head = file.read(64)
        if head[:6] != b"\x7fELF\x02\x01":
            return ()
        offset, size, count = struct.unpack_from("<Q", head, 32)[0], *struct.unpack_from("<HH", head, 54)
        file.seek(offset)
        table = file.read(size * count)
        segments = [struct.unpack_from("<IIQQQQ", table, size * i) for i in range(count)]
        dynamic = next(((at, length) for kind, _, at, _, _, length in segments if kind == _DYNAMIC), None)
        if dynamic is None or dynamic[1] > _LARGEST_TABLE:
            return ()
        file.seek(dynamic[0])
        entries = list(struct.iter_unpack("<QQ", file.read(dynamic[1] // 16 * 16)))
        where = next((value for tag, value in entries if tag == _STRTAB), None)
        if where is None:
            return ()
        # The string table is told by its address in memory: the segment that is loaded there says where in the file.
        start = next(
            (at + where - address for kind, _, at, address, _, length in segments
             if kind == _LOAD and address <= where < address + length),
            None,
        )  # fmt: skip
        if start is None:
            return ()
        file.seek(start)
        names = file.read(_LARGEST_TABLE)
        found = [names[value : names.find(b"\0", value)] for tag, value in entries if tag == _NEEDED]
        return tuple(name.decode("utf-8", "replace") for name in found)
    return ()


def load(name: str, packages: Iterable[str] = ()) -> bool:
    """Load a library for the whole process: from where the system looks, else out of an installed package's folder.

    Args:
        name: its file name, ``libnvinfer.so.10``.
        packages: import names of packages that bring libraries; they are looked into, never imported.
    """
    places = [name]
    for package in packages:
        with contextlib.suppress(ImportError, ValueError):
            spec = importlib.util.find_spec(package)
            folders = (spec.submodule_search_locations if spec is not None else None) or ()
            places += [str(Path(folder) / name) for folder in folders]
    for place in places:
        with contextlib.suppress(OSError):
            ctypes.CDLL(place, mode=ctypes.RTLD_GLOBAL)
            return True
    return False
