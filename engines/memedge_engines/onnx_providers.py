"""ONNX Runtime's GPU providers: whether one could load here, before ONNX Runtime tries, prints and falls back.

What was seen in the wheels of onnxruntime-gpu 1.31: its CUDA provider asks for libraries of one CUDA release by number,
its TensorRT provider for TensorRT 10 whatever is installed; the aarch64 wheel has machine code for 8.9, 9.0, 12.0 and
12.1, which no Jetson is, and no TensorRT provider.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import platform
import re
from pathlib import Path

from . import hardware, shared_libraries
from .backends.base import Availability, first_line

INSTALL = 'pip uninstall -y onnxruntime && pip install --force-reinstall "memedge[gpu]"'
_JETSON_WHEEL = "build onnxruntime with CUDA on the device, or use the engine tensorrt, which needs no onnxruntime"
_DISTRIBUTIONS = ("onnxruntime-gpu", "onnxruntime")
# What a provider brings itself or every system has is not asked for.
_VENDOR = re.compile(r"lib(cu[a-zA-Z]+|nv[a-zA-Z]+)\.so\.(\d+)$")
_TENSORRT = ("libnvinfer", "libnvonnxparser")


def cuda_release() -> str:
    """CUDA release that the installed onnxruntime was built for, ``13.0``; empty where it does not tell."""
    try:
        from onnxruntime.capi import build_and_package_info as info
    except ImportError:
        return ""
    return str(getattr(info, "cuda_version", "") or "")


def availability(provider: str, title: str) -> Availability:
    """Whether a provider can be used. The driver is looked for first: without one nothing else is touched.

    Args:
        provider: ONNX Runtime's name of it, ``CUDAExecutionProvider``.
        title: what people call it, ``CUDA``; in lower case part of its library's file name.
    """
    if not hardware.nvidia_driver():
        return Availability(False, "no NVIDIA driver is loaded", "install the GPU's driver; CPU engines need none")
    try:
        import onnxruntime as ort

        providers, version = ort.get_available_providers(), str(ort.__version__)
    except ModuleNotFoundError:
        return Availability(False, "onnxruntime is not installed", INSTALL)
    except Exception as error:  # a library that fails while it loads, in whatever way
        return Availability(False, f"onnxruntime does not import: {first_line(error)}", INSTALL)
    if _is_jetson() and platform.machine() == "aarch64" and _from_registry():
        reason = f"the registry's onnxruntime-gpu {version} for aarch64 has no machine code for a Jetson's GPU"
        return Availability(False, reason, _JETSON_WHEEL, version)
    if provider not in providers:
        reason = f"this onnxruntime {version} was built without {title}"
        return Availability(False, reason, _JETSON_WHEEL if _is_jetson() else INSTALL, version)
    missing = missing_libraries(title.lower())
    if missing:
        return Availability(False, *_why(version, missing), version=version)
    names = tuple(gpu.name for gpu in hardware.gpus()) or ("NVIDIA GPU",)
    return Availability(True, version=version, devices=names)


def missing_libraries(name: str) -> list[str]:
    """Libraries of NVIDIA's that a provider's own library asks for and that do not load; those that do are kept."""
    import onnxruntime as ort

    path = Path(str(ort.__file__)).parent / "capi" / f"libonnxruntime_providers_{name}.so"
    wanted = [one for one in shared_libraries.needed(path) if _VENDOR.match(one)]
    missing = [one for one in wanted if not shared_libraries.load(one, ("tensorrt_libs",))]
    if missing and hasattr(ort, "preload_dlls"):
        # Finds what pip installed of CUDA and cuDNN; it tells on stdout what it does not find.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
            ort.preload_dlls()
        missing = [one for one in missing if not shared_libraries.load(one, ("tensorrt_libs",))]
    return missing


def _why(version: str, missing: list[str]) -> tuple[str, str]:
    """(reason, fix) of libraries that do not load."""
    ours = [name for name in missing if name.startswith(_TENSORRT)]
    others = [name for name in missing if name not in ours]
    release = cuda_release()
    cuda = release.partition(".")[0]
    reasons, fixes = [], []
    if ours:
        reason, fix = _why_not_tensorrt(ours, cuda)
        reasons.append(reason)
        fixes.append(fix)
    if others:
        built = f" (it is built for CUDA {release})" if release else ""
        reasons.append(f"{', '.join(others)}{built}: not found")
        fixes.append('pip install "onnxruntime-gpu[cuda,cudnn]"' if cuda else "install the libraries named")
    return f"onnxruntime {version} needs {'; and '.join(reasons)}", "; ".join(fixes)


def _why_not_tensorrt(missing: list[str], cuda: str) -> tuple[str, str]:
    major = int(missing[0].rpartition(".")[2])
    there = _tensorrt_installed()
    said = f"installed is TensorRT {there}" if there else "it is not installed"
    fix = f"pip install 'tensorrt-cu{cuda or 12}<{major + 1}'"
    if there and int(there.partition(".")[0]) > major:
        fix = f"use the engine tensorrt, which runs TensorRT {there} itself; or {fix}"
    return f"TensorRT {major} ({', '.join(missing)}); {said}", fix


def _tensorrt_installed() -> str:
    for name in ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return ""


def _is_jetson() -> bool:
    return bool(hardware.jetpack()) or "jetson" in hardware.board().lower()


def _from_registry() -> bool:
    """Whether the wheel carries the registry's platform tag; wheels made for Jetsons are ``linux_aarch64``."""
    for name in _DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return "manylinux" in (importlib.metadata.distribution(name).read_text("WHEEL") or "")
    return False
