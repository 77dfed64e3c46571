"""The driver through cuda-python (``cuda.bindings.driver``), 12.9.1 and newer: the default provider.

Older ones hold the interpreter lock while they wait for the device.
"""

# ruff: noqa: D102 - what the calls do is said once, in driver.py

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from ..errors import CudaError, DriverMissing, DriverTooOld
from .driver import DeviceInfo, KernelArgument
from .driver_errors import UPDATE_DRIVER, driver_error
from .provider import Provider

_LOG_BYTES = 4096


def bindings() -> ModuleType:
    """The module with the calls; ImportError where cuda-python is not installed."""
    return importlib.import_module("cuda.bindings.driver")


def bindings_version() -> tuple[int, int, int]:
    """Version of the installed bindings, (12, 9, 10); zeros where it is not told."""
    try:
        text = importlib.metadata.version("cuda-bindings")
    except importlib.metadata.PackageNotFoundError:
        return (0, 0, 0)
    major, minor, patch = ([int(part) if part.isdigit() else 0 for part in text.split(".")] + [0, 0, 0])[:3]
    return (major, minor, patch)


class CudaPythonDriver(Provider):
    """The calls on ``cuda.bindings.driver``; made after the driver was initialised successfully.

    Raises:
        ImportError: cuda-python is not installed.
        DriverMissing, NoDevice, CudaError: the driver cannot be initialised.
    """

    name = "cuda-python"
    graphs = True

    def __init__(self) -> None:
        super().__init__()
        self._api: Any = bindings()
        self._device: Any = None
        self._context: Any = None
        self._call("cuInit", 0)

    def _call(self, name: str, *arguments: Any) -> Any:
        """One call; its single result. The typed error of what it returns."""
        try:
            code, *results = getattr(self._api, name)(*arguments)
        except RuntimeError as error:  # the library or the function is not there
            if name == "cuInit":
                raise DriverMissing(
                    f"the driver library cannot be loaded: {error}", call=name, fix="install the NVIDIA driver"
                ) from None
            raise DriverTooOld(f"the driver lacks {name}: {error}", call=name, fix=UPDATE_DRIVER) from None
        if int(code):
            raise self._error(name, int(code))
        return results[0] if results else None

    def _error(self, call: str, code: int, detail: str = "") -> CudaError:
        told = []
        for function in ("cuGetErrorName", "cuGetErrorString"):
            try:
                status, text = getattr(self._api, function)(self._api.CUresult(code))
            except (RuntimeError, ValueError):  # a number newer than the bindings
                status, text = 1, b""
            told.append(text.decode("utf-8", "replace") if not int(status) and text else "")
        return driver_error(call, code, told[0], told[1], detail)

    # Devices and the primary context ---------------------------------------------------------------------------------

    def version(self) -> int:
        return int(self._call("cuDriverGetVersion"))

    def devices(self) -> list[DeviceInfo]:
        return [self._describe(index) for index in range(self._call("cuDeviceGetCount"))]

    def _describe(self, index: int) -> DeviceInfo:
        device = self._call("cuDeviceGet", index)
        kinds = self._api.CUdevice_attribute

        def attribute(name: str) -> int:
            return int(self._call("cuDeviceGetAttribute", getattr(kinds, f"CU_DEVICE_ATTRIBUTE_{name}"), device))

        return DeviceInfo(
            index=index,
            name=self._call("cuDeviceGetName", 256, device).split(b"\0", 1)[0].decode("utf-8", "replace").strip(),
            capability=(attribute("COMPUTE_CAPABILITY_MAJOR"), attribute("COMPUTE_CAPABILITY_MINOR")),
            multiprocessors=attribute("MULTIPROCESSOR_COUNT"),
            memory_bytes=int(self._call("cuDeviceTotalMem", device)),
            integrated=bool(attribute("INTEGRATED")),
            can_map_host=bool(attribute("CAN_MAP_HOST_MEMORY")),
            uuid=bytes(self._call("cuDeviceGetUuid", device).bytes)[:16].hex(),
        )

    def _retain(self, device: int) -> None:
        self._device = self._call("cuDeviceGet", device)
        self._context = self._call("cuDevicePrimaryCtxRetain", self._device)

    def _push(self) -> None:
        self._call("cuCtxPushCurrent", self._context)

    def _pop(self) -> None:
        self._call("cuCtxPopCurrent")

    def _release(self) -> None:
        self._context = None
        self._call("cuDevicePrimaryCtxRelease", self._device)

    def memory_info(self) -> tuple[int, int]:
        code, free, total = self._api.cuMemGetInfo()
        if int(code):
            raise self._error("cuMemGetInfo", int(code))
        return int(free), int(total)

    # Streams and events ----------------------------------------------------------------------------------------------

    def stream_create(self) -> int:
        return int(self._call("cuStreamCreate", int(self._api.CUstream_flags.CU_STREAM_NON_BLOCKING)))

    def stream_synchronize(self, stream: int) -> None:
        self._call("cuStreamSynchronize", stream)

    def stream_wait_event(self, stream: int, event: int) -> None:
        self._call("cuStreamWaitEvent", stream, event, 0)

    def stream_destroy(self, stream: int) -> None:
        self._call("cuStreamDestroy", stream)

    def event_create(self, timing: bool = False) -> int:
        flags = self._api.CUevent_flags
        # A waiting thread sleeps: spinning would take a core from a small device for a whole inference.
        wanted = int(flags.CU_EVENT_BLOCKING_SYNC) | (0 if timing else int(flags.CU_EVENT_DISABLE_TIMING))
        return int(self._call("cuEventCreate", wanted))

    def event_record(self, event: int, stream: int) -> None:
        self._call("cuEventRecord", event, stream)

    def event_query(self, event: int) -> bool:
        code = int(self._api.cuEventQuery(event)[0])
        if code == int(self._api.CUresult.CUDA_ERROR_NOT_READY):
            return False
        if code:
            raise self._error("cuEventQuery", code)
        return True

    def event_synchronize(self, event: int) -> None:
        self._call("cuEventSynchronize", event)

    def event_elapsed_ms(self, start: int, stop: int) -> float:
        return float(self._call("cuEventElapsedTime", start, stop))

    def event_destroy(self, event: int) -> None:
        self._call("cuEventDestroy", event)

    # Memory ----------------------------------------------------------------------------------------------------------

    def device_alloc(self, size: int) -> int:
        return int(self._call("cuMemAlloc", size))

    def device_free(self, address: int) -> None:
        self._call("cuMemFree", address)

    def host_alloc(self, size: int, mapped: bool = False) -> int:
        flags = int(self._api.CU_MEMHOSTALLOC_PORTABLE) | (int(self._api.CU_MEMHOSTALLOC_DEVICEMAP) if mapped else 0)
        return int(self._call("cuMemHostAlloc", size, flags))

    def host_device_pointer(self, address: int) -> int:
        return int(self._call("cuMemHostGetDevicePointer", address, 0))

    def host_free(self, address: int) -> None:
        self._call("cuMemFreeHost", address)

    def copy_to_device(self, target: int, source: int, size: int, stream: int) -> None:
        self._call("cuMemcpyHtoDAsync", target, source, size, stream)

    def copy_to_host(self, target: int, source: int, size: int, stream: int) -> None:
        self._call("cuMemcpyDtoHAsync", target, source, size, stream)

    def copy_on_device(self, target: int, source: int, size: int, stream: int) -> None:
        self._call("cuMemcpyDtoDAsync", target, source, size, stream)

    # Modules and launches --------------------------------------------------------------------------------------------

    def module_load(self, image: bytes) -> int:
        kinds = self._api.CUjit_option
        log = bytearray(_LOG_BYTES)
        options = [kinds.CU_JIT_ERROR_LOG_BUFFER, kinds.CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES]
        code, module = self._api.cuModuleLoadDataEx(image + b"\0", len(options), options, [log, _LOG_BYTES])
        if int(code):
            said = bytes(log).split(b"\0", 1)[0].decode("utf-8", "replace").strip()
            raise self._error("cuModuleLoadDataEx", int(code), said.replace("\n", "; "))
        return int(module)

    def module_function(self, module: int, name: str) -> int:
        return int(self._call("cuModuleGetFunction", module, name.encode()))

    def module_unload(self, module: int) -> None:
        self._call("cuModuleUnload", module)

    def launch(
        self,
        function: int,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[KernelArgument],
        stream: int,
        shared_bytes: int = 0,
    ) -> None:
        # The driver copies the values before it returns: the array of pointers need not outlive the call.
        pointers = (ctypes.c_void_p * max(1, len(arguments)))(*(ctypes.addressof(value) for value in arguments))
        self._call("cuLaunchKernel", function, *grid, *block, shared_bytes, stream, ctypes.addressof(pointers), 0)

    # Graphs ----------------------------------------------------------------------------------------------------------

    def capture_begin(self, stream: int) -> None:
        mode = self._api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call("cuStreamBeginCapture", stream, mode)

    def capture_end(self, stream: int) -> int:
        return int(self._call("cuStreamEndCapture", stream))

    def graph_instantiate(self, graph: int) -> int:
        return int(self._call("cuGraphInstantiate", graph, 0))

    def graph_launch(self, executable: int, stream: int) -> None:
        self._call("cuGraphLaunch", executable, stream)

    def graph_destroy(self, graph: int) -> None:
        self._call("cuGraphDestroy", graph)

    def executable_destroy(self, executable: int) -> None:
        self._call("cuGraphExecDestroy", executable)
