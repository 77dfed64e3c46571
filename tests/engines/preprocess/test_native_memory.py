"""Compiled preprocessing touches no byte outside planes, tables, scratch memory and target: guard pages, sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers_modules import ROOT
from memedge_engines.kernels import host

KERNELS = ROOT / "engines" / "memedge_engines" / "kernels"

# Runs in a process of its own, which a wrong access ends. Arguments: shared object, `guard` or `plain` memory.
WORK = r'''
import ctypes, itertools, mmap, sys
from pathlib import Path
import numpy as np
from helpers_media import make_contract, noise_planes
from memedge_engines.frame import ChromaSiting, Frame, PixelFormat
from memedge_engines.kernels import host
from memedge_engines.kernels.job import Job
from memedge_engines.preprocess import native

kernels = host.load(Path(sys.argv[1]))
assert isinstance(kernels, host.HostKernels), kernels
native.kernels = lambda: kernels
libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
page = mmap.PAGESIZE
held = []

def memory(size, at_end):
    """Bytes that begin behind a page that may not be touched, or end in front of one."""
    if sys.argv[2] == "plain":
        held.append((ctypes.c_char * size)())
        return np.frombuffer(held[-1], np.uint8)
    pages = (size + page - 1) // page + 2
    block = mmap.mmap(-1, pages * page)
    whole = np.frombuffer(block, np.uint8)
    start = whole.ctypes.data
    assert libc.mprotect(start, page, 0) == 0 and libc.mprotect(start + (pages - 1) * page, page, 0) == 0
    held.append(whole)
    first = (pages - 1) * page - size if at_end else page
    return whole[first : first + size]

contracts = [make_contract(29, 21), make_contract((9, 70), None), make_contract((1, 3), None, color="gray"),
             make_contract(None, None), make_contract((80, 60), None, filter_name="bilinear", color="bgr")]
sizes = [(1, 1), (3, 2), (17, 31), (64, 33), (131, 90)]
count = 0
for contract, size, pixel_format in itertools.product(contracts, sizes, PixelFormat):
    rotation = 90 * (count % 4)
    at_end, tensor = bool(count // 4 % 2), count % 3 == 0
    siting = list(ChromaSiting)[count % 3]
    planes = []
    for plane in noise_planes(pixel_format, *size):
        place = memory(plane.size, at_end).reshape(plane.shape)
        place[:] = plane
        planes.append(place)
    frame = Frame.from_planes(planes, pixel_format, *size, rotation=rotation, siting=siting)
    for number, name in enumerate(kernels.instructions):
        maker = native.NativePreprocessor(contract, name)
        prepared = maker._prepare(frame)
        job = Job.from_buffer_copy(prepared.job)
        for k, plane in enumerate(planes):
            job.plane[k], job.pitch[k] = plane.ctypes.data, plane.strides[0]
        pixels = prepared.shape.out_w * prepared.shape.out_h * contract.channels
        target = memory(pixels * (2 if tensor else 1), at_end)
        target[:] = 0
        expected = maker.picture(frame)
        if tensor:
            table = np.tile(np.arange(256, dtype=np.uint16), (contract.channels, 1))
            job.table, job.element = table.ctypes.data, 2
        job.target = target.ctypes.data
        assert kernels.run(job, number, memory(prepared.scratch, at_end)) == 0
        found = target.view(np.uint16) if tensor else target
        wanted = expected.transpose(2, 0, 1) if tensor else expected
        assert np.array_equal(found, wanted.ravel()), (name, pixel_format, size)
    held.clear()
    count += 1
print("done", count)
'''


def work(shared_object: Path, memory: str, **environment: str) -> None:
    path = os.pathsep.join(str(ROOT / part) for part in ("", "engines", "tests"))
    done = subprocess.run(
        [sys.executable, "-c", WORK, str(shared_object), memory],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **environment},
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert done.stdout.strip() == "done 200"


def test_nothing_outside_is_touched() -> None:
    if isinstance(host.kernels(), host.Absent):
        pytest.skip("no compiled preprocessing")
    work(host.FILE, "guard")


@pytest.mark.slow
def test_sanitizers(tmp_path: Path) -> None:
    """Address and undefined-behaviour sanitizers over every instruction set of this processor."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    target = tmp_path / "memedge_host.so"
    flags = ["-std=c++17", "-O1", "-g", "-fPIC", "-shared", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    built = subprocess.run([compiler, *flags, "-w", str(KERNELS / "host.cpp"), "-o", str(target)], capture_output=True)
    if built.returncode:
        pytest.skip("this g++ has no sanitizers")
    libraries = [
        subprocess.run([compiler, f"-print-file-name=lib{name}.so"], capture_output=True, text=True).stdout.strip()
        for name in ("asan", "ubsan")
    ]
    work(target, "plain", LD_PRELOAD=" ".join(libraries), ASAN_OPTIONS="detect_leaks=0")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["g++", "clang++"])
def test_compiles_without_a_warning(name: str, tmp_path: Path) -> None:
    compiler = shutil.which(name)
    if compiler is None:
        pytest.skip(f"no {name}")
    # GCC's own AVX-512 headers set off this one warning.
    flags = [
        "-std=c++17",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-maybe-uninitialized",
        "-Wno-unknown-warning-option",
    ]
    command = [compiler, *flags, "-fPIC", "-shared", str(KERNELS / "host.cpp"), "-o", str(tmp_path / "x.so")]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    work(tmp_path / "x.so", "plain")
