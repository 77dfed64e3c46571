"""Numbers of the CUDA driver as typed errors, each with a cause and a fix in plain words.

The numbers are those of ``CUresult`` in ``cuda.h`` (35 and 36: the CUDA runtime's); the driver's own name and text are
always in the message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import CudaError, CudaUnsupported, DeviceOutOfMemory, DriverMissing, DriverTooOld, NoDevice

UPDATE_DRIVER = "install a newer NVIDIA driver; on a Jetson, a newer JetPack"
_REBUILD_KERNELS = "reinstall memedge, so that kernels and package fit: pip install --force-reinstall memedge"
_REPORT = "run 'compute-sanitizer' on the command and report what it says"
_RESTART = "start the process again; when it comes back, look for 'Xid' lines in dmesg and restart the machine"


@dataclass(frozen=True)
class _Known:
    name: str
    kind: type[CudaError]
    cause: str
    fix: str | None = None


_TABLE: dict[int, _Known] = {
    1: _Known("INVALID_VALUE", CudaError, "an argument is outside what the driver accepts"),
    2: _Known(
        "OUT_OF_MEMORY", DeviceOutOfMemory, "device or page-locked memory ran out",
        "close other programs that use the GPU (nvidia-smi lists them) or take a smaller batch",
    ),
    3: _Known("NOT_INITIALIZED", CudaError, "the driver was not initialised in this process", _RESTART),
    4: _Known("DEINITIALIZED", CudaError, "the driver is shutting down with the process"),
    34: _Known(
        "STUB_LIBRARY", DriverMissing, "the libcuda found is the toolkit's stub for linking, not a driver",
        "take the folder 'stubs' out of LD_LIBRARY_PATH and install the NVIDIA driver",
    ),
    35: _Known("INSUFFICIENT_DRIVER", DriverTooOld, "the driver is older than the CUDA library", UPDATE_DRIVER),
    36: _Known("CALL_REQUIRES_NEWER_DRIVER", DriverTooOld, "the call needs a newer driver", UPDATE_DRIVER),
    46: _Known(
        "DEVICE_UNAVAILABLE", CudaError, "another process holds the device exclusively",
        "end that process or set the compute mode: sudo nvidia-smi -c DEFAULT",
    ),
    100: _Known(
        "NO_DEVICE", NoDevice, "the driver sees no device",
        "check 'nvidia-smi -L' and CUDA_VISIBLE_DEVICES; start a container with '--gpus all' or '--runtime nvidia'",
    ),
    101: _Known("INVALID_DEVICE", NoDevice, "there is no device of that number", "see 'nvidia-smi -L' for the numbers"),
    200: _Known("INVALID_IMAGE", CudaError, "the kernel image is damaged", _REBUILD_KERNELS),
    201: _Known("INVALID_CONTEXT", CudaError, "no context is current in this thread, or it is gone"),
    209: _Known("NO_BINARY_FOR_GPU", CudaUnsupported, "the kernel image has no code for this GPU", _REBUILD_KERNELS),
    214: _Known("ECC_UNCORRECTABLE", CudaError, "the GPU's memory reported an uncorrectable fault", _RESTART),
    218: _Known("INVALID_PTX", CudaError, "the driver could not compile the PTX", _REBUILD_KERNELS),
    221: _Known(
        "JIT_COMPILER_NOT_FOUND", DriverMissing, "the driver's PTX compiler is not installed",
        "install libnvidia-ptxjitcompiler of the driver's version",
    ),
    222: _Known("UNSUPPORTED_PTX_VERSION", DriverTooOld, "the PTX is newer than the driver's compiler", UPDATE_DRIVER),
    223: _Known(
        "JIT_COMPILATION_DISABLED", CudaUnsupported, "compiling PTX is switched off",
        "unset CUDA_DISABLE_PTX_JIT and CUDA_FORCE_JIT",
    ),
    304: _Known("OPERATING_SYSTEM", CudaError, "a call of the operating system failed inside the driver", _RESTART),
    400: _Known("INVALID_HANDLE", CudaError, "a stream, event, graph or module is gone or of another context"),
    500: _Known("NOT_FOUND", CudaError, "there is no such symbol", _REBUILD_KERNELS),
    600: _Known("NOT_READY", CudaError, "the work is not done yet"),
    700: _Known("ILLEGAL_ADDRESS", CudaError, "a kernel or copy reached memory that is not its own", _REPORT),
    701: _Known("LAUNCH_OUT_OF_RESOURCES", CudaError, "a launch asks for more threads or registers than there are"),
    702: _Known(
        "LAUNCH_TIMEOUT", CudaError, "a kernel ran longer than the display driver allows",
        "use a GPU without a display",
    ),
    709: _Known("CONTEXT_IS_DESTROYED", CudaError, "the context is gone; another library may have reset the device"),
    710: _Known("ASSERT", CudaError, "an assertion in a kernel failed", _REPORT),
    714: _Known("HARDWARE_STACK_ERROR", CudaError, "the GPU reported a stack fault", _RESTART),
    715: _Known("ILLEGAL_INSTRUCTION", CudaError, "a kernel ran into an illegal instruction", _REPORT),
    716: _Known("MISALIGNED_ADDRESS", CudaError, "a kernel used a misaligned address", _REPORT),
    717: _Known("INVALID_ADDRESS_SPACE", CudaError, "a kernel used an address of the wrong space", _REPORT),
    718: _Known("INVALID_PC", CudaError, "a kernel jumped outside its code", _REPORT),
    719: _Known("LAUNCH_FAILED", CudaError, "a kernel failed while running", _REPORT),
    800: _Known("NOT_PERMITTED", CudaError, "the call is not permitted now"),
    801: _Known("NOT_SUPPORTED", CudaUnsupported, "this device or driver lacks the call", UPDATE_DRIVER),
    802: _Known(
        "SYSTEM_NOT_READY", CudaError, "the machine's GPU services are not up",
        "sudo systemctl restart nvidia-fabricmanager nvidia-persistenced",
    ),
    803: _Known(
        "SYSTEM_DRIVER_MISMATCH", DriverTooOld, "the kernel module and libcuda are of different driver versions",
        "restart the machine after a driver update; in a container, use the host's driver",
    ),
    804: _Known(
        "COMPAT_NOT_SUPPORTED_ON_DEVICE", DriverTooOld, "CUDA's compatibility package does not serve this GPU",
        "take its 'compat' folder out of LD_LIBRARY_PATH or install a newer driver",
    ),
    805: _Known("MPS_CONNECTION_FAILED", CudaError, "the MPS service does not answer", "nvidia-cuda-mps-control -d"),
    900: _Known("STREAM_CAPTURE_UNSUPPORTED", CudaError, "a call that a graph cannot hold was made during capture"),
    901: _Known("STREAM_CAPTURE_INVALIDATED", CudaError, "the capture was spoilt by an earlier call"),
    902: _Known("STREAM_CAPTURE_MERGE", CudaError, "two captures would have been joined"),
    903: _Known("STREAM_CAPTURE_UNMATCHED", CudaError, "the capture was not begun in this stream"),
    904: _Known("STREAM_CAPTURE_UNJOINED", CudaError, "a stream that was drawn into the capture was not joined again"),
    905: _Known("STREAM_CAPTURE_ISOLATION", CudaError, "captured work would depend on work outside the capture"),
    906: _Known("STREAM_CAPTURE_IMPLICIT", CudaError, "the default stream was used during capture"),
    907: _Known("CAPTURED_EVENT", CudaError, "an event recorded during capture was asked for outside it"),
    908: _Known("STREAM_CAPTURE_WRONG_THREAD", CudaError, "another thread began the capture"),
    999: _Known("UNKNOWN", CudaError, "the driver does not say why; the kernel module may be in disorder", _RESTART),
}  # fmt: skip

_CONTEXT_LOST = frozenset({214, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719})


def driver_error(call: str, code: int, name: str = "", text: str = "", detail: str = "") -> CudaError:
    """The typed error of one failed call.

    Args:
        call: name of the driver's function.
        code: its ``CUresult``.
        name: the driver's name of the code, as it gave it.
        text: the driver's text, as it gave it.
        detail: what else is known, such as a compiler's log.
    """
    known = _TABLE.get(code)
    shown = name or (f"CUDA_ERROR_{known.name}" if known else "an error without a name")
    message = f"{call} failed: {shown} ({code})" + (f", {text!r}" if text else "")
    if known is not None:
        message += f": {known.cause}"
    if detail:
        message += f": {detail}"
    kind = known.kind if known is not None else CudaError
    return kind(message, call=call, code=code, fix=known.fix if known is not None else None)


def error_name(code: int) -> str:
    """``CUDA_ERROR_OUT_OF_MEMORY`` for 2; empty where the number is not in the table."""
    known = _TABLE.get(code)
    return f"CUDA_ERROR_{known.name}" if known else ""


def context_lost(error: BaseException) -> bool:
    """Whether the error leaves the context unusable, so that every later call fails and its memory is gone with it."""
    return isinstance(error, CudaError) and error.code in _CONTEXT_LOST


def unless_lost(call: Callable[[], None]) -> None:
    """Destroy or free something; where the context is lost, it went with the context and nothing is raised."""
    try:
        call()
    except CudaError as error:
        if not context_lost(error):
            raise
