"""State, checks and test hooks of the fake driver; its calls are in ``fake.py``."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import CudaError, CudaUnsupported
from .driver import ALIGNMENT, DeviceInfo, Driver
from .driver_errors import context_lost, driver_error, error_name
from .fake_memory import Block, FakeDriverMisuse, FakeHandle, Memory
from .fake_modules import Kernel
from .fake_work import Capture, FakeEvent, FakeStream, Operation

FAKE_DEVICE = DeviceInfo(
    0, "memedge fake device", (8, 7), 8, 4 << 30, integrated=True, can_map_host=True, uuid="fake-0000"
)
_USUAL_CODES = {"retain": 2, "device_alloc": 2, "host_alloc": 2, "module_load": 222, "module_function": 500,
                "capture_begin": 900, "capture_end": 901, "graph_instantiate": 801}  # fmt: skip
_CALLS = frozenset(Driver.__abstractmethods__)
_H = TypeVar("_H", bound=FakeHandle)


class FakeState(Driver):
    """What is retained, bound, allocated and queued, and the rules that hold for every call."""

    def __init__(
        self,
        kernels: Mapping[str, Kernel] | None = None,
        *,
        devices: Sequence[DeviceInfo] = (FAKE_DEVICE,),
        driver_version: int = 12060,
        graphs: bool = True,
        late: bool = False,
        fail: Mapping[str, int | tuple[int, int]] | None = None,
        watch_host: bool = True,
    ) -> None:
        self.graphs = graphs
        self.calls: Counter[str] = Counter()
        self._kernels = dict(kernels or {})
        self._devices = list(devices)
        self._version = driver_version
        self._late = late
        self._fail = dict(fail or {})
        self._watch = watch_host
        self._lock = threading.RLock()
        self._handles: dict[int, FakeHandle] = {}
        self._numbers = itertools.count(0x1001, 2)
        self._memory: Memory | None = None
        self._device: DeviceInfo | None = None
        self._bound: Counter[threading.Thread] = Counter()
        self._captures: list[Capture] = []
        self._lost: CudaError | None = None
        unknown = sorted(self._fail.keys() - _CALLS)
        if unknown:
            raise FakeDriverMisuse(f"fail names calls that do not exist: {', '.join(unknown)}")

    # For tests and for twins of libraries that work on the device ----------------------------------------------------

    def memory(self, address: int, size: int) -> NDArray[np.uint8]:
        """Simulated device or mapped memory as a writable uint8 view: for kernels and for a test's own looks."""
        with self._lock:
            block, offset = self._space().device_block(address, size, "access")
            return block.data[offset : offset + size]

    def enqueue(self, stream: int, work: Callable[[], None], name: str, addresses: Sequence[int] = ()) -> None:
        """Queue work in stream order as a library on top of the driver would; recorded during capture.

        ``addresses`` of device memory that the work uses may not be freed before it is done.
        """
        with self._lock:
            self._need_bound(name)
            blocks = tuple(self._space().device_block(address, 1, name)[0] for address in addresses)
            self._stream(stream, name).push(Operation(name, work, blocks))

    def capturing(self, stream: int) -> bool:
        """Whether the stream is in a capture."""
        with self._lock:
            return self._stream(stream, "capturing").capture is not None

    def refuse_in_capture(self, call: str, stream: int | None = None) -> None:
        """What a call that a capture does not allow meets: error 900, and a capture that is spoilt.

        Without ``stream``: a call that is unsafe for a thread with a capture in progress.
        """
        with self._lock:
            thread = threading.get_ident()
            wanted = self._stream(stream, call).capture if stream is not None else None
            for capture in self._captures:
                if capture is wanted or capture.thread == thread:
                    capture.spoilt = True
                    raise driver_error(call, 900, error_name(900), "operation not permitted when stream is capturing")

    def fail_next(self, call: str, code: int) -> None:
        """Let the next call of a method fail with a code of the driver."""
        if call not in _CALLS:
            raise FakeDriverMisuse(f"there is no call {call!r}")
        self._fail[call] = (self.calls[call] + 1, code)

    def demand_aligned(self, address: int, what: str) -> None:
        """Refuse an address that is not aligned to 256 bytes: TensorRT takes no other."""
        if address % ALIGNMENT:
            raise FakeDriverMisuse(f"{what}: {address:#x} is not aligned to {ALIGNMENT} bytes")

    def close_check(self) -> None:
        """Refuse what was left behind: memory, handles, queued work, bound threads, the context."""
        with self._lock:
            self._check_empty()
            for thread, count in self._bound.items():
                if count:
                    raise FakeDriverMisuse(f"thread {thread.name!r} was bound and never unbound")
            if self._device is not None:
                raise FakeDriverMisuse("the primary context was never released")

    # Rules -----------------------------------------------------------------------------------------------------------

    @contextmanager
    def _call(self, name: str, unsafe: bool = False) -> Iterator[None]:
        """One call: bound thread, living context, failures on order; ``unsafe``: not for a thread that captures."""
        with self._lock:
            self._need_bound(name)
            if unsafe:
                self.refuse_in_capture(name)
            try:
                self._count(name)
                yield
            except CudaError as error:
                if context_lost(error):
                    self._lost = self._lost or error
                raise

    def _count(self, name: str) -> None:
        """Count a call and fail it on order; every call fails once the context is lost."""
        self.calls[name] += 1
        planned = self._fail.get(name)
        number, code = planned if isinstance(planned, tuple) else (planned, _USUAL_CODES.get(name, 999))
        if number == self.calls[name]:
            for capture in self._captures:
                capture.spoilt |= capture.thread == threading.get_ident()
            raise driver_error(name, code, error_name(code), "failure on order")
        if self._lost is not None and self._lost.code is not None:
            raise driver_error(name, self._lost.code, error_name(self._lost.code), "the context is lost")

    def _need_bound(self, name: str) -> None:
        if not self._bound[threading.current_thread()]:
            raise FakeDriverMisuse(f"{name} in thread {threading.current_thread().name!r}, which is not bound")

    def _need_graphs(self, name: str) -> None:
        if not self.graphs:
            raise CudaUnsupported(f"{name}: {self.name} has no graphs", call=name)

    def _space(self) -> Memory:
        if self._memory is None:
            raise FakeDriverMisuse("the primary context is not retained")
        return self._memory

    @staticmethod
    def _positive(size: int, call: str) -> int:
        if size < 1:
            raise driver_error(call, 1, error_name(1), "invalid argument")
        return size

    # Handles ---------------------------------------------------------------------------------------------------------

    def _new(self, made: FakeHandle) -> int:
        handle = next(self._numbers)
        self._handles[handle] = made
        return handle

    def _get(self, handle: int, kind: type[_H], call: str) -> _H:
        found = self._handles.get(handle)
        if isinstance(found, kind):
            return found
        said = f"is a {found.kind}" if found is not None else "does not exist or was destroyed"
        raise FakeDriverMisuse(f"{call}: the handle {handle!r} {said}; wanted: {kind.__name__.removeprefix('Fake')}")

    def _stream(self, handle: int, call: str) -> FakeStream:
        if handle == 0:
            raise FakeDriverMisuse(f"{call}: the default stream; it waits for all others, use one of your own")
        return self._get(handle, FakeStream, call)

    def _event(self, handle: int, call: str) -> FakeEvent:
        return self._get(handle, FakeEvent, call)

    def _settled(self, event: int, call: str) -> Operation | None:
        """What an event marks; the driver's error for one that was recorded during capture."""
        found = self._event(event, call)
        if found.captured is not None:
            found.captured.spoilt = True
            raise driver_error(
                call, 907, error_name(907), "operation not permitted on an event last recorded in a capture"
            )
        return found.mark

    def _destroy(self, handle: int, kind: type[FakeHandle]) -> None:
        found = self._get(handle, kind, "destroy")
        if found.pending:
            raise FakeDriverMisuse(f"{found} is destroyed while queued work uses it")
        if found.held:
            raise FakeDriverMisuse(f"{found} is destroyed while a graph executable uses it")
        del self._handles[handle]

    def _blocks_of(self, values: Sequence[Any]) -> Iterator[Block]:
        """Blocks that a launch's arguments point to."""
        for value in values:
            if isinstance(value, int) and (found := self._space().block_of(value)) is not None:
                yield found

    def _check_empty(self) -> None:
        left = [str(thing) for thing in (*(self._memory.live() if self._memory else ()), *self._handles.values())]
        if left:
            more = f" and {len(left) - 8} more" if len(left) > 8 else ""
            raise FakeDriverMisuse(f"never freed or destroyed: {'; '.join(left[:8])}{more}")
