"""The fast paths within one level of the float reference, and of Pillow for RGB, on made media."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from helpers_media import block_planes, levels_apart, make_contract, noise_planes, pillow_picture, preprocessors
from memedge_engines.errors import FrameError, PreprocessError
from memedge_engines.frame import ChromaSiting, ColorMatrix, ColorRange, Frame, PixelFormat, plane_shapes
from memedge_engines.manifest import Preprocess
from memedge_engines.preprocess import reference_picture, reference_rgb, to_rgb
from memedge_engines.preprocess import workspace as workspace_module

LEVEL = 1.0 + 1e-4  # float32 storage of the reference
COLORS = list(itertools.product(ColorMatrix, ColorRange, ChromaSiting))
WHOLE = make_contract(None, None)
CONTRACTS = {
    "crop": make_contract(64, 56),
    "whole": make_contract(64, None),
    "exact": make_contract((50, 91), 48),
    "up": make_contract(150, 140),
    "none": WHOLE,
    "gray": make_contract(64, 56, color="gray"),
    "bgr": make_contract(64, 56, color="bgr"),
    "bilinear": make_contract(64, 56, filter_name="bilinear"),
    "bilinear up": make_contract(150, None, filter_name="bilinear"),
}


def check(frame: Frame, contract: Preprocess) -> None:
    expected = reference_picture(frame, contract)
    for maker in preprocessors(contract):
        found = maker.picture(frame)
        assert found.dtype == np.uint8
        assert found.shape == expected.shape
        assert found.flags.c_contiguous
        assert found.flags.owndata
        assert levels_apart(found, frame, contract, expected) <= LEVEL, maker.name


@pytest.mark.parametrize("pixel_format", PixelFormat)
@pytest.mark.parametrize("size", [(160, 142), (161, 143), (1, 1), (1, 9), (8, 1), (2, 3), (3, 2)])
def test_rgb_of_every_format_color_and_size(pixel_format: PixelFormat, size: tuple[int, int]) -> None:
    for number, (matrix, color_range, siting) in enumerate(COLORS):
        for make in (noise_planes, block_planes):
            frame = Frame.from_planes(
                make(pixel_format, *size, seed=number),
                pixel_format,
                *size,
                matrix=matrix,
                color_range=color_range,
                siting=siting,
                rotation=90 * (number % 4),
            )
            expected = reference_rgb(frame)
            for maker in preprocessors(WHOLE):
                found = maker.picture(frame)
                assert found.shape == expected.shape
                difference = np.abs(found.astype(int) - expected)
                assert difference.max() <= 1, maker.name
                assert np.count_nonzero(difference) <= 1 + found.size // 10_000, maker.name


@pytest.mark.parametrize("name", CONTRACTS)
@pytest.mark.parametrize("pixel_format", PixelFormat)
def test_picture_of_every_format_and_contract(pixel_format: PixelFormat, name: str) -> None:
    for number, (width, height) in enumerate([(160, 142), (231, 157), (67, 233)]):
        for rotation in (0, 90, 180, 270):
            matrix, color_range, siting = COLORS[(7 * number + rotation // 90) % len(COLORS)]
            make = block_planes if rotation == 180 else noise_planes
            frame = Frame.from_planes(
                make(pixel_format, width, height, seed=rotation),
                pixel_format,
                width,
                height,
                matrix=matrix,
                color_range=color_range,
                siting=siting,
                rotation=rotation,
            )
            check(frame, CONTRACTS[name])


@pytest.mark.parametrize("name", ["crop", "bilinear", "gray"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (8, 1), (2, 2), (3, 1), (640, 3)])
def test_tiny_and_narrow_pictures(size: tuple[int, int], name: str) -> None:
    for pixel_format in PixelFormat:
        check(Frame.from_planes(noise_planes(pixel_format, *size), pixel_format, *size, rotation=90), CONTRACTS[name])


@pytest.mark.parametrize("pixel_format", [PixelFormat.I420, PixelFormat.NV12, PixelFormat.RGB24, PixelFormat.YUYV422])
@pytest.mark.parametrize("size", [(1280, 720), (853, 481)])
def test_video_sizes_at_the_usual_contract(pixel_format: PixelFormat, size: tuple[int, int]) -> None:
    """Only part of the picture is converted here; noise makes every wrong tap visible."""
    frame = Frame.from_planes(noise_planes(pixel_format, *size), pixel_format, *size, siting=ChromaSiting.TOPLEFT)
    check(frame, make_contract(256, 224))
    check(frame, make_contract(100, None))


@pytest.mark.parametrize("size", [(640, 480), (1280, 720), (500, 333), (64, 64), (30, 41), (1, 1), (1, 40), (2000, 30)])
@pytest.mark.parametrize("color", ["rgb", "bgr", "gray"])
def test_rgb_input_against_pillow(size: tuple[int, int], color: str) -> None:
    width, height = size
    rgb = noise_planes(PixelFormat.RGB24, width, height)[0].reshape(height, width, 3)
    for contract in (make_contract(64, 56, color=color), make_contract((90, 33), None, color=color)):
        expected = pillow_picture(rgb, contract).astype(int)
        for frame in (Frame.from_rgb(rgb), Frame.from_bgr(rgb[..., ::-1])):
            # Not only within one level: a crop is resized where the taps are the same to the last bit.
            without_compiler, *compiled = preprocessors(contract)
            assert np.array_equal(without_compiler.picture(frame), expected)
            for maker in compiled:
                assert np.abs(maker.picture(frame) - expected).max() <= 1, maker.name


def test_rows_with_padding_are_not_seen() -> None:
    for pixel_format in PixelFormat:
        tight = noise_planes(pixel_format, 150, 141, seed=1)
        padded = [np.pad(p, ((0, 3), (0, 37)), constant_values=255) for p in tight]
        for maker in preprocessors(make_contract(64, 56)):
            pictures = [maker.picture(Frame.from_planes(p, pixel_format, 150, 141)) for p in (tight, padded)]
            assert np.array_equal(*pictures)


def test_result_survives_the_frame_and_the_next_frame() -> None:
    for maker, pixel_format in itertools.product(preprocessors(WHOLE), PixelFormat):
        planes = noise_planes(pixel_format, 40, 30)
        frame = Frame.from_planes(planes, pixel_format, 40, 30)
        first = maker.picture(frame)
        kept = first.copy()
        for plane in planes:
            plane[:] = 0
        maker.picture(Frame.from_planes(planes, pixel_format, 40, 30))
        assert np.array_equal(first, kept)


def test_threads_share_a_preprocessor() -> None:
    frames = [
        Frame.from_planes(noise_planes(f, 300 + 7 * n, 200 + n, seed=n), f, 300 + 7 * n, 200 + n, rotation=90 * (n % 4))
        for n, f in enumerate(list(PixelFormat) * 3)
    ]
    for maker in preprocessors(make_contract(64, 56)):
        expected = [maker.picture(frame) for frame in frames]
        with ThreadPoolExecutor(6) as pool:
            for _ in range(3):
                found = list(pool.map(maker.picture, frames))
                assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_scratch_memory_is_bounded() -> None:
    workspace = workspace_module.Workspace()
    large = workspace.array("a", (workspace_module.KEPT_BYTES + 1,), np.uint8)
    assert large.size == workspace_module.KEPT_BYTES + 1
    assert not workspace._buffers
    small = workspace.array("a", (10, 3), np.float32)
    assert np.shares_memory(small, workspace.array("a", (5, 3), np.float32))


class Surface:
    """A device array that fails on host access."""

    def __init__(self, rows: int, pitch: int) -> None:
        self.__cuda_array_interface__ = {"typestr": "|u1", "shape": (rows, pitch), "data": (1, True), "version": 3}

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise AssertionError("host access to device memory")


@pytest.mark.parametrize("pixel_format", PixelFormat)
def test_device_frames_are_refused(pixel_format: PixelFormat) -> None:
    surfaces = [Surface(*shape) for shape in plane_shapes(pixel_format, 64, 48)]
    frame = Frame.from_device(surfaces, pixel_format, 64, 48)
    for work in (*(maker.picture for maker in preprocessors(make_contract(32, 32))), to_rgb, reference_rgb):
        with pytest.raises(PreprocessError, match="device memory"):
            work(frame)


def test_released_frames_are_refused() -> None:
    frame = Frame.from_rgb(np.zeros((8, 8, 3), np.uint8))
    frame.release()
    for maker in preprocessors(make_contract(8, 8)):
        with pytest.raises(FrameError, match="after its release"):
            maker.picture(frame)


def test_waits_for_the_producer() -> None:
    class Event:
        waited = False

        def wait(self) -> None:
            self.waited = True

    for maker in preprocessors(make_contract(8, 8)):
        event = Event()
        maker.picture(Frame.from_rgb(np.zeros((8, 8, 3), np.uint8), ready=event))
        assert event.waited


def test_extreme_aspect_ratio_is_refused() -> None:
    for maker in preprocessors(make_contract(256, 224)):
        with pytest.raises(PreprocessError, match="above the limit"):
            maker.picture(Frame.from_rgb(np.zeros((1, 70_000, 3), np.uint8)))
