"""``python -m memedge_engines.kernels.rebuild_ptx [--check]``: the kernel's PTX from its sources.

Made by NVRTC of CUDA 12.2, a plain wheel that needs neither a driver nor a GPU. Its version is fixed because PTX
carries a version of its own, and drivers refuse what is newer than they are: the oldest ones that TensorRT's packages
take, 535, are of CUDA 12.2 and take .version 8.2 at most; JetPack 6's take 8.5.
"""

from __future__ import annotations

import argparse
import ctypes
import difflib
import importlib.util
import re
import sys
from pathlib import Path

from ..errors import CudaError
from . import image

VERSION = (12, 2)
INSTALL = "pip install 'nvidia-cuda-nvrtc-cu12==12.2.*'"
ARCHITECTURE = "compute_75"


def nvrtc() -> ctypes.CDLL:
    """NVRTC 12.2 of the wheel. Raises CudaError where it is absent or of another version."""
    try:
        spec = importlib.util.find_spec("nvidia.cuda_nvrtc")
    except ImportError:
        spec = None
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    found = sorted(path for folder in folders for path in Path(folder).glob("lib/libnvrtc.so.*"))
    if not found:
        raise CudaError("NVRTC is not installed; the kernel's PTX is made with that of CUDA 12.2", fix=INSTALL)
    library = ctypes.CDLL(str(found[0]))
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(library, "nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
    if (major.value, minor.value) != VERSION:
        has = f"{major.value}.{minor.value}"
        raise CudaError(f"NVRTC {has}; expected 12.2, whose PTX drivers from 535 on can load", fix=INSTALL)
    return library


def compile_ptx(library: ctypes.CDLL) -> str:
    """PTX of the kernel, labelled with its sources' hash. Raises CudaError with the compiler's log."""
    main, *headers = image.SOURCES
    texts = [(image.FOLDER / name).read_bytes() for name in headers]
    program = ctypes.c_void_p()
    _check(
        library,
        "nvrtcCreateProgram",
        ctypes.byref(program),
        (image.FOLDER / main).read_bytes(),
        main.encode(),
        len(headers),
        (ctypes.c_char_p * len(texts))(*texts),
        (ctypes.c_char_p * len(headers))(*(name.encode() for name in headers)),
    )
    try:
        given = [f"--gpu-architecture={ARCHITECTURE}", "--std=c++17"]
        arguments = (ctypes.c_char_p * len(given))(*(option.encode() for option in given))
        status = library.nvrtcCompileProgram(program, len(given), arguments)
        if status:
            raise CudaError(f"the kernel does not compile:\n{_text(library, 'ProgramLog', program)}", code=status)
        return f"{image.label()}\n{_text(library, 'PTX', program).lstrip()}"
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _text(library: ctypes.CDLL, what: str, program: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    _check(library, f"nvrtcGet{what}Size", program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    _check(library, f"nvrtcGet{what}", program, buffer)
    return buffer.value.decode()


def _check(library: ctypes.CDLL, name: str, *arguments: object) -> None:
    status = getattr(library, name)(*arguments)
    if status:
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        raise CudaError(f"{name}: {library.nvrtcGetErrorString(status).decode()}", call=name, code=status)


def difference(text: str) -> str:
    """How freshly built PTX differs from the file; empty where it does not."""
    try:
        present = image.PTX.read_text()
    except FileNotFoundError:
        return f"there is no {image.PTX.name}\n"
    if present.splitlines()[0] != text.splitlines()[0]:
        return f"{image.PTX.name} was made from other sources: {present.splitlines()[0][:100]}\n"
    lines = difflib.unified_diff(image.body(present).splitlines(), image.body(text).splitlines(), lineterm="", n=1)
    return "".join(f"{line}\n" for line, _ in zip(lines, range(40), strict=False))


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: written, or the same; 1: it differs, or cannot be built."""
    parser = argparse.ArgumentParser(prog="python -m memedge_engines.kernels.rebuild_ptx")
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    given = parser.parse_args(arguments)
    try:
        text = compile_ptx(nvrtc())
    except CudaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    found = re.search(r"^\.version (\S+)\n\.target (\S+)", text, re.M)
    assert found is not None
    if given.check:
        differs = difference(text)
        sys.stderr.write(differs)
        print(f"{image.PTX.name}: {'differs' if differs else 'is what the sources give'}", file=sys.stderr)
        return int(bool(differs))
    image.PTX.write_text(text)
    print(f"{image.PTX.name}: {len(text)} bytes, version {found[1]}, {found[2]}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
