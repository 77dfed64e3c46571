"""The CUDA kernel's own loops, run by a host compiler, against the pictures restated in NumPy."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers_kernel import (
    DeviceMemory,
    compile_emulation,
    emulate,
    emulation,
    in_planes,
    launched,
    load_emulation,
    padded,
    restated,
)
from helpers_media import block_planes, make_contract, noise_planes
from memedge_engines.frame import ChromaSiting, ColorMatrix, ColorRange, Frame, PixelFormat
from memedge_engines.kernels import image
from memedge_engines.kernels.host import Absent, kernels
from memedge_engines.kernels.job import Job
from memedge_engines.manifest import InputStorage
from memedge_engines.preprocess import reference_picture

FORMATS = list(PixelFormat)
STORAGES = [
    None,
    InputStorage(dtype="float16"),
    InputStorage(dtype="int8", scale=0.021),
    InputStorage(dtype="uint8", scale=0.02),
]


def frame_of(pixel_format: PixelFormat, width: int, height: int, *, made=noise_planes, **fields) -> Frame:
    fields.setdefault("color_range", ColorRange.LIMITED if pixel_format.is_yuv else ColorRange.FULL)
    planes = made(pixel_format, width, height, seed=width + height)
    return Frame.from_planes(planes, pixel_format, width, height, **fields)


def test_structure_is_the_one_of_the_header():
    found = (ctypes.c_int * 12)()
    emulation().me_layout(found)
    names = ("pitch", "format", "half_y", "color", "x", "y", "table", "target")
    assert list(found[:9]) == [ctypes.sizeof(Job), *(getattr(Job, name).offset for name in names)]
    assert (*found[9:11], found[11]) == (*image.TILE, image.THREADS)


@pytest.mark.parametrize("filter_name", ["triangle", "bilinear"])
@pytest.mark.parametrize("pixel_format", FORMATS)
def test_bytes_of_every_format(pixel_format, filter_name):
    for number, (width, height) in enumerate([(101, 67), (213, 120), (64, 48), (33, 2), (1, 1), (2, 9)]):
        siting = list(ChromaSiting)[number % 3]
        for size, crop, color in (
            (24, 16, "rgb"),
            ((19, 40), None, "bgr"),
            ((40, 37), None, "gray"),
            (None, None, "rgb"),
        ):
            if crop and min(width, height) * 40 < max(width, height):
                continue
            contract = make_contract(size, crop, color=color, filter_name=filter_name)
            frame = frame_of(pixel_format, width, height, siting=siting)
            found = launched([frame], contract, STORAGES[3], backwards=number % 2 == 1)[0]
            assert np.array_equal(found, in_planes(restated(frame, contract), contract, STORAGES[3])), (
                width,
                height,
                size,
            )


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_any_pitch_and_address(pixel_format):
    """Rows that no word load can begin at, beside those that some planes can be loaded so."""
    contract = make_contract(24, 20)
    for extra, shift in ((0, 1), (1, 0), (2, 2), (3, 0), (12, 4)):
        frame = padded(frame_of(pixel_format, 75, 49), extra)
        found = launched([frame], contract, shift=shift)[0]
        assert np.array_equal(found, in_planes(restated(frame, contract), contract)), (extra, shift)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_batch_of_different_pictures(storage):
    """One launch: other formats, sizes, turns and colours; a target that is not square, and larger than a tile."""
    contract = make_contract((41, 70), None)
    frames = [
        frame_of(pixel_format, 150 - 7 * n, 97 + 5 * n, rotation=90 * (n % 4), matrix=list(ColorMatrix)[n % 3])
        for n, pixel_format in enumerate(FORMATS)
    ]
    found = launched(frames, contract, storage)
    for frame, made in zip(frames, found, strict=True):
        wanted = in_planes(restated(frame, contract), contract, storage)
        assert made.dtype == wanted.dtype
        assert made.tobytes() == wanted.tobytes(), frame.format


@pytest.mark.parametrize("siting", list(ChromaSiting))
@pytest.mark.parametrize("matrix", list(ColorMatrix))
def test_colour(matrix, siting):
    contract = make_contract(40, None)
    for pixel_format in (PixelFormat.NV12, PixelFormat.YUV422P, PixelFormat.GRAY8):
        for color_range in ColorRange:
            frame = frame_of(
                pixel_format, 90, 60, made=block_planes, matrix=matrix, siting=siting, color_range=color_range
            )
            found = launched([frame], contract)[0]
            assert np.array_equal(found, in_planes(restated(frame, contract), contract))


@pytest.mark.parametrize(
    ("size", "target"),
    [((700, 500), (3, 2)), ((1500, 20), (8, 20)), ((20, 1600), (9, 15)), ((31, 17), (90, 131)), ((9, 2000), (1, 1))],
)
def test_any_scale(size, target):
    """Source ranges that do not fit beside each other, one way or both; enlarging."""
    contract = make_contract(target, None)
    for pixel_format in (PixelFormat.I420, PixelFormat.BGR24):
        frame = frame_of(pixel_format, *size, siting=ChromaSiting.CENTER)
        found = launched([frame], contract)[0]
        assert np.array_equal(found, in_planes(restated(frame, contract), contract)), pixel_format


def test_a_job_without_a_picture_does_nothing():
    memory = DeviceMemory()
    jobs = memory.place(np.zeros(2 * ctypes.sizeof(Job), np.uint8))
    emulate(memory.ranges, jobs, image.grid(64, 48, 2))


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_within_one_level_of_the_float_reference(pixel_format):
    for filter_name, rotation in (("triangle", 0), ("triangle", 270), ("bilinear", 180)):
        contract = make_contract((60, 80), None, filter_name=filter_name)
        frame = frame_of(pixel_format, 321, 243, rotation=rotation)
        tensor = launched([frame], contract)[0].transpose(1, 2, 0)
        levels = (tensor * np.array(contract.std) + np.array(contract.mean)) / contract.scale
        assert np.abs(levels - reference_picture(frame, contract)).max() <= 1.0 + 1e-4


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_same_bytes_as_the_compiled_cpu_path(pixel_format):
    if isinstance(kernels(), Absent):
        pytest.skip("the CPU path is not compiled here")
    from memedge_engines.preprocess.native import NativePreprocessor

    sizes = ((641, 363, 0, "rgb"), (353, 480, 90, "bgr"), (129, 131, 180, "gray"), (99, 70, 270, "rgb"))
    for storage, (width, height, rotation, color) in zip(STORAGES, sizes, strict=True):
        contract = make_contract(66, 60, color=color)
        frame = frame_of(pixel_format, width, height, rotation=rotation)
        native = NativePreprocessor(contract)
        assert launched([frame], contract, storage).tobytes() == native.tensor(frame, storage).tobytes()


def test_reads_outside_are_found():
    """The check itself: planes that are a row shorter than the job says."""
    contract = make_contract(None, None)
    frame = frame_of(PixelFormat.RGB24, 40, 30)
    frame.height += 1
    with pytest.raises(AssertionError, match="outside"):
        launched([frame], contract)


def test_barriers():
    """Each thread a fiber that runs from barrier to barrier, in both orders: parts of columns, of rows, and both."""
    library = load_emulation(compile_emulation("-O1", "-DME_FIBERS"))
    for pixel_format, size, target in (
        (PixelFormat.NV12, (400, 90), (12, 40)),
        (PixelFormat.I420, (90, 700), (4, 33)),
        (PixelFormat.BGR24, (900, 400), (3, 2)),
        (PixelFormat.GRAY8, (64, 48), (64, 48)),
    ):
        contract = make_contract(target, None)
        frame = frame_of(pixel_format, *size, rotation=90)
        wanted = in_planes(restated(frame, contract), contract)
        for backwards in (False, True):
            found = launched([frame], contract, backwards=backwards, library=library)[0]
            assert np.array_equal(found, wanted), (pixel_format, backwards)


SANITIZED = """
import sys
from pathlib import Path
from helpers_kernel import in_planes, launched, load_emulation, padded, restated
from helpers_media import make_contract, noise_planes
from memedge_engines.frame import Frame, PixelFormat
library = load_emulation(Path(sys.argv[1]))
for number, pixel_format in enumerate(PixelFormat):
    for size, target in (((101, 67), (24, 33)), ((900, 700), (5, 4)), ((20, 15), (70, 61))):
        contract = make_contract(target, None, color=("rgb", "gray")[number % 2])
        planes = noise_planes(pixel_format, *size)
        frame = Frame.from_planes(planes, pixel_format, *size, rotation=90 * (number % 4))
        frame = padded(frame, number % 3)
        assert (launched([frame], contract, library=library)[0] == in_planes(restated(frame, contract), contract)).all()
"""


@pytest.mark.slow
def test_shared_memory_under_the_sanitizers(project_root: Path):
    """Global arrays stand for shared memory: an index outside them ends the process."""
    target = compile_emulation("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    runtime = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    paths = [project_root, project_root / "engines", project_root / "tests"]
    environment = {
        **os.environ,
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), *map(str, paths)]).strip(os.pathsep),
    }
    run = subprocess.run(
        [sys.executable, "-c", SANITIZED, target], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
