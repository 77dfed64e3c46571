"""``memedge doctor``: what this device has, which engines can be used, and for each that cannot the reason and the fix.

Nothing here may fail because a device, a driver or a library is odd: a probe that goes wrong is a line of the report.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from memedge_engines import backends, cache, choice, hardware
from memedge_engines.backends.base import Availability, first_line

from .doctor_gpu import Part, gpu_parts
from .environment import Environment, environment

# Decoders that clips and cameras need, encoders that the annotated video needs; FFmpeg's names.
_DECODERS = ("h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg")
_ENCODERS = ("libx264", "h264_nvenc", "h264_v4l2m2m", "libopenh264", "mpeg4", "mjpeg")
_OPENCV = ("opencv-python", "opencv-contrib-python", "opencv-python-headless", "opencv-contrib-python-headless")


@dataclass(frozen=True)
class EngineReport:
    """One back end on this device."""

    name: str
    usable: bool
    lowerings: tuple[str, ...]
    reason: str = ""
    fix: str | None = None
    version: str | None = None
    devices: tuple[str, ...] = ()

    def line(self) -> str:
        """One line for people."""
        version = f" {self.version}" if self.version else ""
        if self.usable:
            return (
                f"engine {self.name}: usable,{version} on {', '.join(self.devices)}, runs {', '.join(self.lowerings)}"
            )
        fix = f" (fix: {self.fix})" if self.fix else ""
        return f"engine {self.name}: not usable:{version and f' version{version}:'} {self.reason}{fix}"


@dataclass(frozen=True)
class Camera:
    """A capture device file. ``readable``: whether this user may open it."""

    path: str
    name: str
    readable: bool


@dataclass(frozen=True)
class DoctorReport:
    """What a device has.

    Attributes:
        environment: processor, memory, GPUs, packages, clocks.
        gpus: GPUs that a loaded driver shows, with those of boards.
        jetpack: first line of a Jetson's release file, or empty.
        engines: every back end, in the order in which ``auto`` tries them.
        cameras: capture devices.
        decoders, encoders: FFmpeg codecs that memedge uses and this PyAV has.
        preprocessing: what makes pictures of frames on the CPU; where that is not compiled code, what would bring it.
        opencv: which cv2 is there, or why none is used.
        display: where a window would open, or empty.
        cache: the cache folder; ``cache_problem``: what is wrong with it, or empty.
        remembered: one line for each engine choice in the cache.
        problems: (what is wrong, fix) of the installation.
        gpu_parts: the pieces of the GPU path, each with what it lacks.
    """

    environment: Environment
    gpus: tuple[hardware.Gpu, ...]
    jetpack: str
    engines: tuple[EngineReport, ...]
    cameras: tuple[Camera, ...]
    decoders: tuple[str, ...]
    encoders: tuple[str, ...]
    preprocessing: str
    opencv: str
    display: str
    cache: str
    cache_problem: str
    remembered: tuple[str, ...]
    problems: tuple[tuple[str, str], ...] = field(default=())
    gpu_parts: tuple[Part, ...] = field(default=())

    def lines(self) -> list[str]:
        """Whole lines for people, problems last."""
        env = self.environment
        memory = f", {env.memory_mb / 1024:.1f} GiB memory" if env.memory_mb else ""
        quota = f", container quota {env.cpu_quota:g}" if env.cpu_quota else ""
        lines = [
            f"system: {env.system}, {env.machine}" + (f", {env.board}" if env.board else ""),
            f"processor: {env.cpu}, {env.cores} logical ({env.usable_cores} usable{quota}){memory}",
            f"instruction sets: {', '.join(env.flags) or 'none that matter here'}",
            f"int8 dot products: {_dot_products(env)}",
        ]
        if self.jetpack:
            lines.append(
                f"Jetson release: {self.jetpack}" + (f", power mode {env.power_mode}" if env.power_mode else "")
            )
        lines += [f"gpu: {gpu.name}" + (f", driver {gpu.driver}" if gpu.driver else "") for gpu in self.gpus]
        if not self.gpus:
            lines.append("gpu: none with a loaded NVIDIA driver")
        lines.append(f"python: {env.python} at {sys.executable}")
        lines += [f"package {name}: {version}" for name, version in env.packages.items()]
        lines += [engine.line() for engine in self.engines]
        lines += [part.line() for part in self.gpu_parts]
        for camera in self.cameras:
            mend = "" if camera.readable else " not readable (fix: sudo usermod -aG video $USER, then log in again)"
            lines.append(f"camera {camera.path}: {camera.name}{mend}")
        if not self.cameras:
            lines.append("camera: none")
        lines += [
            f"decoders built in: {', '.join(self.decoders) or 'none'}",
            f"encoders built in: {', '.join(self.encoders) or 'none'}",
            f"preprocessing: {self.preprocessing}",
            f"opencv: {self.opencv}",
            f"display: {self.display or 'none'}",
            f"cache: {self.cache}" + (f": {self.cache_problem}" if self.cache_problem else ""),
            *(f"remembered: {text}" for text in self.remembered),
        ]
        if not self.remembered:
            lines.append("remembered: nothing yet (memedge doctor --tune measures the engines)")
        return lines + [f"problem: {what} (fix: {fix})" for what, fix in self.problems]

    def to_json(self) -> dict[str, Any]:
        """The same as plain data."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        data["problems"] = [{"problem": what, "fix": fix} for what, fix in self.problems]
        return data


def doctor_report() -> DoctorReport:
    """Look at this device. Imports every installed engine library, takes a second or two; never raises."""
    env = environment()
    engines = tuple(_engine(name) for name in backends.names())
    decoders, encoders = _codecs()
    problems = _problems()
    return DoctorReport(
        environment=env,
        gpus=hardware.gpus(),
        jetpack=hardware.jetpack(),
        engines=engines,
        cameras=cameras(),
        decoders=decoders,
        encoders=encoders,
        preprocessing=_preprocessing(),
        opencv=_opencv(),
        display=_display(),
        cache=str(cache.folder()),
        cache_problem=cache.status(),
        remembered=tuple(_remembered()),
        problems=tuple(problems),
        gpu_parts=gpu_parts(),
    )


def _engine(name: str) -> EngineReport:
    try:
        backend = backends.get(name)
        found, lowerings = backend.availability(), tuple(backend.lowerings)
    except Exception as error:  # another package's back end may do anything
        found, lowerings = (
            Availability(False, f"its back end does not load: {first_line(error)}", f"reinstall what brings {name}"),
            (),
        )
    return EngineReport(name, found.usable, lowerings, found.reason, found.fix, found.version, found.devices)


def _dot_products(env: Environment) -> str:
    if env.vnni:
        return "yes (VNNI): int8 is about twice as fast as fp32"
    if "asimddp" in env.flags:
        return "yes (Arm dot product)"
    return "no: int8 may be no faster than fp32 here"


def cameras() -> tuple[Camera, ...]:
    """Video4Linux capture devices, in the order of their numbers. Opens none of them."""
    found = []
    paths = [path for path in glob.glob("/dev/video*") if path[len("/dev/video") :].isdigit()]
    for path in sorted(paths, key=lambda p: int(p[len("/dev/video") :])):
        try:
            name = Path(f"/sys/class/video4linux/{Path(path).name}/name").read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            name = "unnamed device"
        found.append(Camera(path, name, os.access(path, os.R_OK | os.W_OK)))
    return tuple(found)


def _codecs() -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        import av.codec
    except Exception:  # a broken FFmpeg build raises whatever the loader raises
        return (), ()

    def there(name: str, mode: str) -> bool:
        try:
            av.codec.Codec(name, mode)  # type: ignore[arg-type]
        except Exception:
            return False
        return True

    return tuple(n for n in _DECODERS if there(n, "r")), tuple(n for n in _ENCODERS if there(n, "w"))


def _preprocessing() -> str:
    try:
        from memedge_engines.preprocess import preprocessing

        name, missing = preprocessing()
    except Exception as error:  # a variable with another value, a library that does not load
        return f"unusable: {first_line(error)}"
    return name + (f"; the compiled one is not used: {missing[0]} (fix: {missing[1]})" if missing else "")


def _opencv() -> str:
    import importlib.util

    packages = [f"{name} {_version(name)}" for name in _OPENCV if _version(name)]
    if "cv2" not in sys.modules and importlib.util.find_spec("cv2") is None:
        return "none (optional; needed for windows, optical flow, HOG)"
    try:
        import cv2

        build = cv2.getBuildInformation()
        version = cv2.__version__
    except Exception as error:
        return f"does not load: {first_line(error)} ({', '.join(packages) or 'not a pip package'})"
    gstreamer = any("GStreamer" in line and "YES" in line for line in build.splitlines())
    windows = any(line.strip().startswith("GUI") and "NONE" not in line for line in build.splitlines())
    parts = [
        ", ".join(packages) or f"{version}, the system's own (not a pip package)",
        "with GStreamer" if gstreamer else "without GStreamer",
        "with windows" if windows else "without windows (headless)",
    ]
    return ", ".join(parts)


def _version(distribution: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def _display() -> str:
    if sys.platform in ("win32", "darwin"):
        return "the desktop"
    names = [f"{name}={os.environ[name]}" for name in ("WAYLAND_DISPLAY", "DISPLAY") if os.environ.get(name)]
    return ", ".join(names)


def _remembered() -> list[str]:
    lines = []
    for key, value in choice.all_remembered():
        took = value.get("median_ms")
        time = f", {took:.2f} ms" if isinstance(took, (int, float)) else ""
        bundle = f"{value.get('bundle_name', '?')} ({str(key.get('bundle', '?'))[:12]})"
        lines.append(
            f"{bundle} precision {key.get('precision', '?')}: "
            f"{value.get('backend', '?')} {value.get('lowering', '?')}{time} on {key.get('device', '?')}"
        )
    return lines


def _problems(version: Callable[[str], str] = _version) -> list[tuple[str, str]]:
    """(what is wrong, fix) of the installed packages. ``version``: of a distribution, empty when it is not there."""
    problems = []
    if version("onnxruntime") and version("onnxruntime-gpu"):
        problems.append(
            (
                f"onnxruntime {version('onnxruntime')} and onnxruntime-gpu {version('onnxruntime-gpu')} are both "
                f"installed; they write the same files, and the one installed last is used ({_providers()})",
                "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu (no GPU: onnxruntime)",
            )
        )
    several = [name for name in _OPENCV if version(name)]
    if len(several) > 1:
        problems.append(
            (
                f"{' and '.join(several)} are installed together; they write the same files",
                f"pip uninstall -y {' '.join(several)} && pip install {several[0]}",
            )
        )
    return problems


def _providers() -> str:
    try:
        import onnxruntime as ort

        return f"its providers: {', '.join(ort.get_available_providers())}"
    except Exception as error:
        return f"which does not load: {first_line(error)}"
