"""Frames to tensors end to end on the fake driver, whose kernel is the emulated one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from helpers_kernel import fake_kernel, in_planes, restated
from helpers_media import make_contract, noise_planes
from memedge_engines.cuda.driver import Driver
from memedge_engines.cuda.fake import FAKE_DEVICE, FakeDriver
from memedge_engines.cuda.memory import DeviceBuffer, PinnedBuffer
from memedge_engines.cuda.pictures import PicturesToTensor
from memedge_engines.cuda.staging import Staging
from memedge_engines.cuda.tables import DeviceAxes
from memedge_engines.errors import CudaError, DeviceOutOfMemory, EngineError, FrameError, PreprocessError
from memedge_engines.frame import Frame, MemoryKind, PixelFormat, Plane
from memedge_engines.kernels import image
from memedge_engines.manifest import InputStorage
from memedge_engines.preprocess.tables import axis_table
from memedge_engines.synthetic import LateEvent

CONTRACT = make_contract(40, 32)
INT8 = InputStorage(dtype="int8", scale=0.02)


@contextmanager
def opened(**options: Any) -> Iterator[tuple[FakeDriver, int]]:
    """A bound fake and a stream; whatever is left behind fails the test."""
    driver = FakeDriver({image.NAME: fake_kernel}, **options)
    driver.retain(0)
    driver.bind()
    stream = driver.stream_create()
    yield driver, stream
    driver.stream_destroy(stream)
    driver.unbind()
    driver.release()
    driver.close_check()


def host_frame(pixel_format: PixelFormat, width: int, height: int, **fields: Any) -> Frame:
    return Frame.from_planes(noise_planes(pixel_format, width, height), pixel_format, width, height, **fields)


class Surface:
    """A plane in the fake's device memory, at a pitch."""

    def __init__(self, driver: Driver, queue: int, plane: np.ndarray, pitch: int, **extra: Any) -> None:
        rows, row_bytes = plane.shape
        wide = np.zeros((rows, pitch), np.uint8)
        wide[:, :row_bytes] = plane
        self.buffer = DeviceBuffer(driver, wide.nbytes)
        driver.copy_to_device(self.buffer.address, wide.ctypes.data, wide.nbytes, queue)
        driver.stream_synchronize(queue)
        self.__cuda_array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": plane.shape,
            "strides": (pitch, 1),
            "data": (self.buffer.address, False),
            **extra,
        }


@contextmanager
def on_device(driver: Driver, queue: int, frame: Frame, pitch: int, **extra: Any) -> Iterator[Frame]:
    surfaces = [Surface(driver, queue, plane, pitch, **extra) for plane in frame.host_planes()]
    yield Frame.from_device(surfaces, frame.format, frame.width, frame.height, rotation=frame.rotation)
    for surface in surfaces:
        surface.buffer.close()


@contextmanager
def pinned(driver: Driver, frame: Frame, extra: int = 0) -> Iterator[Frame]:
    buffers, planes = [], []
    for plane in frame.host_planes():
        rows, row_bytes = plane.shape
        buffers.append(PinnedBuffer(driver, rows * (row_bytes + extra)))
        view = buffers[-1].array.reshape(rows, row_bytes + extra)
        view[:, :row_bytes] = plane
        planes.append(Plane(view, row_bytes + extra, MemoryKind.PINNED))
    yield Frame(planes, frame.format, frame.width, frame.height, rotation=frame.rotation)
    for buffer in buffers:
        buffer.close()


def read(driver: Driver, stream: int, target: DeviceBuffer, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    with PinnedBuffer(driver, size) as host:
        driver.copy_to_host(host.address, target.address, size, stream)
        driver.stream_synchronize(stream)
        return host.array.view(dtype).reshape(shape).copy()


def expected(frames: list[Frame], storage: InputStorage | None = None) -> np.ndarray:
    return np.stack([in_planes(restated(frame, CONTRACT), CONTRACT, storage) for frame in frames])


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("storage", [None, InputStorage(dtype="float16"), INT8])
def test_upload_kernel_read_back(storage, mapped):
    """One batch of frames in ordinary, page-locked and device memory."""
    hosts = [
        host_frame(PixelFormat.NV12, 161, 121),
        host_frame(PixelFormat.RGB24, 99, 301, rotation=90),
        host_frame(PixelFormat.I420, 80, 47, rotation=180),
        host_frame(PixelFormat.NV12, 353, 200),
        host_frame(PixelFormat.YUYV422, 97, 66, rotation=270),
    ]
    with opened() as (driver, stream):
        maker = PicturesToTensor(driver, CONTRACT, storage, max_batch=5, mapped=mapped)
        assert maker.picture_shape(hosts[0]) == (3, 32, 32)
        wanted = expected(hosts, storage)
        with (
            pinned(driver, hosts[2]) as second, on_device(driver, stream, hosts[3], 384) as third,
            pinned(driver, hosts[4], extra=5) as fourth, DeviceBuffer(driver, wanted.nbytes) as target,
        ):  # fmt: skip
            maker.enqueue(0, [hosts[0], hosts[1], second, third, fourth], target.address, stream)
            found = read(driver, stream, target, wanted.dtype, wanted.shape)
            maker.close()
        assert found.tobytes() == wanted.tobytes()


def test_a_captured_launch_serves_other_geometries_colours_and_targets():
    with opened() as (driver, stream):
        maker = PicturesToTensor(driver, CONTRACT, INT8, max_batch=2, slots=2)
        first = [host_frame(PixelFormat.NV12, 161, 121), host_frame(PixelFormat.NV12, 160, 120)]
        other = [host_frame(PixelFormat.BGR24, 301, 77, rotation=90), host_frame(PixelFormat.GRAY8, 55, 66)]
        wanted = expected(other, INT8)
        with DeviceBuffer(driver, wanted.nbytes) as target, DeviceBuffer(driver, wanted.nbytes) as later:
            maker.enqueue(1, first, target.address, stream)
            driver.stream_synchronize(stream)
            driver.capture_begin(stream)
            maker.launch(1, stream)
            graph = driver.capture_end(stream)
            executable = driver.graph_instantiate(graph)
            driver.graph_destroy(graph)
            before = maker.signature(1)
            maker.prepare(1, other, later.address)
            assert maker.signature(1) == before
            maker.upload(1, stream)
            driver.graph_launch(executable, stream)
            assert read(driver, stream, later, np.int8, wanted.shape).tobytes() == wanted.tobytes()
            maker.prepare(1, other[:1], later.address)
            assert maker.signature(1) != before
            driver.executable_destroy(executable)
            maker.close()


def test_two_slots_are_apart():
    with opened() as (driver, stream):
        maker = PicturesToTensor(driver, CONTRACT, INT8, slots=2)
        frames = [host_frame(PixelFormat.NV12, 161, 121), host_frame(PixelFormat.I420, 90, 200)]
        wanted = expected(frames, INT8)
        half = wanted[0].nbytes
        with DeviceBuffer(driver, wanted.nbytes) as target:
            for slot, frame in enumerate(frames):
                maker.prepare(slot, [frame], target.address + slot * half)
                maker.upload(slot, stream)
            for slot in (1, 0):
                maker.launch(slot, stream)
            assert read(driver, stream, target, np.int8, wanted.shape).tobytes() == wanted.tobytes()
            maker.close()


def test_only_the_crop_is_copied():
    """Of a wide picture; and the whole of a page-locked one's rows, from where they lie."""
    with opened() as (driver, _):
        frame = host_frame(PixelFormat.NV12, 640, 120)
        narrow = ((300, 340), (20, 100))
        staging = Staging(driver, mapped=False)
        staging.fill([frame], [narrow])
        ((_, _, size),) = staging._copies
        assert 40 * 80 * 1.5 < size < 640 * 120 * 0.2
        with pinned(driver, frame) as locked:
            staging.fill([locked], [narrow])
            assert [size for _, _, size in staging._copies] == [84 * 640, 42 * 640]
        staging.close()


def test_one_huge_picture_does_not_hold_memory(monkeypatch):
    monkeypatch.setattr("memedge_engines.cuda.staging.KEPT_BYTES", 10_000)
    with opened() as (driver, _):
        staging = Staging(driver, mapped=False)
        whole = ((0, 200), (0, 200))
        for side, most in ((200, 70_000), (190, 70_000), (60, 20_000), (40, 20_000)):
            staging.fill([host_frame(PixelFormat.NV12, side, side)], [whole])
            assert staging._host.size <= most
            assert staging._device.size <= most
        staging.close()


def test_tables_are_bounded_and_kept_while_in_use():
    with opened() as (driver, stream):
        axes = DeviceAxes(driver, stream)
        used = axes.take(axis_table(999, 100, 0, 100, "triangle"))
        for source in range(100, 100 + 2 * DeviceAxes.KEPT):
            axes.give_back(axes.take(axis_table(source, 10, 0, 10, "triangle")))
        assert len(axes._held) == DeviceAxes.KEPT + 1
        assert axes.take(used.table) is used
        assert used.users == 2
        axes.close()


@pytest.mark.parametrize(
    ("call", "numbers"),
    [
        ("stream_create", (2,)),
        ("module_load", (1,)),
        ("module_function", (1,)),
        ("host_alloc", (1, 2, 3)),
        ("device_alloc", range(2, 8)),
        ("copy_to_device", range(1, 6)),
        ("stream_synchronize", (1, 2, 3)),
    ],
)
def test_nothing_is_left_behind_where_a_call_fails(call, numbers):
    makers: list[PicturesToTensor] = []

    def use(driver: Driver, stream: int, target: int) -> None:
        makers.append(PicturesToTensor(driver, CONTRACT, slots=2))
        makers[-1].prepare(0, [host_frame(PixelFormat.NV12, 161, 121)], target)
        makers[-1].upload(0, stream)

    for number in numbers:
        with opened(fail={call: (number, 2)}) as (driver, stream), DeviceBuffer(driver, 4 * 3 * 32 * 32) as target:
            with pytest.raises(DeviceOutOfMemory):
                use(driver, stream, target.address)
            driver.stream_synchronize(stream)
            while makers:
                maker = makers.pop()
                maker.close()
                maker.close()


def test_frames_that_cannot_be_taken():
    with opened() as (driver, stream), DeviceBuffer(driver, 4096) as target:
        maker = PicturesToTensor(driver, make_contract(40, None), INT8, max_batch=2)
        frame = host_frame(PixelFormat.NV12, 64, 48)

        def refused(kind: type[Exception], text: str, *frames: Frame) -> None:
            with pytest.raises(kind, match=text):
                maker.prepare(0, list(frames), target.address)
            with pytest.raises(EngineError, match="holds no batch"):
                maker.launch(0, stream)

        refused(EngineError, "0 frames")
        refused(EngineError, "3 frames", frame, frame, frame)
        refused(PreprocessError, "53x40 and 40x53", frame, host_frame(PixelFormat.NV12, 48, 64))
        gone = host_frame(PixelFormat.NV12, 64, 48)
        gone.release()
        refused(FrameError, "after its release", gone)
        mixed = host_frame(PixelFormat.NV12, 64, 48)
        mixed.planes = [mixed.planes[0], Plane(np.zeros((24, 64), np.uint8), 64, MemoryKind.PINNED)]
        refused(FrameError, "host and pinned", mixed)
        with on_device(driver, stream, frame, 64) as device:
            surface = device.planes[0].buffer
            good = surface.__cuda_array_interface__
            for change, text in (
                ({"shape": (40, 64)}, "expected 48 rows"),
                ({"strides": (32, 1)}, "pitch"),
                ({"strides": (64, 2)}, "side by side"),
                ({"typestr": "<f4"}, "type <f4"),
                ({"data": (0, False)}, "at 0x0"),
            ):
                surface.__cuda_array_interface__ = {**good, **change}
                refused(FrameError, text, device)
            del surface.__cuda_array_interface__
            refused(FrameError, "CUDA array interface", device)
        with pytest.raises(EngineError, match="slot 1"):
            maker.prepare(1, [frame], target.address)
        maker.close()
        with pytest.raises(EngineError, match="before close"):
            maker.launch(0, stream)


def test_a_contract_that_does_not_fit_leaves_nothing():
    wrong = msgspec.structs.replace(CONTRACT, mean=(0.0, 0.0))
    with opened() as (driver, _), pytest.raises(PreprocessError, match="2 means"):
        PicturesToTensor(driver, wrong)


def test_the_producer_is_waited_for():
    """By its event; or by the stream that the surface names, where this driver knows it."""
    frame = host_frame(PixelFormat.NV12, 64, 48)
    with opened() as (driver, stream), DeviceBuffer(driver, 4 * 3 * 32 * 32) as target:
        maker = PicturesToTensor(driver, CONTRACT)
        event = frame.ready = LateEvent(0.001)
        maker.prepare(0, [frame], target.address)
        assert event.waited
        producer = driver.stream_create()
        with on_device(driver, stream, frame, 64, stream=producer) as device:
            waits = driver.calls["stream_synchronize"]
            maker.prepare(0, [device], target.address)
            assert driver.calls["stream_synchronize"] > waits
            driver.fail_next("stream_synchronize", 400)
            with pytest.raises(FrameError, match=f"stream {producer}"):
                maker.prepare(0, [device], target.address)
        driver.stream_destroy(producer)
        maker.close()


def test_mapped_memory_that_the_device_lacks():
    with opened(devices=[replace(FAKE_DEVICE, can_map_host=False)]) as (driver, _), pytest.raises(CudaError):
        PicturesToTensor(driver, CONTRACT, mapped=True)
