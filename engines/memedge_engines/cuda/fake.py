"""A driver without a device: the seam's synthetic twin, stricter than any real one.

It refuses with :class:`FakeDriverMisuse` whatever CUDA forbids or leaves undefined, and answers with the driver's own
errors where a correct program may meet them (no memory, capture refused, PTX too new).
"""

# ruff: noqa: D102 - what the calls do is said once, in driver.py

from __future__ import annotations

import threading
from collections.abc import Sequence

from .driver import DeviceInfo, KernelArgument
from .driver_errors import driver_error, error_name
from .fake_copies import to_device, to_host, within_device
from .fake_memory import FakeDriverMisuse, Memory, creation_site
from .fake_modules import FakeFunction, FakeModule, Kernel, check_launch, function, load
from .fake_state import FAKE_DEVICE, FakeState
from .fake_work import Capture, FakeEvent, FakeExecutable, FakeGraph, FakeStream, Operation

__all__ = ["FAKE_DEVICE", "FakeDriver", "FakeDriverMisuse", "Kernel"]


class FakeDriver(FakeState):
    """The fake.

    Args:
        kernels: what each kernel does, by name; called with the fake, grid, block, the arguments' values and the
            dynamic shared memory's size. It reaches memory through :meth:`memory`.
        devices: what ``devices`` tells; memory is limited by ``memory_bytes`` of the retained one.
        driver_version: what ``version`` tells; PTX newer than that is refused as a driver would.
        graphs: false: capture is unsupported, which a provider may say.
        late: queued work never completes before a synchronisation; ``event_query`` alone does not let it run.
        fail: the n-th call (from 1) of a method fails, with a usual code or the given one:
            ``{"device_alloc": 3, "stream_synchronize": (1, 700)}``.
        watch_host: report writes to page-locked memory while a copy of it is queued; targets hold rubbish until then.
    """

    name = "fake"

    # Devices and the primary context ---------------------------------------------------------------------------------

    def version(self) -> int:
        return self._version

    def devices(self) -> list[DeviceInfo]:
        return list(self._devices)

    def retain(self, device: int) -> None:
        with self._lock:
            self._count("retain")
            if self._device is not None:
                raise FakeDriverMisuse("the primary context is retained twice")
            if not 0 <= device < len(self._devices):
                raise driver_error("cuDeviceGet", 101, error_name(101), "invalid device ordinal")
            self._device = self._devices[device]
            self._memory = Memory(self._device.memory_bytes)

    def bind(self) -> None:
        with self._lock:
            self._count("bind")
            if self._device is None:
                raise FakeDriverMisuse("bind before retain")
            self._bound[threading.current_thread()] += 1

    def unbind(self) -> None:
        with self._lock:
            self._need_bound("unbind")
            self._count("unbind")
            if any(capture.thread == threading.get_ident() for capture in self._captures):
                raise FakeDriverMisuse("unbind in a thread with a capture in progress")
            self._bound[threading.current_thread()] -= 1

    def release(self) -> None:
        with self._lock:
            if self._device is None:
                return
            if self._lost is None:  # otherwise everything died with the context
                self._check_empty()
            self._bound.pop(threading.current_thread(), None)
            for thread, count in self._bound.items():
                if count:
                    raise FakeDriverMisuse(f"release while thread {thread.name!r} is bound")
            self._device = self._memory = self._lost = None
            self._handles.clear()
            self._captures.clear()

    def memory_info(self) -> tuple[int, int]:
        with self._call("memory_info"):
            space = self._space()
            return space.capacity - space.used, space.capacity

    # Streams and events ----------------------------------------------------------------------------------------------

    def stream_create(self) -> int:
        with self._call("stream_create"):
            return self._new(FakeStream(creation_site()))

    def stream_synchronize(self, stream: int) -> None:
        with self._call("stream_synchronize"):
            self.refuse_in_capture("cuStreamSynchronize", stream)
            self._stream(stream, "stream_synchronize").run_until(None)

    def stream_wait_event(self, stream: int, event: int) -> None:
        with self._call("stream_wait_event"):
            waiting, awaited = self._stream(stream, "stream_wait_event"), self._event(event, "stream_wait_event")
            awaited.waited = True
            captured = awaited.captured
            if captured is not None and captured not in self._captures:
                raise driver_error("cuStreamWaitEvent", 907, error_name(907), "operation on a captured event")
            if captured is not None and waiting.capture in (None, captured):
                captured.draw_in(waiting, awaited)
            elif waiting.capture is not None:
                waiting.capture.spoilt = True
                code = 905 if captured is None else 902
                raise driver_error("cuStreamWaitEvent", code, error_name(code), "dependency across a capture")
            elif awaited.mark is not None:
                waiting.push(Operation("wait", None, owners=(awaited,), after=awaited.mark))

    def stream_destroy(self, stream: int) -> None:
        with self._call("stream_destroy", unsafe=True):
            found = self._stream(stream, "stream_destroy")
            if found.queue:
                raise FakeDriverMisuse(f"a stream is destroyed with {len(found.queue)} operations queued")
            self._destroy(stream, FakeStream)

    def event_create(self, timing: bool = False) -> int:
        with self._call("event_create"):
            return self._new(FakeEvent(timing, creation_site()))

    def event_record(self, event: int, stream: int) -> None:
        with self._call("event_record"):
            marked, behind = self._event(event, "event_record"), self._stream(stream, "event_record")
            marked.captured = behind.capture
            marked.mark = Operation("event", None, owners=(marked,) if behind.capture is None else ())
            behind.push(marked.mark)

    def event_query(self, event: int) -> bool:
        with self._call("event_query", unsafe=True):
            found = self._settled(event, "cuEventQuery")
            if found is not None and not found.done and not self._late and found.stream is not None:
                found.stream.run_until(found)
            return found is None or found.done

    def event_synchronize(self, event: int) -> None:
        with self._call("event_synchronize", unsafe=True):
            found = self._settled(event, "cuEventSynchronize")
            if found is not None and found.stream is not None:
                found.stream.run_until(found)

    def event_elapsed_ms(self, start: int, stop: int) -> float:
        with self._call("event_elapsed_ms", unsafe=True):
            marks = []
            for event in (start, stop):
                mark = self._settled(event, "cuEventElapsedTime")
                if not self._event(event, "event_elapsed_ms").timing or mark is None:
                    raise driver_error("cuEventElapsedTime", 400, error_name(400), "invalid resource handle")
                if not mark.done:
                    raise driver_error("cuEventElapsedTime", 600, error_name(600), "device not ready")
                marks.append(mark.done_at)
            return (marks[1] - marks[0]) * 1e3

    def event_destroy(self, event: int) -> None:
        with self._call("event_destroy"):
            self._destroy(event, FakeEvent)

    # Memory ----------------------------------------------------------------------------------------------------------

    def device_alloc(self, size: int) -> int:
        with self._call("device_alloc", unsafe=True):
            block = self._space().alloc_device(self._positive(size, "cuMemAlloc"))
            if block is None:
                raise driver_error("cuMemAlloc", 2, error_name(2), "out of memory")
            return block.address

    def device_free(self, address: int) -> None:
        with self._call("device_free", unsafe=True):
            self._space().free(address, host=False)

    def host_alloc(self, size: int, mapped: bool = False) -> int:
        with self._call("host_alloc", unsafe=True):
            if mapped and self._device is not None and not self._device.can_map_host:
                raise driver_error("cuMemHostAlloc", 801, error_name(801), "operation not supported")
            return self._space().alloc_host(self._positive(size, "cuMemHostAlloc"), mapped).address

    def host_device_pointer(self, address: int) -> int:
        with self._call("host_device_pointer"):
            found = self._space().host_block(address, 1, "host_device_pointer")
            if found is None or not found[0].device_address:
                raise driver_error("cuMemHostGetDevicePointer", 1, error_name(1), "invalid argument")
            return found[0].device_address + found[1]

    def host_free(self, address: int) -> None:
        with self._call("host_free", unsafe=True):
            self._space().free(address, host=True)

    def copy_to_device(self, target: int, source: int, size: int, stream: int) -> None:
        with self._call("copy_to_device"):
            queue = self._stream(stream, "copy_to_device")
            operation = to_device(self._space(), target, source, size, queue.capture is not None, self._watch)
            queue.push(operation)

    def copy_to_host(self, target: int, source: int, size: int, stream: int) -> None:
        with self._call("copy_to_host"):
            queue = self._stream(stream, "copy_to_host")
            operation, pageable = to_host(self._space(), target, source, size, queue.capture is not None, self._watch)
            queue.push(operation)
            if pageable:  # as CUDA: the call returns when the bytes are there
                queue.run_until(operation)

    def copy_on_device(self, target: int, source: int, size: int, stream: int) -> None:
        with self._call("copy_on_device"):
            self._stream(stream, "copy_on_device").push(within_device(self._space(), target, source, size))

    # Modules and launches --------------------------------------------------------------------------------------------

    def module_load(self, image: bytes) -> int:
        with self._call("module_load", unsafe=True):
            return self._new(load(image, self._version, creation_site()))

    def module_function(self, module: int, name: str) -> int:
        with self._call("module_function"):
            found = self._get(module, FakeModule, "module_function")
            for handle, other in self._handles.items():
                if isinstance(other, FakeFunction) and other.module is found and other.name == name:
                    return handle
            return self._new(function(found, name, self._kernels, creation_site()))

    def module_unload(self, module: int) -> None:
        with self._call("module_unload", unsafe=True):
            found = self._get(module, FakeModule, "module_unload")
            for handle in [h for h, f in self._handles.items() if isinstance(f, FakeFunction) and f.module is found]:
                self._destroy(handle, FakeFunction)
            self._destroy(module, FakeModule)

    def launch(
        self,
        function: int,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[KernelArgument],
        stream: int,
        shared_bytes: int = 0,
    ) -> None:
        with self._call("launch"):
            made = self._get(function, FakeFunction, "launch")
            values = check_launch(made, grid, block, arguments, shared_bytes)
            blocks = tuple(self._blocks_of(values))
            run = made.run
            work = Operation(made.name, lambda: run(self, grid, block, values, shared_bytes), blocks, owners=(made,))
            self._stream(stream, "launch").push(work)

    # Graphs ----------------------------------------------------------------------------------------------------------

    def capture_begin(self, stream: int) -> None:
        with self._call("capture_begin"):
            self._need_graphs("capture_begin")
            origin = self._stream(stream, "capture_begin")
            if origin.capture is not None:
                raise driver_error("cuStreamBeginCapture", 900, error_name(900), "the stream is being captured")
            origin.capture = Capture(origin, threading.get_ident())
            self._captures.append(origin.capture)

    def capture_end(self, stream: int) -> int:
        self._need_graphs("capture_end")
        with self._lock:
            self._need_bound("capture_end")
            origin = self._stream(stream, "capture_end")
            capture = origin.capture
            if capture is None or capture.origin is not origin:
                raise FakeDriverMisuse("capture_end for a stream in which no capture was begun")
            if capture.thread != threading.get_ident():
                raise driver_error("cuStreamEndCapture", 908, error_name(908), "capture of another thread")
            whole = capture.close()
            self._captures.remove(capture)
            self._count("capture_end")
            if capture.spoilt or not whole:
                code = 901 if capture.spoilt else 904
                raise driver_error("cuStreamEndCapture", code, error_name(code), "operation failed due to capture")
            kept = tuple(o for o in capture.operations if o.run is not None or o.prepare is not None)
            return self._new(FakeGraph(kept, creation_site()))

    def graph_instantiate(self, graph: int) -> int:
        with self._call("graph_instantiate", unsafe=True):
            self._need_graphs("graph_instantiate")
            found = self._get(graph, FakeGraph, "graph_instantiate")
            live = set(map(id, [*self._space().live(), *self._handles.values()]))
            for operation in found.operations:
                gone = next((thing for thing in operation.things() if id(thing) not in live), None)
                if gone is not None:
                    raise FakeDriverMisuse(f"a graph is instantiated after what it uses is gone: {gone}")
            return self._new(FakeExecutable(found.operations, creation_site()))

    def graph_launch(self, executable: int, stream: int) -> None:
        with self._call("graph_launch"):
            self._need_graphs("graph_launch")
            made, queue = self._get(executable, FakeExecutable, "graph_launch"), self._stream(stream, "graph_launch")
            if queue.capture is not None:
                raise FakeDriverMisuse("a graph is launched into a stream that is being captured")
            made.replay(queue)

    def graph_destroy(self, graph: int) -> None:
        with self._call("graph_destroy"):
            self._need_graphs("graph_destroy")
            self._destroy(graph, FakeGraph)

    def executable_destroy(self, executable: int) -> None:
        with self._call("executable_destroy"):
            self._need_graphs("executable_destroy")
            found = self._get(executable, FakeExecutable, "executable_destroy")
            self._destroy(executable, FakeExecutable)
            found.let_go()
