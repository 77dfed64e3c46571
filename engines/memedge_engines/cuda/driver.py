"""The driver seam: the CUDA driver calls that memedge needs, once, for two providers and a fake.

Handles (streams, events, modules, functions, graphs, executables) and addresses are plain integers. Exactly one
primary context per device; :meth:`Driver.bind` makes it current in the calling thread, and everything else is called
from threads that are bound. No call here allocates behind the caller's back, and every error is a :class:`CudaError` or
one of its kinds with the driver's own text, a cause and a fix.
"""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

KernelArgument = ctypes.c_int32 | ctypes.c_uint64 | ctypes.c_float
ALIGNMENT = 256
"""TensorRT wants addresses of inputs and outputs aligned to this many bytes; so does every buffer here."""


@dataclass(frozen=True)
class DeviceInfo:
    """One device. ``capability``: (major, minor); ``integrated``: it shares memory with the CPU (a Jetson)."""

    index: int
    name: str
    capability: tuple[int, int]
    multiprocessors: int
    memory_bytes: int
    integrated: bool
    can_map_host: bool
    uuid: str = ""

    @property
    def sm(self) -> str:
        """``87`` for capability 8.7."""
        return f"{self.capability[0]}{self.capability[1]}"


class Driver(ABC):
    """The calls. Thread-safe as far as CUDA's are; every method but ``devices`` and ``version`` needs ``bind`` before.

    Attributes:
        name: ``cuda-python``, ``pycuda`` or ``fake``.
        graphs: whether capture is supported; where not, the capture calls raise :class:`CudaUnsupported`.
    """

    name: str = ""
    graphs: bool = True

    # Devices and the primary context -------------------------------------------------------------------------------

    @abstractmethod
    def version(self) -> int:
        """CUDA version of the driver as an integer, 12060 for 12.6."""

    @abstractmethod
    def devices(self) -> list[DeviceInfo]:
        """Devices that this process may use, in CUDA's order."""

    @abstractmethod
    def retain(self, device: int) -> None:
        """Retain the device's primary context; once, before ``bind``. ``release`` gives it back."""

    @abstractmethod
    def bind(self) -> None:
        """Make the retained context current in the calling thread; may nest, each ``bind`` with its ``unbind``."""

    @abstractmethod
    def unbind(self) -> None:
        """Undo ``bind`` in the calling thread; a thread calls it before it ends."""

    @abstractmethod
    def release(self) -> None:
        """Undo the calling thread's bindings and give the primary context back; safe to call twice.

        No other thread may be bound, and everything made in the context must be gone.
        """

    @abstractmethod
    def memory_info(self) -> tuple[int, int]:
        """(free, total) bytes of the bound device."""

    # Streams and events --------------------------------------------------------------------------------------------

    @abstractmethod
    def stream_create(self) -> int:
        """A non-blocking stream."""

    @abstractmethod
    def stream_synchronize(self, stream: int) -> None:
        """Wait for all work of the stream; an error of that work is raised here."""

    @abstractmethod
    def stream_wait_event(self, stream: int, event: int) -> None:
        """Later work of the stream waits for the event."""

    @abstractmethod
    def stream_destroy(self, stream: int) -> None:
        """Destroy a stream."""

    @abstractmethod
    def event_create(self, timing: bool = False) -> int:
        """An event; with ``timing`` it can be used by ``event_elapsed_ms``. A thread that waits for it sleeps."""

    @abstractmethod
    def event_record(self, event: int, stream: int) -> None:
        """Record the event behind the stream's work so far."""

    @abstractmethod
    def event_query(self, event: int) -> bool:
        """Whether what was recorded is done."""

    @abstractmethod
    def event_synchronize(self, event: int) -> None:
        """Wait for what was recorded, without the interpreter lock."""

    @abstractmethod
    def event_elapsed_ms(self, start: int, stop: int) -> float:
        """Milliseconds between two recorded, completed events."""

    @abstractmethod
    def event_destroy(self, event: int) -> None:
        """Destroy an event."""

    # Memory --------------------------------------------------------------------------------------------------------

    @abstractmethod
    def device_alloc(self, size: int) -> int:
        """Device memory of ``size`` bytes, aligned to 256. Raises DeviceOutOfMemory."""

    @abstractmethod
    def device_free(self, address: int) -> None:
        """Free device memory."""

    @abstractmethod
    def host_alloc(self, size: int, mapped: bool = False) -> int:
        """Page-locked host memory; ``mapped``: the device can address it too (``host_device_pointer``)."""

    @abstractmethod
    def host_device_pointer(self, address: int) -> int:
        """Device address of mapped page-locked memory."""

    @abstractmethod
    def host_free(self, address: int) -> None:
        """Free page-locked memory."""

    @abstractmethod
    def copy_to_device(self, target: int, source: int, size: int, stream: int) -> None:
        """Queue a copy of ``size`` bytes, host to device; asynchronous where the host side is page-locked."""

    @abstractmethod
    def copy_to_host(self, target: int, source: int, size: int, stream: int) -> None:
        """Queue a copy, device to host."""

    @abstractmethod
    def copy_on_device(self, target: int, source: int, size: int, stream: int) -> None:
        """Queue a copy within device memory."""

    # Modules and launches ------------------------------------------------------------------------------------------

    @abstractmethod
    def module_load(self, image: bytes) -> int:
        """Load PTX text or a cubin; the compiler's log is in the error."""

    @abstractmethod
    def module_function(self, module: int, name: str) -> int:
        """A kernel of the module by name."""

    @abstractmethod
    def module_unload(self, module: int) -> None:
        """Unload a module."""

    @abstractmethod
    def launch(
        self,
        function: int,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[KernelArgument],
        stream: int,
        shared_bytes: int = 0,
    ) -> None:
        """Queue one kernel launch."""

    # Graphs --------------------------------------------------------------------------------------------------------

    @abstractmethod
    def capture_begin(self, stream: int) -> None:
        """Begin capture of the stream in thread-local mode."""

    @abstractmethod
    def capture_end(self, stream: int) -> int:
        """End capture; the graph. After a refused call inside, raises CudaError and leaves the stream usable."""

    @abstractmethod
    def graph_instantiate(self, graph: int) -> int:
        """An executable of the graph."""

    @abstractmethod
    def graph_launch(self, executable: int, stream: int) -> None:
        """Queue one replay."""

    @abstractmethod
    def graph_destroy(self, graph: int) -> None:
        """Destroy a graph; its executables stay."""

    @abstractmethod
    def executable_destroy(self, executable: int) -> None:
        """Destroy an executable."""
