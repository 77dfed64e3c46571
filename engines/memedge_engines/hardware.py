"""What this machine is made of, read from files of the operating system: no library, no driver call, never an error."""

from __future__ import annotations

import functools
import glob
import math
import os
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Gpu:
    """A GPU as its driver's files tell it. ``driver``: version of the kernel module, or empty."""

    name: str
    driver: str = ""


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_bytes().replace(b"\0", b"").decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _cpuinfo(key: str) -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() == key:
            return value.strip()
    return ""


@functools.cache
def cpu_model() -> str:
    """Name of the processor, for example ``AMD EPYC`` or ``NVIDIA Jetson Orin Nano`` where only the board has one."""
    return _cpuinfo("model name") or board() or platform.processor() or platform.machine() or "unknown CPU"


@functools.cache
def has_vnni() -> bool:
    """Whether int8 products are summed without saturation by x86's VNNI instructions; false where unknown."""
    return bool({"avx512_vnni", "avx_vnni"} & set(_cpuinfo("flags").split()))


def board() -> str:
    """Model of a single-board computer from its device tree, or empty."""
    return _read("/proc/device-tree/model")


def usable_cpus() -> int:
    """Logical CPUs that this process may run on: its affinity, cut by a container's quota."""
    try:
        count = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        count = os.cpu_count() or 1
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit() and int(period) > 0:
        count = min(count, max(1, math.ceil(int(quota) / int(period))))
    return max(1, count)


def usable_cores() -> int:
    """Physical cores among :func:`usable_cpus`: inference gains nothing from two threads on one core."""
    try:
        mine = os.sched_getaffinity(0)
    except (AttributeError, OSError):
        return usable_cpus()
    cores = {_read(f"/sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list") or str(n) for n in mine}
    return max(1, min(len(cores), usable_cpus()))


def jetpack() -> str:
    """First line of a Jetson's release file, or empty."""
    return _read("/etc/nv_tegra_release").partition("\n")[0].lstrip("# ")


def gpus() -> tuple[Gpu, ...]:
    """NVIDIA GPUs with a loaded driver; a Jetson's integrated GPU carries the board's name."""
    version = ""
    for word in _read("/proc/driver/nvidia/version").partition("\n")[0].split():
        if word[:1].isdigit() and "." in word:
            version = word
            break
    found = []
    for path in sorted(glob.glob("/proc/driver/nvidia/gpus/*/information")):
        lines = (line.partition(":") for line in _read(path).splitlines())
        name = next((value.strip() for key, _, value in lines if key.strip() == "Model"), "NVIDIA GPU")
        found.append(Gpu(name, version))
    if not found and any(os.path.exists(p) for p in ("/dev/nvhost-gpu", "/dev/nvgpu/igpu0", "/dev/nvhost-ctrl-gpu")):
        found.append(Gpu(board() or "NVIDIA integrated GPU", jetpack()))
    return tuple(found)


def nvidia_driver() -> bool:
    """Whether an NVIDIA driver is loaded, so that CUDA libraries may be touched at all."""
    if os.name == "nt":
        return os.path.exists(os.path.join(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "nvcuda.dll"))
    return bool(gpus()) or os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/dxg")


def device_key() -> str:
    """Names the hardware that a measured engine choice holds for: processor, usable cores, GPUs."""
    parts = [cpu_model(), f"{usable_cores()} cores", platform.machine(), *(gpu.name for gpu in gpus())]
    return " | ".join(parts)
