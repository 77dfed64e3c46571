"""The compiled CPU preprocessing (``host.cpp``): loaded where it was built, or the reason why it is not.

It is a plain shared object with a C interface, not a Python extension module: building it needs a C++ compiler but no
Python headers, one file serves every Python version, and ctypes lets other threads run during a call.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .job import Job

FILE = Path(__file__).with_name("memedge_host.dll" if sys.platform == "win32" else "memedge_host.so")
"""Where setup.py leaves the shared object."""

VERSION = 1
"""Of the C interface; ``memedge_host_version`` says the same number (times 1000, plus the size of a job)."""

REBUILD = (
    "install a C++ compiler (Debian, Ubuntu, JetPack: sudo apt install g++), then "
    "pip install --force-reinstall --no-deps --no-cache-dir with what memedge was installed from"
)


@dataclass(frozen=True)
class Absent:
    """Why there is no compiled preprocessing, and what would bring it."""

    reason: str
    fix: str


class HostKernels:
    """The loaded shared object.

    Attributes:
        instructions: instruction sets that this processor runs, the portable one (``plain``) first, the fastest last.
    """

    def __init__(self, library: Any) -> None:
        self._scratch, self._run = library.memedge_host_scratch, library.memedge_host_run
        self._scratch.argtypes, self._scratch.restype = [ctypes.POINTER(Job)], ctypes.c_uint64
        self._run.argtypes = [ctypes.POINTER(Job), ctypes.c_int, ctypes.c_void_p, ctypes.c_uint64]
        self._run.restype = ctypes.c_int
        name = library.memedge_host_instructions
        name.argtypes, name.restype = [ctypes.c_int], ctypes.c_char_p
        names: list[str] = []
        while found := name(len(names)):
            names.append(found.decode("ascii"))
        self.instructions = tuple(names)

    def scratch_bytes(self, job: Job) -> int:
        """Scratch memory that :meth:`run` needs; 0 for a job that is not valid."""
        return int(self._scratch(ctypes.byref(job)))

    def run(self, job: Job, instructions: int, scratch: NDArray[np.uint8]) -> int:
        """Carry out a job with the instruction set of this index; 0 when done, else the number of ``host.cpp``."""
        return int(self._run(ctypes.byref(job), instructions, scratch.ctypes.data, scratch.size))


def load(path: Path) -> HostKernels | Absent:
    """The shared object at ``path``, or why it cannot be used. Raises nothing."""
    if not path.is_file():
        return Absent("it was not built: memedge was installed without a C++ compiler", REBUILD)
    try:
        library = ctypes.CDLL(str(path))
        version = library.memedge_host_version()
    except (OSError, AttributeError) as error:
        return Absent(f"{path.name} does not load: {str(error).splitlines()[0] if str(error) else error!r}", REBUILD)
    expected = VERSION * 1000 + ctypes.sizeof(Job)
    if version != expected:
        return Absent(f"{path.name} has version {version}, this memedge expects {expected}", REBUILD)
    return HostKernels(library)


@lru_cache(maxsize=1)
def kernels() -> HostKernels | Absent:
    """The compiled preprocessing of this installation; loaded once."""
    return load(FILE)
