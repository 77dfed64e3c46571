"""Compiled preprocessing: each instruction set gives the bytes of the arithmetic restated in NumPy; what it refuses."""

from __future__ import annotations

import ctypes
import itertools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from helpers_kernel import restated
from helpers_media import block_planes, make_contract, noise_planes
from memedge_engines.errors import PreprocessError
from memedge_engines.frame import ChromaSiting, ColorMatrix, ColorRange, Frame, PixelFormat
from memedge_engines.host_executor import to_input
from memedge_engines.kernels import host
from memedge_engines.kernels.job import Job
from memedge_engines.manifest import InputStorage, NodeInput, Preprocess
from memedge_engines.preprocess import Preprocessor, native, to_rgb
from memedge_engines.preprocess.native import NativePreprocessor

KERNELS = host.kernels()
if isinstance(KERNELS, host.Absent):
    pytest.skip(f"no compiled preprocessing: {KERNELS.reason}", allow_module_level=True)

COLORS = list(itertools.product(ColorMatrix, ColorRange, ChromaSiting))
SIZES = [(1, 1), (1, 9), (8, 1), (2, 3), (67, 33), (161, 143), (640, 3), (5, 300)]
CONTRACTS = {
    "shrink": make_contract(29, 21),
    "far": make_contract((1, 2), None),
    "stretch": make_contract((150, 201), 140),
    "across only": make_contract((143, 40), None),
    "none": make_contract(None, None),
    "gray": make_contract((31, 50), 30, color="gray"),
    "bgr": make_contract((33, 70), None, color="bgr"),
    "bilinear": make_contract((19, 90), None, filter_name="bilinear"),
}


@pytest.mark.parametrize("name", CONTRACTS)
@pytest.mark.parametrize("pixel_format", PixelFormat)
def test_every_instruction_set_gives_the_restated_bytes(pixel_format: PixelFormat, name: str) -> None:
    contract = CONTRACTS[name]
    makers = [NativePreprocessor(contract, instructions) for instructions in KERNELS.instructions]
    for number, (width, height) in enumerate(SIZES):
        for rotation in (0, 90, 180, 270):
            matrix, color_range, siting = COLORS[(5 * number + rotation // 90) % len(COLORS)]
            make = noise_planes if rotation else block_planes
            planes = [
                np.pad(plane, ((0, 1), (0, (number * 7 + k) % 20)), constant_values=255)
                for k, plane in enumerate(make(pixel_format, width, height, seed=number))
            ]
            frame = Frame.from_planes(
                planes,
                pixel_format,
                width,
                height,
                matrix=matrix,
                color_range=color_range,
                siting=siting,
                rotation=rotation,
            )
            expected = restated(frame, contract)
            for maker in makers:
                found = maker.picture(frame)
                assert found.shape == expected.shape
                assert np.array_equal(found, expected), (maker.name, width, height, rotation)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("layout", ["nchw", "ncthw", "ntchw"])
@pytest.mark.parametrize("color", ["rgb", "gray"])
def test_tensor_is_what_the_host_executor_makes_of_the_picture(rotation: int, layout: str, color: str) -> None:
    contract = make_contract(40, 33, color=color, layout=layout)
    item = NodeInput(name="x", source="source", preprocess=contract)
    frame = Frame.from_planes(noise_planes(PixelFormat.NV12, 90, 71), PixelFormat.NV12, 90, 71, rotation=rotation)
    for storage in (
        None,
        InputStorage(dtype="float32"),
        InputStorage(dtype="float16"),
        InputStorage(dtype="int8", scale=0.021),
        InputStorage(dtype="uint8", scale=0.013),
    ):
        for instructions in KERNELS.instructions:
            maker = NativePreprocessor(contract, instructions)
            expected = to_input(item, [maker.picture(frame)], storage)
            found = maker.tensor(frame, storage)
            assert found.dtype == expected.dtype
            assert found.shape == expected.shape
            assert np.array_equal(found, expected)


def test_columns_apart() -> None:
    """Planes as NumPy views may have any strides."""
    luma = np.repeat(noise_planes(PixelFormat.GRAY8, 50, 40)[0], 2, axis=1)
    maker = NativePreprocessor(make_contract(20, None))
    found, expected = (
        maker.picture(Frame.from_planes([plane], PixelFormat.GRAY8, 50, 40))
        for plane in (luma[:, ::2], luma[:, ::2].copy())
    )
    assert np.array_equal(found, expected)


def test_prepared_jobs_are_bounded() -> None:
    maker = NativePreprocessor(make_contract(16, 16))
    for width in range(20, 20 + 3 * native.KEPT_GEOMETRIES):
        maker.picture(Frame.from_rgb(np.zeros((20, width, 3), np.uint8)))
    assert len(maker._prepared) <= native.KEPT_GEOMETRIES


def test_planes_of_another_type_are_refused() -> None:
    frame = Frame.from_planes([np.zeros((8, 24), np.float32)], PixelFormat.RGB24, 8, 8)  # type: ignore[list-item]
    with pytest.raises(PreprocessError, match="plane of float32; expected uint8"):
        NativePreprocessor(make_contract(8, 8)).picture(frame)


def valid_job(contract: Preprocess) -> tuple[Job, list[object]]:
    """A job and what it points at."""
    maker = NativePreprocessor(contract)
    frame = Frame.from_planes(noise_planes(PixelFormat.I420, 30, 20), PixelFormat.I420, 30, 20)
    prepared = maker._prepare(frame)
    job = Job.from_buffer_copy(prepared.job)
    planes = frame.host_planes()
    for k, plane in enumerate(planes):
        job.plane[k], job.pitch[k] = plane.ctypes.data, plane.strides[0]
    target = np.zeros((prepared.shape.out_h, prepared.shape.out_w, 3), np.uint8)
    job.target = target.ctypes.data
    return job, [planes, target, prepared]


@pytest.mark.parametrize(
    ("field", "value"),
    [("format", 8), ("format", -1), ("order", 3), ("width", 0), ("height", -5), ("sub_x", 3), ("sub_y", 1),
     ("target", 0), ("width", 5), ("height", 5), ("table", 1)],
)  # fmt: skip
def test_jobs_that_are_not_valid_are_refused(field: str, value: int) -> None:
    job, held = valid_job(make_contract(16, None))
    scratch = np.empty(KERNELS.scratch_bytes(job), np.uint8)
    assert KERNELS.run(job, 0, scratch) == 0
    assert KERNELS.run(job, 0, scratch[:-1]) == 2
    assert KERNELS.run(job, len(KERNELS.instructions), scratch) == 3
    setattr(job, field, value)
    assert KERNELS.scratch_bytes(job) == 0
    assert KERNELS.run(job, 0, scratch) == 1
    assert held


def test_jobs_without_a_plane_are_refused() -> None:
    for plane in range(3):
        job, held = valid_job(make_contract(16, None))
        job.plane[plane] = 0
        assert KERNELS.scratch_bytes(job) == 0
        assert held


def test_taps_outside_the_picture_are_refused() -> None:
    for change in (-1, 31):
        job, held = valid_job(make_contract(16, None))
        first = np.array([change] * job.x.count, np.int32)
        job.x.first = first.ctypes.data
        assert KERNELS.scratch_bytes(job) == 0
        assert held


def test_scratch_memory_follows_the_result_not_the_photograph() -> None:
    """A resize over thousands of rows keeps 64 of them at most."""
    maker = NativePreprocessor(make_contract((2, 2), None))
    frame = Frame.from_planes(noise_planes(PixelFormat.I420, 64, 6000), PixelFormat.I420, 64, 6000)
    assert np.array_equal(maker.picture(frame), restated(frame, maker.contract))
    assert maker._prepare(frame).scratch < 64 * 1024


# What is used ---------------------------------------------------------------------------------------------------------


def test_the_variable_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEMEDGE_PREPROCESS", raising=False)
    assert Preprocessor(make_contract(8, 8)).name == f"native ({KERNELS.instructions[-1]})"
    monkeypatch.setenv("MEMEDGE_PREPROCESS", "numpy")
    assert Preprocessor(make_contract(8, 8)).name == "numpy+pillow"
    frame = Frame.from_planes(noise_planes(PixelFormat.I420, 33, 21), PixelFormat.I420, 33, 21)
    without_compiler = to_rgb(frame)
    monkeypatch.setenv("MEMEDGE_PREPROCESS", "native")
    assert np.abs(to_rgb(frame).astype(int) - without_compiler).max() <= 1
    monkeypatch.setenv("MEMEDGE_PREPROCESS", "fast")
    with pytest.raises(PreprocessError, match="MEMEDGE_PREPROCESS=fast; expected native or numpy"):
        Preprocessor(make_contract(8, 8))


def test_without_the_shared_object(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    absent = host.load(tmp_path / "memedge_host.so")
    assert isinstance(absent, host.Absent)
    assert "without a C++ compiler" in absent.reason
    monkeypatch.delenv("MEMEDGE_PREPROCESS", raising=False)
    monkeypatch.setattr(host, "kernels", lambda: absent)
    assert Preprocessor(make_contract(8, 8)).name == "numpy+pillow"
    monkeypatch.setattr(native, "kernels", lambda: absent)
    with pytest.raises(PreprocessError, match="no compiled preprocessing"):
        NativePreprocessor(make_contract(8, 8))
    monkeypatch.setenv("MEMEDGE_PREPROCESS", "native")
    with pytest.raises(PreprocessError, match="MEMEDGE_PREPROCESS=native, but it was not built"):
        Preprocessor(make_contract(8, 8))


def test_instructions_that_are_not_there() -> None:
    with pytest.raises(PreprocessError, match="'amx'; this processor has plain"):
        NativePreprocessor(make_contract(8, 8), "amx")


def test_a_file_that_is_no_shared_object(tmp_path: Path) -> None:
    path = tmp_path / "memedge_host.so"
    path.write_text("not a library")
    found = host.load(path)
    assert isinstance(found, host.Absent)
    assert found.reason.startswith("memedge_host.so does not load: ")


def test_a_shared_object_of_another_version(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    path = tmp_path / "memedge_host.so"
    code = b"int memedge_host_version(void) { return 7; }"
    subprocess.run([compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", path], input=code, check=True)
    found = host.load(path)
    assert isinstance(found, host.Absent)
    assert f"has version 7, this memedge expects {1000 * host.VERSION + ctypes.sizeof(Job)}" in found.reason
