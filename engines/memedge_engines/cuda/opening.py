"""Opening the driver: what must be there, in this order, each with an error of its own.

1. the library of an NVIDIA driver;
2. a package that speaks to it: cuda-python, or PyCUDA;
3. a driver that is new enough for the package;
4. a device, not hidden by ``CUDA_VISIBLE_DEVICES``.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass

from .. import hardware
from ..errors import CudaError, DriverMissing, DriverTooOld, NoDevice, UnknownName
from . import library
from .driver import Driver
from .driver_errors import UPDATE_DRIVER, driver_error

VARIABLE = "MEMEDGE_CUDA"
"""Environment variable that names the provider: ``cuda-python`` or ``pycuda``."""


@dataclass(frozen=True)
class _Package:
    module: str
    driver: str
    install: str


_PACKAGES = {
    "cuda-python": _Package("cuda_python", "CudaPythonDriver", "pip install 'memedge[cuda]'"),
    "pycuda": _Package("pycuda", "PyCudaDriver", "pip install 'memedge[pycuda]'"),
}
PROVIDERS = tuple(_PACKAGES)
"""Names of the providers, the default first."""


def load_driver(provider: str = "auto") -> Driver:
    """An initialised driver without a context: enough for ``version`` and ``devices``.

    Args:
        provider: ``cuda-python``, ``pycuda``, or ``auto``: what ``MEMEDGE_CUDA`` names, else the first installed.

    Raises:
        UnknownName: there is no such provider.
        DriverMissing: no NVIDIA driver, or no package that speaks to it.
        DriverTooOld: the package needs a newer driver.
        NoDevice: the driver sees no device, or ``CUDA_VISIBLE_DEVICES`` hides all.
    """
    wanted = _wanted(provider)
    _check_library()
    reasons = []
    for name in wanted:
        package = _PACKAGES[name]
        try:
            made: Driver = getattr(importlib.import_module(f".{package.module}", __package__), package.driver)()
        except ImportError as error:
            reasons.append(f"{name}: {error}")
            continue
        except NoDevice as error:
            raise _no_device(error) from None
        _check_version(made)
        return made
    raise DriverMissing(
        f"no package that speaks to the NVIDIA driver can be imported ({'; '.join(reasons)})",
        fix=_PACKAGES[wanted[0]].install,
    )


def open_driver(device: int = 0, provider: str = "auto") -> Driver:
    """A driver with the device's primary context retained and bound in the calling thread.

    Every call gives another object over the same context; ``release`` undoes it, also the calling thread's binding.

    Raises:
        UnknownName, DriverMissing, DriverTooOld: as :func:`load_driver`.
        NoDevice: no device of this number that this process may use.
        CudaError: the device refuses (used exclusively by another process, out of memory).
    """
    driver = load_driver(provider)
    found = driver.devices()
    if not found:
        raise _no_device(driver_error("cuDeviceGetCount", 100))
    if not 0 <= device < len(found):
        named = ", ".join(f"{info.index}: {info.name}" for info in found)
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        hint = f"; CUDA_VISIBLE_DEVICES is {seen!r}" if seen is not None else ""
        raise NoDevice(f"no device {device}; this process may use {named}{hint}", fix="choose one of these numbers")
    driver.retain(device)
    try:
        driver.bind()
    except CudaError:
        driver.release()
        raise
    return driver


def _check_library() -> None:
    """The driver's library must load; nothing is initialised."""
    try:
        library.load()
    except OSError as error:
        if hardware.nvidia_driver():
            raise DriverMissing(
                f"an NVIDIA driver is loaded, but its library cannot be: {error}",
                fix="start the container with '--gpus all' or '--runtime nvidia'; on a host, reinstall the driver",
            ) from None
        raise DriverMissing(
            f"there is no NVIDIA driver on this machine: {library.NAME} cannot be loaded",
            fix="install the NVIDIA driver, or use the CPU: --engine onnxruntime",
        ) from None


def _no_device(error: CudaError) -> CudaError:
    """Why a driver that initialises sees nothing."""
    if not hardware.nvidia_driver():
        return DriverMissing(
            f"{library.NAME} is there, but no NVIDIA driver is loaded: {error.message}",
            fix="start the container with '--gpus all', or load the driver: sudo modprobe nvidia",
        )
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if seen is None:
        return error
    return NoDevice(
        f"CUDA_VISIBLE_DEVICES={seen!r} hides every device from this process",
        fix="unset CUDA_VISIBLE_DEVICES, or name a device that 'nvidia-smi -L' lists",
    )


def _wanted(provider: str) -> tuple[str, ...]:
    chosen = provider
    if provider == "auto":
        chosen = os.environ.get(VARIABLE, "").strip() or "auto"
    if chosen == "auto":
        return PROVIDERS
    if chosen not in _PACKAGES:
        where = f"{VARIABLE}={chosen}" if provider == "auto" else repr(chosen)
        raise UnknownName(f"{where} is no CUDA provider", fix=f"one of: {', '.join(PROVIDERS)}, auto")
    return (chosen,)


def _check_version(driver: Driver) -> None:
    """A package for CUDA 13 lacks calls on a driver of CUDA 12; an older package on a newer driver is fine."""
    if driver.name != "cuda-python":
        return
    from .cuda_python import bindings_version

    version, package = driver.version(), bindings_version()
    if package[0] <= version // 1000:
        return
    has = f"{version // 1000}.{version % 1000 // 10}"
    said = ".".join(map(str, package))
    fix = "pip install 'cuda-python>=12.9.1,<13'" if version >= 12000 else UPDATE_DRIVER
    raise DriverTooOld(f"cuda-python {said} needs a driver of CUDA {package[0]}; this one is of CUDA {has}", fix=fix)
