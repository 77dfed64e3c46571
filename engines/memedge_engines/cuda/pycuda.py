"""The driver through PyCUDA, 2024.1 and newer: for machines that have it already.

PyCUDA knows no graphs; capture and replay go to the driver's library through ctypes, on the handles of its streams.
It is imported without ``pycuda.autoinit``, which would make a second context.
"""

# ruff: noqa: D102 - what the calls do is said once, in driver.py

from __future__ import annotations

import ctypes
import importlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..errors import CudaError
from .driver import DeviceInfo, KernelArgument
from .driver_errors import driver_error
from .library import THREAD_LOCAL, DriverLibrary
from .provider import Provider

_T = TypeVar("_T")
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING; PyCUDA takes the number
_CODES = {ctypes.c_int32: "i", ctypes.c_uint64: "P", ctypes.c_float: "f"}


class PyCudaDriver(Provider):
    """The calls on ``pycuda.driver``. PyCUDA's objects are kept by handle or address until they are destroyed.

    Raises:
        ImportError: PyCUDA is not installed, or was built for another CUDA version.
        NoDevice, CudaError: the driver cannot be initialised.
    """

    name = "pycuda"
    graphs = True

    def __init__(self) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it guesses at the cause of an import error, wrongly
            self._api: Any = importlib.import_module("pycuda.driver")
        self._library = DriverLibrary()
        self._context: Any = None
        self._device: Any = None
        self._kept: dict[int, Any] = {}
        self._functions: dict[int, tuple[Any, int]] = {}
        self._next = 1
        self._call(self._api.init)

    def _call(self, function: Callable[..., _T], *arguments: Any, **named: Any) -> _T:
        """One call; PyCUDA's errors carry a text only, from which the driver's code is found again."""
        try:
            return function(*arguments, **named)
        except self._api.Error as error:
            said = str(error)
        # PyCUDA destroys what nobody refers to: the error that goes out must not keep its objects alive.
        del function, arguments, named
        raise self._error(said)

    def _error(self, said: str) -> CudaError:
        call, _, rest = said.partition(" failed: ")
        text, _, detail = rest.partition(" - ")
        code = self._library.code_of(text)
        if code is None:
            return CudaError(f"PyCUDA: {said}", call=call)
        return driver_error(call, code, *self._library.texts(code), detail.strip().strip("\0").replace("\n", "; "))

    def _keep(self, made: Any, handle: int | None = None) -> int:
        """Remember an object by the driver's handle, or by a number of its own where it has none."""
        if handle is None:
            handle, self._next = self._next, self._next + 1
        self._kept[handle] = made
        return handle

    def _get(self, handle: int) -> Any:
        try:
            return self._kept[handle]
        except KeyError:
            raise driver_error("PyCUDA", 400, *self._library.texts(400), f"handle {handle:#x}") from None

    def _drop(self, handle: int) -> Any:
        found = self._get(handle)
        del self._kept[handle]
        return found

    # Devices and the primary context ---------------------------------------------------------------------------------

    def version(self) -> int:
        return int(self._call(self._api.get_driver_version))

    def devices(self) -> list[DeviceInfo]:
        return [self._describe(index) for index in range(self._call(self._api.Device.count))]

    def _describe(self, index: int) -> DeviceInfo:
        device, kinds = self._call(self._api.Device, index), self._api.device_attribute
        uuid = ctypes.create_string_buffer(16)
        self._library.call("cuDeviceGetUuid", uuid, index)
        major, minor = self._call(device.compute_capability)
        return DeviceInfo(
            index=index,
            name=str(self._call(device.name)).strip(),
            capability=(int(major), int(minor)),
            multiprocessors=int(self._call(device.get_attribute, kinds.MULTIPROCESSOR_COUNT)),
            memory_bytes=int(self._call(device.total_memory)),
            integrated=bool(self._call(device.get_attribute, kinds.INTEGRATED)),
            can_map_host=bool(self._call(device.get_attribute, kinds.CAN_MAP_HOST_MEMORY)),
            uuid=uuid.raw.hex(),
        )

    def _retain(self, device: int) -> None:
        self._device = self._call(self._api.Device, device)
        self._context = self._call(self._device.retain_primary_context)

    def _push(self) -> None:
        self._call(self._context.push)

    def _pop(self) -> None:
        self._call(self._api.Context.pop)

    def _release(self) -> None:
        self._kept.clear()
        self._functions.clear()
        # PyCUDA gives a primary context back only in the thread where it is current, and leaves it on CUDA's stack.
        context, self._context = self._context, None
        self._call(context.push)
        self._call(context.detach)
        if self._api.Context.get_current() is None:
            self._library.handle("cuCtxPopCurrent_v2")

    def memory_info(self) -> tuple[int, int]:
        free, total = self._call(self._api.mem_get_info)
        return int(free), int(total)

    # Streams and events ----------------------------------------------------------------------------------------------

    def stream_create(self) -> int:
        made = self._call(self._api.Stream, _NON_BLOCKING)
        return self._keep(made, int(made.handle))

    def stream_synchronize(self, stream: int) -> None:
        self._call(self._get(stream).synchronize)

    def stream_wait_event(self, stream: int, event: int) -> None:
        self._call(self._get(stream).wait_for_event, self._get(event))

    def stream_destroy(self, stream: int) -> None:
        self._drop(stream)

    def event_create(self, timing: bool = False) -> int:
        flags = self._api.event_flags
        # A waiting thread sleeps: spinning would take a core from a small device for a whole inference.
        wanted = int(flags.BLOCKING_SYNC) | (0 if timing else int(flags.DISABLE_TIMING))
        return self._keep(self._call(self._api.Event, wanted))

    def event_record(self, event: int, stream: int) -> None:
        self._call(self._get(event).record, self._get(stream))

    def event_query(self, event: int) -> bool:
        return bool(self._call(self._get(event).query))

    def event_synchronize(self, event: int) -> None:
        self._call(self._get(event).synchronize)

    def event_elapsed_ms(self, start: int, stop: int) -> float:
        return float(self._call(self._get(stop).time_since, self._get(start)))

    def event_destroy(self, event: int) -> None:
        self._drop(event)

    # Memory ----------------------------------------------------------------------------------------------------------

    def device_alloc(self, size: int) -> int:
        made = self._call(self._api.mem_alloc, size)
        return self._keep(made, int(made))

    def device_free(self, address: int) -> None:
        self._call(self._drop(address).free)

    def host_alloc(self, size: int, mapped: bool = False) -> int:
        flags = self._api.host_alloc_flags
        wanted = int(flags.PORTABLE) | (int(flags.DEVICEMAP) if mapped else 0)
        made = self._call(self._api.pagelocked_empty, size, "u1", mem_flags=wanted)
        return self._keep(made.base, int(made.ctypes.data))

    def host_device_pointer(self, address: int) -> int:
        return int(self._call(self._get(address).get_device_pointer))

    def host_free(self, address: int) -> None:
        self._call(self._drop(address).free)

    def copy_to_device(self, target: int, source: int, size: int, stream: int) -> None:
        self._call(self._api.memcpy_htod_async, target, _window(source, size), self._get(stream))

    def copy_to_host(self, target: int, source: int, size: int, stream: int) -> None:
        self._call(self._api.memcpy_dtoh_async, _window(target, size), source, self._get(stream))

    def copy_on_device(self, target: int, source: int, size: int, stream: int) -> None:
        self._call(self._api.memcpy_dtod_async, target, source, size, self._get(stream))

    # Modules and launches --------------------------------------------------------------------------------------------

    def module_load(self, image: bytes) -> int:
        return self._keep(self._call(self._api.module_from_buffer, image + b"\0"))

    def module_function(self, module: int, name: str) -> int:
        made = self._call(self._get(module).get_function, name)
        handle = self._keep(made)
        self._functions[handle] = (made, module)
        return handle

    def module_unload(self, module: int) -> None:
        # A function keeps its module loaded: PyCUDA unloads it with the last of them.
        for handle in [handle for handle, (_, owner) in self._functions.items() if owner == module]:
            del self._functions[handle], self._kept[handle]
        self._drop(module)

    def launch(
        self,
        function: int,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[KernelArgument],
        stream: int,
        shared_bytes: int = 0,
    ) -> None:
        kernel = self._get(function)
        kernel.prepare("".join(_CODES[type(argument)] for argument in arguments))
        values = [argument.value for argument in arguments]
        self._call(kernel.prepared_async_call, grid, block, self._get(stream), *values, shared_size=shared_bytes)

    # Graphs ----------------------------------------------------------------------------------------------------------

    def capture_begin(self, stream: int) -> None:
        self._library.call("cuStreamBeginCapture_v2", stream, THREAD_LOCAL)

    def capture_end(self, stream: int) -> int:
        return self._library.handle("cuStreamEndCapture", stream, last=True)

    def graph_instantiate(self, graph: int) -> int:
        return self._library.handle("cuGraphInstantiateWithFlags", graph, 0)

    def graph_launch(self, executable: int, stream: int) -> None:
        self._library.call("cuGraphLaunch", executable, stream)

    def graph_destroy(self, graph: int) -> None:
        self._library.call("cuGraphDestroy", graph)

    def executable_destroy(self, executable: int) -> None:
        self._library.call("cuGraphExecDestroy", executable)


def _window(address: int, size: int) -> Any:
    """Host memory at an address as the buffer object that PyCUDA wants."""
    return (ctypes.c_char * size).from_address(address)
