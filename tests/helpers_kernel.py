"""The CUDA kernel run on the host: its source compiled as C++, device memory with checked bounds, and the same pictures
restated in NumPy."""

from __future__ import annotations

import atexit
import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import memedge_engines.kernels
from memedge_engines.frame import Frame, PixelFormat, Plane, plane_shapes
from memedge_engines.kernels import image
from memedge_engines.kernels.job import AxisFields, Job, describe
from memedge_engines.manifest import InputStorage, Preprocess
from memedge_engines.preprocess.color import subsampling
from memedge_engines.preprocess.geometry import geometry
from memedge_engines.preprocess.reference import split_planes
from memedge_engines.preprocess.tables import AxisTable, axes, chroma_steps, color_table, value_table

KERNELS = Path(memedge_engines.kernels.__file__).parent
_FIRST_ADDRESS = 0x5DE0_0000_0000_0100


class Range(ctypes.Structure):
    """``me_range``."""

    _fields_ = [
        ("begin", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("data", ctypes.c_uint64),
        ("writable", ctypes.c_int32),
    ]


def compile_emulation(*flags: str) -> Path:
    """``emulate.cpp`` as a shared library (or a program, as ``flags`` say) in a folder that goes with the process."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to compile the kernel's host emulation with")
    folder = tempfile.mkdtemp(prefix="memedge-emulation-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    target = Path(folder) / "emulation.so"
    command = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-shared", "-fPIC"]
    built = subprocess.run([*command, *flags, "-o", target, KERNELS / "emulate.cpp"], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return target


def load_emulation(path: Path) -> ctypes.CDLL:
    """The library with its functions declared."""
    library = ctypes.CDLL(str(path))
    library.me_emulate.restype = ctypes.c_char_p
    library.me_emulate.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_int]
    return library


@functools.lru_cache(maxsize=1)
def emulation() -> ctypes.CDLL:
    """Built once a process."""
    return load_emulation(compile_emulation("-O2"))


def emulate(
    ranges: Sequence[tuple[int, NDArray[np.uint8], bool]],
    jobs: int,
    grid: tuple[int, int, int],
    *,
    backwards: bool = False,
    library: ctypes.CDLL | None = None,
) -> None:
    """One launch over (device address, bytes, writable) ranges; AssertionError for an access outside them."""
    given = (Range * len(ranges))(*(Range(a, d.nbytes, d.ctypes.data, int(w)) for a, d, w in ranges))
    fault = (library or emulation()).me_emulate(
        ctypes.addressof(given), len(ranges), jobs, (ctypes.c_int * 3)(*grid), int(backwards)
    )
    assert fault is None, fault.decode()


class DeviceMemory:
    """Arrays at made-up device addresses, 256-byte aligned, with gaps between them."""

    def __init__(self) -> None:
        self.ranges: list[tuple[int, NDArray[np.uint8], bool]] = []
        self._next = _FIRST_ADDRESS

    def place(self, array: NDArray[Any], *, writable: bool = False, shift: int = 0) -> int:
        """The address that the array gets; ``shift`` bytes past an aligned one."""
        assert array.flags.c_contiguous
        data = array.view(np.uint8).reshape(-1)
        address = self._next + shift
        self._next += (data.nbytes + shift + 1023) // 512 * 512
        self.ranges.append((address, data, writable))
        return address


def fake_kernel(driver: Any, grid: Any, block: Any, arguments: Any, shared_bytes: int) -> None:
    """The kernel for ``FakeDriver(kernels={"memedge_preprocess": fake_kernel})``."""
    assert block == (image.THREADS, 1, 1)
    assert shared_bytes == 0
    blocks = [b for b in driver._space().live() if b.device_address]
    emulate([(b.device_address, b.data, True) for b in blocks], arguments[0], grid)


def padded(frame: Frame, extra: int) -> Frame:
    """The same frame at a row pitch that is ``extra`` bytes larger, with noise in between."""
    rng = np.random.default_rng(extra)
    planes = []
    for plane, (rows, row_bytes) in zip(
        frame.host_planes(), plane_shapes(frame.format, frame.width, frame.height), strict=True
    ):
        wide = rng.integers(0, 256, (rows, row_bytes + extra), np.uint8)
        wide[:, :row_bytes] = plane
        planes.append(Plane(wide, row_bytes + extra))
    frame.planes = planes
    return frame


def launched(
    frames: Sequence[Frame],
    contract: Preprocess,
    storage: InputStorage | None = None,
    *,
    shift: int = 0,
    backwards: bool = False,
    library: ctypes.CDLL | None = None,
) -> NDArray[Any]:
    """``[N, C, h, w]`` in the storage's dtype: the frames by one launch of the emulated kernel.

    Every array is a range of its own, planes without a byte behind their last row: a read outside fails. ``shift``:
    bytes past an aligned address at which planes begin.
    """
    memory = DeviceMemory()
    shape = geometry(contract, *frames[0].display_size)
    values = value_table(contract, storage)
    target = np.zeros((len(frames), contract.channels, shape.out_h, shape.out_w), values.dtype)
    table, target_address = memory.place(values), memory.place(target, writable=True)
    jobs = (Job * len(frames))()
    for number, frame in enumerate(frames):
        planes = []
        for plane, (rows, row_bytes) in zip(
            frame.planes, plane_shapes(frame.format, frame.width, frame.height), strict=True
        ):
            exact = np.asarray(plane.buffer).reshape(-1)[: (rows - 1) * plane.pitch + row_bytes].copy()
            planes.append((memory.place(exact, shift=shift), plane.pitch))
        job = jobs[number]
        describe(job, frame, contract, planes)
        stored = geometry(contract, *frame.display_size).unrotated(frame.rotation)
        job.x, job.y = (
            AxisFields(memory.place(t.first), memory.place(t.weights), *t.weights.shape)
            for t in axes(stored, contract.resize.filter)
        )
        job.table, job.element = table, values.itemsize
        job.target = target_address + number * target[0].nbytes
    parameters = memory.place(np.frombuffer(bytes(jobs), np.uint8))
    grid = image.grid(shape.out_w, shape.out_h, len(frames))
    emulate(memory.ranges, parameters, grid, backwards=backwards, library=library)
    return target


def in_planes(picture: NDArray[np.uint8], contract: Preprocess, storage: InputStorage | None = None) -> NDArray[Any]:
    """``[C, h, w]``: what the tensor holds for a picture."""
    values = value_table(contract, storage)
    return np.stack([values[c][picture[..., c]] for c in range(contract.channels)])


def restated(frame: Frame, contract: Preprocess) -> NDArray[np.uint8]:
    """The picture, uint8 ``[h, w, C]``, from whole arrays: the arithmetic of ``pixels.h`` written anew.

    Sums are whole numbers below 2^53, so that float64 holds them exactly, in whatever order they are added.
    """
    stored = geometry(contract, *frame.display_size).unrotated(frame.rotation)
    across, down = (_dense(t, n) for t, n in zip(axes(stored, contract.resize.filter), _size(frame), strict=True))
    channels = []
    for plane in _in_order(_rgb(frame), contract.color):
        between = np.floor((down @ plane + (1 << 6)) / (1 << 7))
        level = np.floor((between @ across.T + (1 << 20)) / (1 << 21))
        channels.append(np.rot90(level, -frame.rotation // 90).astype(np.uint8))
    return np.stack(channels, axis=-1)


def _size(frame: Frame) -> tuple[int, int]:
    return frame.width, frame.height


def _dense(table: AxisTable, source: int) -> NDArray[np.float64]:
    """Weights ``[count, source]``."""
    count, taps = table.weights.shape
    dense = np.zeros((count, source))
    np.add.at(dense, (np.arange(count)[:, None], table.first[:, None] + np.arange(taps)), table.weights)
    return dense


def _rgb(frame: Frame) -> list[NDArray[np.int64]]:
    """R, G, B levels of the stored picture."""
    planes = frame.host_planes()
    if frame.format in (PixelFormat.RGB24, PixelFormat.BGR24):
        packed = planes[0].reshape(frame.height, frame.width, 3).astype(np.int64)
        return [packed[..., c] for c in ((0, 1, 2) if frame.format is PixelFormat.RGB24 else (2, 1, 0))]
    k = color_table(frame.matrix, frame.color_range)
    if frame.format is PixelFormat.GRAY8:
        luma, blue, red = planes[0].astype(np.int64), np.int64(0), np.int64(0)
    else:
        y, cb, cr = split_planes(planes, frame.format, frame.width)
        luma = y.astype(np.int64)
        blue, red = (_upsampled(c.astype(np.int64), frame) - 16 * 128 for c in (cb, cr))
    base = (k.luma * (luma << 23) >> 32) + k.base
    terms = (
        _product(k.red_cr, red),
        _product(k.green_cb, blue) + _product(k.green_cr, red),
        _product(k.blue_cb, blue),
    )
    return [np.clip((base + term) >> 21, 0, 255) for term in terms]


def _product(gain: int, chroma: NDArray[np.int64] | np.int64) -> NDArray[np.int64]:
    """A gain times chroma in sixteenths around zero, cut off to 21 fraction bits."""
    return np.asarray(gain * (chroma << 20) >> 32)


def _upsampled(chroma: NDArray[np.int64], frame: Frame) -> NDArray[np.int64]:
    """Chroma at luma size in sixteenths of a level."""
    _, _, half_x, half_y = chroma_steps(frame)
    steps = subsampling(frame.format)
    for axis, size, step, half in ((0, frame.height, steps[1], half_y), (1, frame.width, steps[0], half_x)):
        count = chroma.shape[axis]
        quarters = np.clip((2 if step == 2 else 4) * np.arange(size) - half, 0, 4 * (count - 1))
        low, part = quarters // 4, quarters % 4
        shape = (-1, 1) if axis == 0 else (1, -1)
        above = np.take(chroma, np.minimum(low + 1, count - 1), axis)
        chroma = (4 - part).reshape(shape) * np.take(chroma, low, axis) + part.reshape(shape) * above
    return chroma


def _in_order(rgb: list[NDArray[np.int64]], color: str) -> list[NDArray[np.int64]]:
    if color == "gray":
        return [(19595 * rgb[0] + 38470 * rgb[1] + 7471 * rgb[2] + 0x8000) >> 16]
    return rgb if color == "rgb" else rgb[::-1]
