"""What a plan is tied to: TensorRT's version and flavour, the GPU, the operating system; and what is told beside it."""

from __future__ import annotations

import platform
from typing import Any, Literal

import msgspec

from .. import hardware

Flavour = Literal["full", "rtx"]


class Machine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One GPU and the TensorRT beside it.

    Attributes:
        tensorrt: version string of the library, for example ``10.3.0``.
        flavour: ``full`` TensorRT, or ``rtx``: TensorRT for RTX, which tests build with.
        gpu: name of the device.
        sm: compute capability as digits, ``87`` for 8.7.
        multiprocessors: number of streaming multiprocessors.
        integrated: the GPU shares memory with the CPU (a Jetson).
        system, arch: ``Linux`` and ``aarch64``.
        l4t: release line of a Jetson, or empty.
        driver: version of the kernel module, or empty where no file tells it.
        cuda: CUDA version of the driver, ``12.6``, or empty.
    """

    tensorrt: str
    flavour: Flavour = "full"
    gpu: str
    sm: str
    multiprocessors: int
    integrated: bool
    system: str
    arch: str
    l4t: str = ""
    driver: str = ""
    cuda: str = ""

    @classmethod
    def here(cls, trt: Any = None, device: int = 0) -> Machine:
        """This machine.

        Args:
            trt: the TensorRT module; none imports it.
            device: index of the GPU in CUDA's order.

        Raises:
            DriverMissing, NoDevice: no usable driver or GPU.
            BackendUnavailable: TensorRT is not installed or of an unsupported version.
        """
        from ..cuda.opening import load_driver
        from ..errors import NoDevice
        from . import library

        driver = load_driver()
        devices = driver.devices()
        if not 0 <= device < len(devices):
            raise NoDevice(f"no GPU with index {device}; there are {len(devices)}", fix="memedge doctor")
        gpu = devices[device]
        module = library.tensorrt() if trt is None else trt
        version = driver.version()
        told = hardware.gpus()
        return cls(
            tensorrt=module.__version__,
            flavour=library.flavour(module),
            gpu=gpu.name,
            sm=gpu.sm,
            multiprocessors=gpu.multiprocessors,
            integrated=gpu.integrated,
            system=platform.system(),
            arch=platform.machine(),
            l4t=hardware.jetpack(),
            driver=told[0].driver if told else "",
            cuda=f"{version // 1000}.{version % 1000 // 10}",
        )

    def key(self) -> dict[str, Any]:
        """What a plan depends on, as plain data: everything but the driver's, CUDA's and the L4T release."""
        told = msgspec.structs.asdict(self)
        return {name: value for name, value in told.items() if name not in ("l4t", "driver", "cuda")}

    def mismatch(self, there: Machine) -> tuple[str, str] | None:
        """Why a plan made on ``there`` does not run on this machine: (reason, text), or none when it does.

        Reasons in this order: ``header`` (flavour), ``version``, ``architecture``, ``platform``.
        """
        if there.flavour != self.flavour:
            return "header", f"built by TensorRT flavour {there.flavour}; expected {self.flavour}"
        if there.tensorrt != self.tensorrt:
            return "version", f"built by TensorRT {there.tensorrt}; this is {self.tensorrt}"
        gpu_there, gpu_here = (there.sm, there.gpu, there.multiprocessors), (self.sm, self.gpu, self.multiprocessors)
        if gpu_there != gpu_here or there.integrated != self.integrated:
            found, here = (f"{name} (sm {sm}, {count} SMs)" for sm, name, count in (gpu_there, gpu_here))
            return "architecture", f"built for {found}; this is {here}"
        if (there.system, there.arch) != (self.system, self.arch):
            return "platform", f"built on {there.system} {there.arch}; this is {self.system} {self.arch}"
        return None
