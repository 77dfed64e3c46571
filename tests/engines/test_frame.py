"""Frame: what it refuses, who holds it, and what it looks like in each pixel format."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from memedge_engines.errors import FrameError
from memedge_engines.frame import ColorRange, Frame, MemoryKind, PixelFormat, Plane, plane_shapes


def rgb(height: int = 4, width: int = 6) -> np.ndarray:
    return np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)


def test_release_gives_the_memory_back_once() -> None:
    released: list[int] = []
    frame = Frame.from_rgb(rgb(), on_release=lambda: released.append(1))
    assert not frame.released
    frame.release()
    assert frame.released
    assert released == [1]
    with pytest.raises(FrameError, match="released twice"):
        frame.release()
    assert released == [1]


def test_every_holder_releases_once() -> None:
    released: list[int] = []
    frame = Frame.from_rgb(rgb(), on_release=lambda: released.append(1))
    assert frame.retain() is frame
    frame.release()
    assert not frame.released
    frame.host_planes()
    frame.release()
    assert released == [1]
    with pytest.raises(FrameError, match="retained after its release"):
        frame.retain()


def test_holders_on_many_threads() -> None:
    released: list[int] = []
    frame = Frame.from_rgb(rgb(), on_release=lambda: released.append(1))
    for _ in range(63):
        frame.retain()
    threads = [threading.Thread(target=frame.release) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert released == [1]


def test_use_after_release() -> None:
    frame = Frame.from_rgb(rgb())
    frame.owner = object()
    frame.release()
    assert frame.owner is None
    with pytest.raises(FrameError, match="used after its release"):
        frame.host_planes()


def test_rgb_is_not_copied() -> None:
    picture = rgb()
    planes = Frame.from_rgb(picture).host_planes()
    assert np.shares_memory(planes[0], picture)
    assert planes[0].shape == (4, 18)
    turned = picture[:, ::-1]
    np.testing.assert_array_equal(Frame.from_rgb(turned).host_planes()[0].reshape(4, 6, 3), turned)
    assert Frame.from_bgr(picture).format is PixelFormat.BGR24
    assert Frame.from_rgb(picture).color_range is ColorRange.FULL


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((4, 6), np.uint8),
        np.zeros((4, 6, 4), np.uint8),
        np.zeros((4, 6, 3), np.float32),
        np.zeros((0, 6, 3), np.uint8),
        np.zeros((4, 0, 3), np.uint8),
        np.zeros((1, 4, 6, 3), np.uint8),
    ],
)
def test_what_is_no_rgb_picture(picture: np.ndarray) -> None:
    with pytest.raises(FrameError, match=r"expected uint8 \[height, width, 3\]"):
        Frame.from_rgb(picture)


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
@pytest.mark.parametrize("size", [(6, 4), (5, 3), (1, 1)])
def test_planes_of_every_format(pixel_format: PixelFormat, size: tuple[int, int]) -> None:
    width, height = size
    shapes = plane_shapes(pixel_format, width, height)
    padded = [np.zeros((rows, length + 16), np.uint8) for rows, length in shapes]
    frame = Frame.from_planes(padded, pixel_format, width, height)
    assert [plane.shape for plane in frame.host_planes()] == shapes
    assert frame.memory is MemoryKind.HOST
    with pytest.raises(FrameError, match=f"{len(shapes) + 1} planes; expected {len(shapes)}"):
        Frame.from_planes([*padded, padded[0]], pixel_format, width, height)
    short = [*padded[:-1], np.zeros((shapes[-1][0], shapes[-1][1] - 1), np.uint8)]
    with pytest.raises(FrameError, match="pitch"):
        Frame.from_planes(short, pixel_format, width, height)
    low = [Plane(np.zeros((rows - 1, length), np.uint8), length) for rows, length in shapes]
    with pytest.raises(FrameError, match="expected uint8"):
        Frame(low, pixel_format, width, height)


def test_plane_sizes_are_ffmpegs() -> None:
    """An independent reference: PyAV's own planes, odd sizes included."""
    av = pytest.importorskip("av")
    for pixel_format in PixelFormat:
        for width, height in ((6, 4), (5, 3), (17, 9)):
            made = av.VideoFrame(width, height, pixel_format.value)
            shapes = plane_shapes(pixel_format, width, height)
            assert len(made.planes) == len(shapes)
            for plane, (rows, length) in zip(made.planes, shapes, strict=True):
                # An odd YUYV row holds a half pair, which FFmpeg leaves out of the line size and memedge reads.
                assert plane.line_size >= length - (2 if pixel_format is PixelFormat.YUYV422 else 0)
                assert plane.height == rows


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_display_size(rotation: int) -> None:
    frame = Frame.from_rgb(rgb(4, 6), rotation=rotation)
    assert frame.display_size == ((4, 6) if rotation in (90, 270) else (6, 4))


@pytest.mark.parametrize("rotation", [45, -90, 360])
def test_other_rotations_are_refused(rotation: int) -> None:
    with pytest.raises(FrameError, match="expected 0, 90, 180 or 270"):
        Frame.from_rgb(rgb(), rotation=rotation)


@pytest.mark.parametrize(("width", "height"), [(0, 4), (4, 0), (-1, 4)])
def test_sizes_below_one(width: int, height: int) -> None:
    with pytest.raises(FrameError, match="at least 1"):
        Frame([Plane(np.zeros((4, 4), np.uint8), 4)], PixelFormat.GRAY8, width, height)


def test_ready_is_waited_for() -> None:
    class Late:
        waited = 0

        def wait(self) -> None:
            self.waited += 1

    late = Late()
    Frame.from_rgb(rgb(), ready=late).host_planes()
    assert late.waited == 1


class DeviceArray:
    """A device allocation as CuPy, PyTorch or PyCUDA shows it."""

    def __init__(self, shape: tuple[int, ...], strides: tuple[int, ...] | None = None, kind: str = "|u1") -> None:
        self.__cuda_array_interface__: dict[str, Any] = {
            "shape": shape, "typestr": kind, "data": (4096, False), "version": 3, "strides": strides,
        }  # fmt: skip


def test_device_planes_keep_their_pitch() -> None:
    frame = Frame.from_device([DeviceArray((4, 6, 3), (32, 3, 1))], PixelFormat.RGB24, 6, 4)
    assert frame.memory is MemoryKind.DEVICE
    assert frame.planes[0].pitch == 32
    assert Frame.from_device([DeviceArray((4, 6, 3))], PixelFormat.RGB24, 6, 4).planes[0].pitch == 18
    with pytest.raises(FrameError, match="device memory"):
        frame.host_planes()


def test_surfaces_that_are_no_device_arrays() -> None:
    class OnlyDlpack:
        def __dlpack__(self) -> object:
            raise AssertionError("never called")

    with pytest.raises(FrameError, match="expected a device array"):
        Frame.from_device([rgb()[:, :, 0].tolist()], PixelFormat.GRAY8, 6, 4)
    with pytest.raises(FrameError, match="without the CUDA array interface"):
        Frame.from_device([OnlyDlpack()], PixelFormat.GRAY8, 6, 4)
    with pytest.raises(FrameError, match=r"type <f4; expected \|u1"):
        Frame.from_device([DeviceArray((4, 6), kind="<f4")], PixelFormat.GRAY8, 6, 4)
    with pytest.raises(FrameError, match="pitch 5 bytes; a row needs 6"):
        Frame.from_device([DeviceArray((4, 6), (5, 1))], PixelFormat.GRAY8, 6, 4)
