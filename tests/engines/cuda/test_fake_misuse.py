"""The fake driver refuses what CUDA forbids or leaves undefined: one act of misuse each."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from helpers_cuda import opened
from memedge_engines.cuda import conformance
from memedge_engines.cuda.fake import FakeDriver, FakeDriverMisuse
from memedge_engines.cuda.memory import PinnedBuffer

MISUSES: dict[str, tuple[Callable[[FakeDriver, int], Any], str]] = {}


def misuse(match: str) -> Callable[[Callable[[FakeDriver, int], Any]], Callable[[FakeDriver, int], Any]]:
    def keep(act: Callable[[FakeDriver, int], Any]) -> Callable[[FakeDriver, int], Any]:
        MISUSES[act.__name__] = (act, match)
        return act

    return keep


@misuse("freed twice")
def double_free(driver: FakeDriver, stream: int) -> None:
    address = driver.device_alloc(8)
    driver.device_free(address)
    driver.device_free(address)


@misuse("no such allocation begins there")
def free_inside(driver: FakeDriver, stream: int) -> None:
    driver.device_free(driver.device_alloc(512) + 256)


@misuse("no such allocation begins there")
def free_as_the_other_kind(driver: FakeDriver, stream: int) -> None:
    driver.host_free(driver.device_alloc(8))


@misuse("used after free")
def copy_after_free(driver: FakeDriver, stream: int) -> None:
    address, host = driver.device_alloc(8), driver.host_alloc(8)
    driver.device_free(address)
    driver.copy_to_device(address, host, 8, stream)


@misuse("used after free")
def copy_from_freed_host_memory(driver: FakeDriver, stream: int) -> None:
    address, host = driver.device_alloc(8), driver.host_alloc(8)
    driver.host_free(host)
    driver.copy_to_device(address, host, 8, stream)


@misuse("reach beyond")
def copy_beyond_the_end(driver: FakeDriver, stream: int) -> None:
    driver.copy_to_device(driver.device_alloc(8), driver.host_alloc(16), 9, stream)


@misuse("reach beyond")
def copy_beyond_the_host_end(driver: FakeDriver, stream: int) -> None:
    driver.copy_to_host(driver.host_alloc(8), driver.device_alloc(16), 9, stream)


@misuse("given where host memory is wanted")
def device_address_as_host(driver: FakeDriver, stream: int) -> None:
    driver.copy_to_device(driver.device_alloc(8), driver.device_alloc(8), 8, stream)


@misuse("is no device memory")
def host_address_as_device(driver: FakeDriver, stream: int) -> None:
    host = driver.host_alloc(8, mapped=True)
    driver.copy_to_device(host, host, 8, stream)


@misuse("overlap")
def overlapping_copy(driver: FakeDriver, stream: int) -> None:
    address = driver.device_alloc(16)
    driver.copy_on_device(address + 4, address, 8, stream)


@misuse("freed while queued work uses it")
def free_while_in_use(driver: FakeDriver, stream: int) -> None:
    address = driver.device_alloc(8)
    driver.copy_to_device(address, driver.host_alloc(8), 8, stream)
    driver.device_free(address)


@misuse("was written while a copy to the device was queued")
def host_write_too_early(driver: FakeDriver, stream: int) -> None:
    with PinnedBuffer(driver, 8) as host:
        driver.copy_to_device(driver.device_alloc(8), host.address, 8, stream)
        host.array[3] += 1
        driver.stream_synchronize(stream)


@misuse("something was written beside")
def write_beside_host_memory(driver: FakeDriver, stream: int) -> None:
    host = driver.host_alloc(8)
    ctypes.memset(host, 1, 9)
    driver.host_free(host)


@misuse("default stream")
def default_stream(driver: FakeDriver, stream: int) -> None:
    driver.stream_synchronize(0)


@misuse("is a event; wanted: Stream")
def event_for_a_stream(driver: FakeDriver, stream: int) -> None:
    driver.stream_synchronize(driver.event_create())


@misuse("does not exist or was destroyed")
def destroyed_twice(driver: FakeDriver, stream: int) -> None:
    event = driver.event_create()
    driver.event_destroy(event)
    driver.event_destroy(event)


@misuse("operations queued")
def stream_destroyed_in_use(driver: FakeDriver, stream: int) -> None:
    driver.event_record(driver.event_create(), stream)
    driver.stream_destroy(stream)


@misuse("destroyed while queued work uses it")
def event_destroyed_in_use(driver: FakeDriver, stream: int) -> None:
    event = driver.event_create()
    driver.event_record(event, stream)
    driver.event_destroy(event)


@misuse("destroyed while queued work uses it")
def module_unloaded_in_use(driver: FakeDriver, stream: int) -> None:
    module = driver.module_load(conformance.PTX)
    launch(driver, driver.module_function(module, conformance.KERNEL), stream)
    driver.module_unload(module)


@misuse(r"arguments of \(8, 4\) bytes, the PTX declares \(8, 4, 4\)")
def too_few_arguments(driver: FakeDriver, stream: int) -> None:
    function = driver.module_function(driver.module_load(conformance.PTX), conformance.KERNEL)
    values = [ctypes.c_uint64(driver.device_alloc(8)), ctypes.c_int32(1)]
    driver.launch(function, (1, 1, 1), (1, 1, 1), values, stream)


@misuse("an argument is int")
def plain_number_as_argument(driver: FakeDriver, stream: int) -> None:
    function = driver.module_function(driver.module_load(conformance.PTX), conformance.KERNEL)
    driver.launch(function, (1, 1, 1), (1, 1, 1), [5], stream)  # type: ignore[list-item]


@misuse("was not told what the kernel 'other' does")
def kernel_of_unknown_meaning(driver: FakeDriver, stream: int) -> None:
    driver.module_function(driver.module_load(conformance.PTX.replace(b"conformance_scale", b"other")), "other")


@misuse("not page-locked during capture")
def ordinary_memory_in_a_capture(driver: FakeDriver, stream: int) -> None:
    values = np.zeros(8, np.uint8)
    address = driver.device_alloc(8)
    driver.capture_begin(stream)
    driver.copy_to_device(address, values.ctypes.data, 8, stream)


@misuse("freed while a graph executable uses it")
def memory_of_a_graph_freed(driver: FakeDriver, stream: int) -> None:
    address, host = driver.device_alloc(8), driver.host_alloc(8)
    driver.capture_begin(stream)
    driver.copy_to_device(address, host, 8, stream)
    driver.graph_instantiate(driver.capture_end(stream))
    driver.device_free(address)


@misuse("instantiated after what it uses is gone")
def graph_of_freed_memory(driver: FakeDriver, stream: int) -> None:
    address, host = driver.device_alloc(8), driver.host_alloc(8)
    driver.capture_begin(stream)
    driver.copy_to_device(address, host, 8, stream)
    graph = driver.capture_end(stream)
    driver.device_free(address)
    driver.graph_instantiate(graph)


@misuse("no capture was begun")
def capture_ended_twice(driver: FakeDriver, stream: int) -> None:
    driver.capture_begin(stream)
    driver.capture_end(stream)
    driver.capture_end(stream)


@misuse("with a capture in progress")
def unbound_in_a_capture(driver: FakeDriver, stream: int) -> None:
    driver.capture_begin(stream)
    driver.unbind()


@misuse("is not bound")
def call_after_unbind(driver: FakeDriver, stream: int) -> None:
    driver.unbind()
    driver.device_alloc(8)


@misuse("retained twice")
def retained_twice(driver: FakeDriver, stream: int) -> None:
    driver.retain(0)


@misuse("never freed or destroyed: stream .*test_fake_misuse.py:")
def released_with_things_left(driver: FakeDriver, stream: int) -> None:
    driver.release()


@misuse("was bound and never unbound")
def thread_that_ends_bound(driver: FakeDriver, stream: int) -> None:
    thread = threading.Thread(target=driver.bind, name="careless")
    thread.start()
    thread.join()
    driver.stream_destroy(stream)
    driver.close_check()


@misuse("not aligned to 256 bytes")
def unaligned_address(driver: FakeDriver, stream: int) -> None:
    driver.demand_aligned(driver.device_alloc(512) + 16, "set_tensor_address")


def launch(driver: FakeDriver, function: int, stream: int, count: int = 2) -> int:
    address = driver.device_alloc(count * 4)
    values = [ctypes.c_uint64(address), ctypes.c_int32(count), ctypes.c_float(2)]
    driver.launch(function, (1, 1, 1), (32, 1, 1), values, stream)
    return address


@pytest.mark.parametrize("name", MISUSES)
def test_misuse_is_refused(name: str) -> None:
    act, match = MISUSES[name]
    driver = opened()
    stream = driver.stream_create()
    with pytest.raises(FakeDriverMisuse, match=match):
        act(driver, stream)


def test_bind_needs_retain_and_failures_need_a_name() -> None:
    with pytest.raises(FakeDriverMisuse, match="before retain"):
        FakeDriver().bind()
    with pytest.raises(FakeDriverMisuse, match="do not exist: device_aloc"):
        FakeDriver(fail={"device_aloc": 1})
