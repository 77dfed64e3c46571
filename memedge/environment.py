"""What a machine is: processor, clocks, libraries, load, temperature and power, as far as they can be read.

Everything is read from files of the system and from package metadata; no library is imported and nothing is changed.
What cannot be read is none, never a guess.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

__all__ = ["Clocks", "CpuTimes", "Environment", "clocks", "cpu_times", "environment", "peak_memory_mb", "resident_mb"]

# Instructions that decide how fast int8 and float convolutions run.
_TELLING_FLAGS = (
    "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
    "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve",
)  # fmt: skip
_PACKAGES = (
    "memedge", "numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "av", "pillow", "msgspec",
    "opencv-python", "opencv-python-headless", "torch", "cuda-python", "pycuda",
)  # fmt: skip
_CPU = Path("/sys/devices/system/cpu")
_VNNI = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})


class Clocks(msgspec.Struct, frozen=True):
    """Clocks, temperatures and power at one moment.

    Attributes:
        mhz: present frequency of each logical processor; empty where it cannot be read.
        celsius: thermal zone to degrees.
        watts: power rail to watts (hwmon, as on a Jetson).
        load: load average over one minute.
    """

    mhz: list[float] = []
    celsius: dict[str, float] = {}
    watts: dict[str, float] = {}
    load: float | None = None


class CpuTimes(msgspec.Struct, frozen=True):
    """Processor seconds since the machine started, over all processors; ``stolen`` is part of ``busy``."""

    busy: float
    stolen: float


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """One machine.

    Attributes:
        system, machine, python: operating system and release, architecture, interpreter.
        board: a device's own name (``NVIDIA Jetson ...``), or none.
        power_mode: a Jetson's nvpmodel mode, or none.
        cpu: model name.
        cores, usable_cores: logical processors of the machine, and those this process may run on.
        cpu_quota: processors' worth of time that a container grants, or none.
        flags: instruction sets that decide speed, of those the processor has.
        vnni: whether it has 8-bit dot products for x86 (AVX-512 VNNI, AVX-VNNI or AMX).
        governor, mhz_min, mhz_max: clock policy where it can be read.
        virtual: whether the processor says that it is virtual.
        memory_mb: memory of the machine.
        gpus: name, driver, clocks and power of each NVIDIA GPU, one line each.
        packages: distribution name to version.
        clocks: at the moment of asking.
    """

    system: str
    machine: str
    python: str
    board: str | None = None
    power_mode: str | None = None
    cpu: str = ""
    cores: int = 0
    usable_cores: int = 0
    cpu_quota: float | None = None
    flags: list[str] = []
    vnni: bool = False
    governor: str | None = None
    mhz_min: float | None = None
    mhz_max: float | None = None
    virtual: bool = False
    memory_mb: int | None = None
    gpus: list[str] = []
    packages: dict[str, str] = {}
    clocks: Clocks = Clocks()


def environment() -> Environment:
    """Read this machine. Takes some milliseconds, more where ``nvidia-smi`` is installed."""
    text = _read("/proc/cpuinfo") or ""
    flags = set(_field(text, "flags", "Features").split())
    policy = _CPU / "cpu0/cpufreq"
    return Environment(
        system=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        python=f"{platform.python_implementation()} {sys.version.split()[0]}",
        board=_board(),
        power_mode=_power_mode(),
        cpu=_field(text, "model name", "Model") or platform.processor() or platform.machine(),
        cores=os.cpu_count() or 1,
        usable_cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        cpu_quota=_cpu_quota(),
        flags=[flag for flag in _TELLING_FLAGS if flag in flags],
        vnni=bool(flags & _VNNI),
        governor=_read(policy / "scaling_governor"),
        mhz_min=_mhz(policy / "scaling_min_freq"),
        mhz_max=_mhz(policy / "scaling_max_freq"),
        virtual="hypervisor" in flags,
        memory_mb=_memory_mb(),
        gpus=_gpus(),
        packages=_packages(_PACKAGES),
        clocks=clocks(),
    )


def clocks() -> Clocks:
    """Clocks, temperatures, power and load now. Takes well under a millisecond on most machines."""
    paths = sorted(_CPU.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    mhz = [value for value in map(_mhz, paths) if value is not None]
    if not mhz:
        mhz = [float(found) for found in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", _read("/proc/cpuinfo") or "", re.M)]
    celsius = {}
    for zone in sorted(Path("/sys/class/thermal").glob("thermal_zone*")):
        degrees = _number(zone / "temp")
        if degrees is not None:
            celsius[f"{_read(zone / 'type') or 'zone'}-{zone.name.removeprefix('thermal_zone')}"] = degrees / 1000
    try:
        load: float | None = round(os.getloadavg()[0], 2)
    except OSError:
        load = None
    return Clocks(mhz, celsius, _rails(), load)


def cpu_times() -> CpuTimes | None:
    """Processor time of the whole machine, or none where the system does not tell."""
    line = (_read("/proc/stat") or "").partition("\n")[0].split()
    if len(line) < 9 or line[0] != "cpu":
        return None
    tick = os.sysconf("SC_CLK_TCK")
    user, nice, kernel, _idle, _iowait, irq, softirq, stolen = (int(word) / tick for word in line[1:9])
    return CpuTimes(user + nice + kernel + irq + softirq + stolen, stolen)


def resident_mb() -> float | None:
    """Resident memory of this process now, in MiB; none where the system does not tell."""
    words = (_read("/proc/self/statm") or "").split()
    return int(words[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20 if len(words) > 1 else None


def peak_memory_mb() -> float | None:
    """Largest resident memory of this process so far, in MiB; none where the system does not tell."""
    found = re.search(r"^VmHWM:\s*(\d+) kB", _read("/proc/self/status") or "", re.M)
    if found:
        return int(found[1]) / 1024
    try:
        import resource
    except ImportError:
        return None
    unit = 2**20 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _read(path: str | Path) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def _number(path: str | Path) -> float | None:
    try:
        return float(_read(path) or "")
    except ValueError:
        return None


def _mhz(path: Path) -> float | None:
    khz = _number(path)
    return None if khz is None else khz / 1000


def _field(cpuinfo: str, *names: str) -> str:
    for name in names:
        found = re.search(rf"^{re.escape(name)}\s*:\s*(.+)$", cpuinfo, re.M)
        if found:
            return found[1].strip()
    return ""


def _memory_mb() -> int | None:
    found = re.search(r"^MemTotal:\s*(\d+) kB", _read("/proc/meminfo") or "", re.M)
    return int(found[1]) // 1024 if found else None


def _cpu_quota() -> float | None:
    """Processors' worth of time in a container, by control group version 2, then 1."""
    words = (_read("/sys/fs/cgroup/cpu.max") or "").split()
    if len(words) == 2 and words[0].isdigit() and words[1].isdigit():
        return int(words[0]) / int(words[1])
    quota, period = (_number(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us") for name in ("quota", "period"))
    return quota / period if quota and period and quota > 0 else None


def _board() -> str | None:
    return _read("/proc/device-tree/model")


def _power_mode() -> str | None:
    """A Jetson's power mode: number as last set, name from its table."""
    status = _read("/var/lib/nvpmodel/status")
    found = re.search(r"pmode:(\d+)", status or "")
    if not found:
        return status
    number = int(found[1])
    table = re.search(rf"<\s*POWER_MODEL\s+ID={number}\s+NAME=(\S+)\s*>", _read("/etc/nvpmodel.conf") or "")
    return f"{number} {table[1]}" if table else str(number)


def _rails() -> dict[str, float]:
    """Power rails of hwmon: power in microwatts, or voltage (mV) times current (mA), by their own labels."""
    rails: dict[str, float] = {}
    for chip in sorted(Path("/sys/class/hwmon").glob("hwmon*")):
        name = _read(chip / "name") or chip.name
        for path in sorted(chip.glob("power[0-9]*_input")):
            watts = _number(path)
            if watts is not None:
                label = _read(chip / path.name.replace("_input", "_label")) or path.name
                rails[f"{name}:{label}"] = watts / 1e6
        for path in sorted(chip.glob("curr[0-9]*_input")):
            number = path.name.removeprefix("curr").removesuffix("_input")
            amperes, volts = _number(path), _number(chip / f"in{number}_input")
            if amperes is not None and volts is not None:
                rails[f"{name}:{_read(chip / f'in{number}_label') or number}"] = amperes * volts / 1e6
    return rails


def _gpus() -> list[str]:
    """One line for each NVIDIA GPU that nvidia-smi knows; integrated ones (Jetson) are not among them."""
    if not shutil.which("nvidia-smi"):
        return []
    query = "name,driver_version,clocks.sm,clocks.mem,power.draw,temperature.gpu"
    try:
        found = subprocess.run(
            ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in found.stdout.splitlines() if line.strip()]


def _packages(names: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
