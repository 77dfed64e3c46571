"""What every driver must do alike: the provider on a package, the fake, and whatever comes next.

Run by the tests on each provider, and on a user's machine by the self-test. Each check gets a driver that is retained
and bound, leaves nothing behind, and raises :class:`Nonconformance`.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CudaError, DeviceOutOfMemory, DriverTooOld, EngineError
from .driver import ALIGNMENT, Driver, KernelArgument
from .memory import DeviceBuffer, PinnedBuffer

KERNEL = "conformance_scale"
PTX = b"""
.version 7.0
.target sm_75
.address_size 64

// void conformance_scale(float *data, int count, float factor): data[i] *= factor for i < count
.visible .entry conformance_scale(
    .param .u64 data,
    .param .u32 count,
    .param .f32 factor
)
{
    .reg .pred %p<2>;
    .reg .f32 %f<4>;
    .reg .b32 %r<6>;
    .reg .b64 %d<5>;

    ld.param.u64 %d1, [data];
    ld.param.u32 %r1, [count];
    ld.param.f32 %f1, [factor];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.s32 %p1, %r5, %r1;
    @%p1 bra done;
    cvta.to.global.u64 %d2, %d1;
    mul.wide.s32 %d3, %r5, 4;
    add.s64 %d4, %d2, %d3;
    ld.global.f32 %f2, [%d4];
    mul.f32 %f3, %f2, %f1;
    st.global.f32 [%d4], %f3;
done:
    ret;
}
"""
_COUNT = 1000
_BLOCK = 128


class Nonconformance(EngineError):
    """A driver does not do what the seam promises."""


def scale(driver: Any, grid: Any, block: Any, arguments: tuple[Any, ...], shared_bytes: int) -> None:
    """The kernel for a fake driver."""
    address, count, factor = arguments
    reached = min(count, grid[0] * block[0])
    driver.memory(address, reached * 4).view(np.float32)[:] *= np.float32(factor)


def run_checks(driver: Driver) -> dict[str, str]:
    """All checks by name, in order: empty where it passed, else why not. The driver must be retained and bound."""
    found = {}
    for name, check in CHECKS.items():
        try:
            check(driver)
        except Exception as error:  # one failing check must not hide the others
            found[name] = f"{type(error).__name__}: {error}"
        else:
            found[name] = ""
    return found


class _Bench:
    """A stream, the kernel, and host and device memory for floats; everything is given back at the end."""

    def __init__(self, driver: Driver, stack: ExitStack) -> None:
        self.driver = driver
        self._stack = stack
        self.stream = self.new_stream()
        self.module = driver.module_load(PTX)
        stack.callback(driver.module_unload, self.module)
        self.kernel = driver.module_function(self.module, KERNEL)
        self.host = stack.enter_context(PinnedBuffer(driver, _COUNT * 4))
        self.device = stack.enter_context(DeviceBuffer(driver, _COUNT * 4))
        self.values: NDArray[np.float32] = self.host.array.view(np.float32)
        self.values[:] = np.arange(_COUNT, dtype=np.float32)

    def new_stream(self) -> int:
        stream = self.driver.stream_create()
        self._stack.callback(self.driver.stream_destroy, stream)
        return stream

    def new_event(self, timing: bool = False) -> int:
        event = self.driver.event_create(timing)
        self._stack.callback(self.driver.event_destroy, event)
        return event

    def scale(self, factor: float, count: int = _COUNT, stream: int | None = None, address: int | None = None) -> None:
        arguments: list[KernelArgument] = [
            ctypes.c_uint64(self.device.address if address is None else address),
            ctypes.c_int32(count),
            ctypes.c_float(factor),
        ]
        grid = (-(-_COUNT // _BLOCK), 1, 1)
        stream = self.stream if stream is None else stream
        self.driver.launch(self.kernel, grid, (_BLOCK, 1, 1), arguments, stream)

    def upload(self, stream: int | None = None) -> None:
        stream = self.stream if stream is None else stream
        self.driver.copy_to_device(self.device.address, self.host.address, self.host.size, stream)

    def download(self, stream: int | None = None) -> None:
        stream = self.stream if stream is None else stream
        self.driver.copy_to_host(self.host.address, self.device.address, self.host.size, stream)

    def wait(self) -> None:
        self.driver.stream_synchronize(self.stream)


@contextmanager
def _bench(driver: Driver) -> Any:
    with ExitStack() as stack:
        yield _Bench(driver, stack)


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise Nonconformance(what)


def _refused(kind: type[BaseException] | tuple[type[BaseException], ...], what: str, call: Any, *given: Any) -> Any:
    try:
        call(*given)
    except kind as error:
        return error.with_traceback(None)  # frames would keep what they used alive
    raise Nonconformance(f"{what} was not refused")


def _ramp(factor: float = 1.0, count: int = _COUNT) -> NDArray[np.float32]:
    wanted = np.arange(_COUNT, dtype=np.float32)
    wanted[:count] *= np.float32(factor)
    return wanted


def _devices(driver: Driver) -> None:
    _expect(driver.version() >= 11000, f"the driver's version is {driver.version()}")
    found = driver.devices()
    _expect(bool(found), "there is no device")
    for index, info in enumerate(found):
        _expect(info.index == index and bool(info.name), f"device {index} is told as {info}")
        _expect(info.capability >= (5, 0) and info.multiprocessors > 0, f"device {index} is told as {info}")
    free, total = driver.memory_info()
    _expect(0 < free <= total, f"{free} of {total} bytes are free")


def _alignment(driver: Driver) -> None:
    for size in (1, 3, 255, 257, 1000, 4097):
        with DeviceBuffer(driver, size) as device, PinnedBuffer(driver, size) as host:
            _expect(device.address % ALIGNMENT == 0, f"{size} bytes of device memory at {device.address:#x}")
            _expect(host.address % ALIGNMENT == 0, f"{size} bytes of page-locked memory at {host.address:#x}")
            _expect(host.array.size == size, f"{size} bytes of page-locked memory are an array of {host.array.size}")


def _copies(driver: Driver) -> None:
    with _bench(driver) as bench, DeviceBuffer(driver, bench.host.size) as other:
        bench.upload()
        driver.copy_on_device(other.address, bench.device.address, bench.host.size, bench.stream)
        bench.wait()
        bench.values[:] = 0
        driver.copy_to_host(bench.host.address + 40, other.address + 40, 400, bench.stream)
        bench.wait()
        wanted = np.zeros(_COUNT, np.float32)
        wanted[10:110] = np.arange(10, 110)
        _expect(np.array_equal(bench.values, wanted), "bytes copied to the device, within it and back differ")


def _ordinary_memory(driver: Driver) -> None:
    source, target = np.arange(_COUNT, dtype=np.float32), np.zeros(_COUNT, np.float32)
    with _bench(driver) as bench:
        driver.copy_to_device(bench.device.address, source.ctypes.data, source.nbytes, bench.stream)
        driver.copy_to_host(target.ctypes.data, bench.device.address, target.nbytes, bench.stream)
        bench.wait()
    _expect(np.array_equal(source, target), "ordinary host memory was not copied there and back")


def _launch(driver: Driver) -> None:
    with _bench(driver) as bench:
        bench.upload()
        bench.scale(-1.5, count=777)
        bench.download()
        bench.wait()
        _expect(np.array_equal(bench.values, _ramp(-1.5, 777)), "a kernel got other arguments than it was given")


def _mapped_memory(driver: Driver) -> None:
    if not driver.devices()[0].can_map_host:
        return
    with _bench(driver) as bench, PinnedBuffer(driver, _COUNT * 4, mapped=True) as mapped:
        values = mapped.array.view(np.float32)
        values[:] = np.arange(_COUNT)
        bench.scale(4.0, address=mapped.device_address)
        bench.wait()
        _expect(np.array_equal(values, _ramp(4.0)), "a kernel did not work in mapped memory")


def _events(driver: Driver) -> None:
    with _bench(driver) as bench:
        start, stop, plain = bench.new_event(True), bench.new_event(True), bench.new_event()
        driver.event_record(start, bench.stream)
        bench.upload()
        bench.download()
        driver.event_record(stop, bench.stream)
        driver.event_record(plain, bench.stream)
        driver.event_synchronize(plain)
        _expect(driver.event_query(plain) and driver.event_query(stop), "an event that was waited for is not done")
        elapsed = driver.event_elapsed_ms(start, stop)
        _expect(0 <= elapsed < 60_000, f"{elapsed} ms between two events")
        _refused(CudaError, "the time of an event without timing", driver.event_elapsed_ms, start, plain)


def _two_streams(driver: Driver) -> None:
    with _bench(driver) as bench:
        second, ready = bench.new_stream(), bench.new_event()
        bench.upload()
        bench.scale(2.0)
        driver.event_record(ready, bench.stream)
        driver.stream_wait_event(second, ready)
        bench.scale(3.0, stream=second)
        bench.download(stream=second)
        driver.stream_synchronize(second)
        bench.wait()
        _expect(np.array_equal(bench.values, _ramp(6.0)), "a stream did not wait for an event of another")


def _graph(driver: Driver) -> None:
    if not driver.graphs:
        return
    with _bench(driver) as bench:
        driver.capture_begin(bench.stream)
        bench.upload()
        bench.scale(2.0)
        bench.download()
        graph = driver.capture_end(bench.stream)
        bench.wait()
        _expect(np.array_equal(bench.values, _ramp()), "captured work was done during capture")
        executable = driver.graph_instantiate(graph)
        driver.graph_destroy(graph)
        try:
            for factor in (2.0, 4.0):
                driver.graph_launch(executable, bench.stream)
                bench.wait()
                _expect(np.array_equal(bench.values, _ramp(factor)), f"a replay did not give {factor} times the input")
        finally:
            bench.wait()
            driver.executable_destroy(executable)


def _refused_capture(driver: Driver) -> None:
    if not driver.graphs:
        return
    with _bench(driver) as bench:
        driver.capture_begin(bench.stream)
        bench.scale(2.0)
        _refused(CudaError, "synchronising a stream that is being captured", driver.stream_synchronize, bench.stream)
        _refused(CudaError, "ending a capture that was spoilt", driver.capture_end, bench.stream)
        bench.upload()
        bench.scale(5.0)
        bench.download()
        bench.wait()
        _expect(np.array_equal(bench.values, _ramp(5.0)), "the stream is not usable after a refused capture")


def _errors(driver: Driver) -> None:
    error = _refused(DeviceOutOfMemory, "an allocation of 2**50 bytes", driver.device_alloc, 1 << 50)
    _expect(error.code == 2 and bool(error.fix) and "OUT_OF_MEMORY" in str(error), f"out of memory is told as: {error}")
    _refused(CudaError, "an allocation of no bytes", driver.device_alloc, 0)
    _refused(CudaError, "a module that is no PTX", driver.module_load, b"no PTX at all\n")
    newer = PTX.replace(b".version 7.0", b".version 99.0")
    error = _refused(DriverTooOld, "PTX of version 99", driver.module_load, newer)
    _expect(error.code == 222, f"PTX of version 99 is told as: {error}")
    with _bench(driver) as bench:
        error = _refused(CudaError, "an unknown kernel", driver.module_function, bench.module, "nowhere")
        _expect(error.code == 500, f"an unknown kernel is told as: {error}")
        values = [ctypes.c_uint64(bench.device.address), ctypes.c_int32(0), ctypes.c_float(1)]
        for grid, block in (((0, 1, 1), (1, 1, 1)), ((1, 1, 1), (2048, 1, 1))):
            what = f"a grid of {grid} with blocks of {block}"
            error = _refused(CudaError, what, driver.launch, bench.kernel, grid, block, values, bench.stream)
            _expect(error.code == 1, f"{what} is told as: {error}")
        bench.wait()


def _threads(driver: Driver) -> None:
    found: list[BaseException | None] = []

    def work(bind: bool) -> None:
        try:
            if bind:
                driver.bind()
                driver.bind()
                driver.unbind()
            try:
                with DeviceBuffer(driver, 64), PinnedBuffer(driver, 64):
                    pass
            finally:
                if bind:
                    driver.unbind()
        except BaseException as error:
            found.append(error)
        else:
            found.append(None)

    for bind in (True, False):
        thread = threading.Thread(target=work, args=(bind,), name=f"conformance-{'bound' if bind else 'unbound'}")
        thread.start()
        thread.join()
    _expect(found[0] is None, f"a second thread that is bound cannot work: {found[0]}")
    _expect(isinstance(found[1], (CudaError, AssertionError)), "a thread that is not bound was served")


CHECKS: dict[str, Callable[[Driver], None]] = {
    "devices": _devices,
    "alignment": _alignment,
    "copies": _copies,
    "ordinary memory": _ordinary_memory,
    "launch": _launch,
    "mapped memory": _mapped_memory,
    "events": _events,
    "two streams": _two_streams,
    "graph": _graph,
    "refused capture": _refused_capture,
    "errors": _errors,
    "threads": _threads,
}
"""The checks by name."""
