"""Buffers that free themselves, the thread that owns a device, and a clean end of the process."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from helpers_cuda import needs_package, on_twin, opened
from memedge_engines.cuda.fake import FAKE_DEVICE, FakeDriver
from memedge_engines.cuda.memory import DeviceBuffer, PinnedBuffer
from memedge_engines.cuda.worker import Worker
from memedge_engines.errors import (
    CudaError,
    CudaUnsupported,
    DeviceOutOfMemory,
    EngineError,
    ExecutorError,
    NoDevice,
)


def test_buffers_free_themselves_once() -> None:
    driver = opened()
    with DeviceBuffer(driver, 100) as device, PinnedBuffer(driver, 100, mapped=True) as host:
        host.array[:] = np.arange(100)
        assert (driver.memory(host.device_address, 100) == np.arange(100)).all()
        assert device.size == host.array.size == 100
        device.close()
    device.close()
    host.close()
    assert driver.calls["device_free"] == driver.calls["host_free"] == 1
    assert host.array.size == 0
    assert device.closed
    assert "closed" in repr(device)
    for closed in (device, host):
        with pytest.raises(EngineError, match="is closed"):
            _ = closed.address
    with pytest.raises(EngineError, match="is not mapped"):
        _ = host.device_address
    with PinnedBuffer(driver, 1) as plain, pytest.raises(EngineError, match="is not mapped"):
        _ = plain.device_address
    driver.release()
    driver.close_check()


def test_a_buffer_that_cannot_be_made_leaves_nothing() -> None:
    driver = opened(devices=[replace(FAKE_DEVICE, can_map_host=False)], fail={"device_alloc": 1})
    with pytest.raises(DeviceOutOfMemory):
        DeviceBuffer(driver, 8)
    with pytest.raises(CudaUnsupported):
        PinnedBuffer(driver, 8, mapped=True)
    driver.release()
    failing = opened(fail={"host_device_pointer": 1})
    with pytest.raises(CudaError, match="999"):
        PinnedBuffer(failing, 8, mapped=True)
    failing.release()
    failing.close_check()


def test_memory_of_a_lost_context_closes_silently_and_other_failures_do_not() -> None:
    driver = opened()
    device = DeviceBuffer(driver, 8)
    driver.fail_next("memory_info", 700)
    with pytest.raises(CudaError, match="700"):
        driver.memory_info()
    device.close()
    driver.release()
    other = opened()
    device = DeviceBuffer(other, 8)
    other.fail_next("device_free", 999)
    with pytest.raises(CudaError, match="999"):
        device.close()


class Unaligned(FakeDriver):
    def device_alloc(self, size: int) -> int:
        return super().device_alloc(size + 16) + 16

    def device_free(self, address: int) -> None:
        super().device_free(address - 16)


def test_unaligned_memory_is_refused() -> None:
    driver = Unaligned()
    driver.retain(0)
    driver.bind()
    with pytest.raises(CudaError, match="not aligned to 256"):
        DeviceBuffer(driver, 8)
    driver.release()
    driver.close_check()


def test_jobs_run_in_the_worker_in_order() -> None:
    seen: list[Any] = []
    with Worker(opened, name="device of the test") as worker:
        for number in range(20):
            worker.submit(lambda number=number: seen.append(number))
        name = worker.call(lambda: threading.current_thread().name)
        assert name == "device of the test"
        assert seen == list(range(20))
        assert worker.call(lambda: worker.call(lambda: 5)) == 5
        with pytest.raises(ZeroDivisionError):
            worker.call(lambda: 1 // 0)
        buffer = worker.call(lambda: DeviceBuffer(worker.driver, 8))
        worker.call(buffer.close)
        with pytest.raises(AssertionError, match="is not bound"):
            worker.driver.memory_info()
    worker.driver.close_check()  # type: ignore[attr-defined]
    worker.close()
    with pytest.raises(ExecutorError, match="is closed"):
        worker.submit(lambda: None)


def test_close_finishes_what_was_queued() -> None:
    go, seen = threading.Event(), []
    worker = Worker(opened)
    worker.submit(go.wait)
    cancelled = worker.submit(lambda: seen.append("cancelled"))
    kept = worker.submit(lambda: seen.append("kept"))
    assert cancelled.cancel()
    closer = threading.Thread(target=worker.close)
    closer.start()
    go.set()
    closer.join()
    assert kept.result() is None
    with pytest.raises(CancelledError):
        cancelled.result()
    assert seen == ["kept"]


def test_a_worker_does_not_close_itself() -> None:
    with Worker(opened) as worker, pytest.raises(ExecutorError, match="by one of its own jobs"):
        worker.call(worker.close)


def test_what_is_left_behind_is_told_by_close() -> None:
    worker = Worker(opened)
    worker.call(lambda: DeviceBuffer(worker.driver, 8))
    with pytest.raises(AssertionError, match=r"never freed.*test_worker.py"):
        worker.close()
    worker.close()


def test_a_device_that_cannot_be_opened() -> None:
    def fails() -> FakeDriver:
        raise NoDevice("none here")

    before = threading.active_count()
    with pytest.raises(NoDevice, match="none here"):
        Worker(fails)
    assert threading.active_count() <= before + 1


FORGOTTEN = """
import atexit, ctypes, json
twin = ctypes.CDLL("libcuda.so.1")
# Handlers run in the reverse order: this one is the last.
atexit.register(lambda: print(json.dumps([twin.twin_retained(), twin.twin_depth()])))
from memedge_engines.cuda.memory import DeviceBuffer, PinnedBuffer
from memedge_engines.cuda.opening import open_driver
from memedge_engines.cuda.worker import Worker
driver = open_driver()
other = open_driver()
buffers = DeviceBuffer(driver, 100), PinnedBuffer(other, 100)
worker = Worker(open_driver)
stream = worker.call(worker.driver.stream_create)
worker.submit(lambda: worker.driver.stream_synchronize(stream))
assert twin.twin_retained() == 3
raise SystemExit(7)
"""


def test_what_is_forgotten_ends_cleanly() -> None:
    needs_package("cuda-python")
    assert on_twin(FORGOTTEN, code_expected=7, MEMEDGE_CUDA="cuda-python") == [0, 0]


UNBALANCED = """
import json
from memedge_engines.errors import CudaError
from memedge_engines.cuda.opening import load_driver
driver = load_driver()
said = []
for act in (driver.bind, driver.unbind, lambda: driver.retain(5)):
    try:
        act()
    except CudaError as error:
        said.append(str(error))
driver.retain(0)
try:
    driver.retain(0)
except CudaError as error:
    said.append(str(error))
driver.release()
driver.release()
print(json.dumps(said))
"""


def test_calls_in_the_wrong_order_are_errors() -> None:
    needs_package("cuda-python")
    said = on_twin(UNBALANCED, MEMEDGE_CUDA="cuda-python")
    for text, part in zip(said, ("before retain", "not bound", "INVALID_DEVICE", "already"), strict=True):
        assert part in text
