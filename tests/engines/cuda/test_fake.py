"""The fake driver works as late as a device may, captures as CUDA does, and fails on order."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import pytest

from helpers_cuda import opened
from memedge_engines.cuda import conformance
from memedge_engines.cuda.driver_errors import context_lost
from memedge_engines.cuda.fake import FAKE_DEVICE, FakeDriver
from memedge_engines.cuda.memory import DeviceBuffer, PinnedBuffer
from memedge_engines.errors import CudaError, CudaUnsupported, DeviceOutOfMemory, DriverTooOld


@pytest.fixture
def driver() -> FakeDriver:
    return opened()


def launch(driver: FakeDriver, function: int, stream: int, count: int = 2) -> int:
    address = driver.device_alloc(count * 4)
    values = [ctypes.c_uint64(address), ctypes.c_int32(count), ctypes.c_float(2)]
    driver.launch(function, (1, 1, 1), (32, 1, 1), values, stream)
    return address


def test_device_addresses_are_no_host_addresses(driver: FakeDriver) -> None:
    address = driver.device_alloc(300)
    assert address % 256 == 0
    assert address % 512 != 0, "more than was promised"
    # Bits 47 to 63 differ: no x86-64 or Arm process can have memory there.
    assert address >> 47 not in (0, (1 << 17) - 1)


def test_queued_work_is_not_done_before_somebody_waits() -> None:
    driver = opened(late=True)
    stream, event = driver.stream_create(), driver.event_create()
    with PinnedBuffer(driver, 8) as host, DeviceBuffer(driver, 8) as device:
        driver.memory(device.address, 8)[:] = 7
        driver.copy_to_host(host.address, device.address, 8, stream)
        driver.event_record(event, stream)
        assert not driver.event_query(event)
        assert not (host.array == 7).any(), "read too early, the target holds rubbish"
        driver.event_synchronize(event)
        assert (host.array == 7).all()
        assert driver.event_query(event)
    driver.event_destroy(event)
    driver.stream_destroy(stream)
    driver.release()
    driver.close_check()


def test_an_event_runs_what_other_streams_owe_it(driver: FakeDriver) -> None:
    first, second, ready = driver.stream_create(), driver.stream_create(), driver.event_create()
    order: list[str] = []
    driver.enqueue(first, lambda: order.append("first"), "first")
    driver.event_record(ready, first)
    driver.enqueue(first, lambda: order.append("later"), "later")
    driver.stream_wait_event(second, ready)
    driver.enqueue(second, lambda: order.append("second"), "second")
    driver.stream_synchronize(second)
    assert order == ["first", "second"]
    driver.stream_synchronize(first)
    assert order == ["first", "second", "later"]


@pytest.mark.parametrize(
    "act",
    [
        lambda driver, stream: driver.stream_synchronize(stream),
        lambda driver, stream: driver.device_alloc(8),
        lambda driver, stream: driver.host_alloc(8),
        lambda driver, stream: driver.module_load(conformance.PTX),
        lambda driver, stream: driver.refuse_in_capture("enqueueV3", stream),
    ],
)
def test_calls_that_spoil_a_capture(driver: FakeDriver, act: Callable[[FakeDriver, int], Any]) -> None:
    stream = driver.stream_create()
    driver.capture_begin(stream)
    assert driver.capturing(stream)
    with pytest.raises(CudaError) as refused:
        act(driver, stream)
    assert refused.value.code == 900
    with pytest.raises(CudaError) as ended:
        driver.capture_end(stream)
    assert ended.value.code == 901
    assert not driver.capturing(stream)
    driver.stream_synchronize(stream)


def test_another_thread_may_allocate_during_a_capture(driver: FakeDriver) -> None:
    stream = driver.stream_create()
    driver.capture_begin(stream)
    worked: list[bool] = []

    def work() -> None:
        driver.bind()
        driver.device_free(driver.device_alloc(8))
        driver.unbind()
        worked.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    driver.graph_destroy(driver.capture_end(stream))
    assert worked


def test_a_second_stream_in_a_capture_must_be_joined(driver: FakeDriver) -> None:
    origin, side = driver.stream_create(), driver.stream_create()
    fork, join, done = driver.event_create(), driver.event_create(), []
    for joined in (True, False):
        driver.capture_begin(origin)
        driver.event_record(fork, origin)
        driver.stream_wait_event(side, fork)
        driver.enqueue(side, lambda: done.append("side"), "side")
        driver.event_record(join, side)
        if joined:
            driver.stream_wait_event(origin, join)
            executable = driver.graph_instantiate(driver.capture_end(origin))
            driver.graph_launch(executable, origin)
            driver.stream_synchronize(origin)
            assert done == ["side"]
        else:
            with pytest.raises(CudaError, match="904"):
                driver.capture_end(origin)
        assert not driver.capturing(side)


def test_waiting_for_work_outside_spoils_a_capture(driver: FakeDriver) -> None:
    stream, other, event = driver.stream_create(), driver.stream_create(), driver.event_create()
    driver.event_record(event, other)
    driver.capture_begin(stream)
    with pytest.raises(CudaError, match="905"):
        driver.stream_wait_event(stream, event)
    with pytest.raises(CudaError, match="901"):
        driver.capture_end(stream)


def test_failures_on_order(driver: FakeDriver) -> None:
    failing = opened(fail={"device_alloc": 2, "module_load": 1, "launch": (1, 719)})
    failing.device_alloc(8)
    with pytest.raises(DeviceOutOfMemory):
        failing.device_alloc(8)
    failing.device_alloc(8)
    with pytest.raises(DriverTooOld, match="222"):
        failing.module_load(conformance.PTX)
    function = failing.module_function(failing.module_load(conformance.PTX), conformance.KERNEL)
    stream = failing.stream_create()
    with pytest.raises(CudaError, match="719") as lost:
        launch(failing, function, stream)
    assert context_lost(lost.value)
    with pytest.raises(CudaError, match="719"):
        failing.stream_synchronize(stream)
    failing.release()
    failing.close_check()
    driver.fail_next("memory_info", 999)
    with pytest.raises(CudaError, match="999"):
        driver.memory_info()
    driver.memory_info()


def test_memory_is_limited_and_counted() -> None:
    from dataclasses import replace

    driver = opened(devices=[replace(FAKE_DEVICE, memory_bytes=1000, can_map_host=False)])
    first = driver.device_alloc(600)
    assert driver.memory_info() == (400, 1000)
    with pytest.raises(DeviceOutOfMemory):
        driver.device_alloc(600)
    driver.device_free(first)
    driver.device_free(driver.device_alloc(600))
    with pytest.raises(CudaUnsupported):
        driver.host_alloc(8, mapped=True)
    driver.release()


@pytest.mark.parametrize(
    ("version", "driver_version", "fits"),
    [("8.5", 12060, True), ("9.0", 12060, False), ("9.0", 13000, True), ("8.7", 12080, True)],
)
def test_ptx_newer_than_the_driver(version: str, driver_version: int, fits: bool) -> None:
    driver = opened(driver_version=driver_version)
    image = conformance.PTX.replace(b".version 7.0", f".version {version}".encode())
    if fits:
        driver.module_unload(driver.module_load(image))
    else:
        with pytest.raises(DriverTooOld):
            driver.module_load(image)
    driver.release()


def test_without_graphs_capture_is_unsupported() -> None:
    driver = opened(graphs=False)
    with pytest.raises(CudaUnsupported):
        driver.capture_begin(driver.stream_create())
