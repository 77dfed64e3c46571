"""What the GPU path needs, piece by piece: one line each with what was found, or why it cannot be used and the fix.

Probes only look: nothing is built, no camera is opened, and TensorRT is imported only where a driver is loaded. A probe
that fails in a way nobody thought of is a line, too.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from memedge_engines import cache, hardware, onnx_providers
from memedge_engines.backends.base import first_line

from .errors import CudaError, MemedgeError

_JETSON = "sudo apt-get install nvidia-jetpack"
# Elements of the pipelines that a Jetson and a desktop run; gstreamer_text.py writes them.
_ON_JETSON = ("nvarguscamerasrc", "nvv4l2decoder", "nvvidconv", "h264parse", "rtspsrc", "v4l2src", "qtdemux")
_ON_DESKTOP = ("videoconvert", "h264parse", "avdec_h264", "jpegdec", "rtspsrc", "v4l2src", "qtdemux")


@dataclass(frozen=True)
class Part:
    """One piece of the GPU path.

    Attributes:
        name: what it is called in lists.
        usable: whether it is there and works; true where this machine has no use for it.
        found: version, device, place; or the reason why it cannot be used.
        fix: what mends it, where it is not usable; a hint, where it is.
    """

    name: str
    usable: bool
    found: str
    fix: str | None = None

    def line(self) -> str:
        """One line for people."""
        state = "" if self.usable else "not usable: "
        return f"gpu part {self.name}: {state}{self.found}" + (f" (fix: {self.fix})" if self.fix else "")


def gpu_parts() -> tuple[Part, ...]:
    """All pieces, in the order in which a missing one keeps the next from working. Never raises."""
    return tuple(_guarded(name, probe) for name, probe in _PROBES)


def _guarded(name: str, probe: Callable[[], tuple[bool, str, str | None]]) -> Part:
    try:
        return Part(name, *probe())
    except MemedgeError as error:
        return Part(name, False, error.message, error.fix)
    except Exception as error:  # a broken library raises whatever it likes
        return Part(name, False, f"looking for it fails: {first_line(error)}", "reinstall what brings it")


def _jetson() -> bool:
    return bool(hardware.jetpack()) or "jetson" in hardware.board().lower()


def _installed(*distributions: str) -> str:
    """``name version`` of the first of these packages that is installed, or empty."""
    for name in distributions:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return ""


def _there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _beside(module: str, *distributions: str) -> str:
    """Where a driver or device is missing: whether the library that needs it is there."""
    return f"{_installed(*distributions) or module} is {'' if _there(module) else 'not '}installed"


def _jetpack() -> tuple[bool, str, str | None]:
    release = hardware.jetpack()
    if not release:
        return True, "this is no Jetson", None
    found = re.search(r"R(\d+).*?REVISION:\s*(\d+)", release)
    number = (int(found[1]), int(found[2])) if found else (0, 0)
    names = {36: "6.1 or 6.2", 38: "7.0 or 7.1", 39: "7.2"}
    if number < (36, 4):
        return False, f"{release}: older than JetPack 6.1, whose TensorRT 10.3 is the oldest supported", "JetPack 6.1"
    return True, f"JetPack {names.get(number[0], 'newer than 7.2, not known here')} ({release})", None


def _power() -> tuple[bool, str, str | None]:
    if not _jetson():
        return True, "this is no Jetson", None
    from .environment import environment

    mode = environment().power_mode
    hint = "sudo nvpmodel -q lists the modes; sudo jetson_clocks locks the clocks, for measuring"
    return True, f"mode {mode}" if mode else "mode not readable", hint


def _driver() -> tuple[bool, str, str | None]:
    if hardware.nvidia_driver():
        drivers = {gpu.driver for gpu in hardware.gpus() if gpu.driver}
        return True, ", ".join(sorted(drivers)) or "loaded", None
    fix = _JETSON if _jetson() else "install the GPU's driver (535 or newer, 580 for CUDA 13); a CPU engine needs none"
    return False, "no NVIDIA driver is loaded", fix


def _device() -> tuple[bool, str, str | None]:
    from memedge_engines.cuda.opening import load_driver

    devices = load_driver().devices()
    if not devices:
        return False, "the driver shows no device to this process", "nvidia-smi -L; check CUDA_VISIBLE_DEVICES"
    return True, ", ".join(f"{d.name} (sm_{d.sm}, {d.memory_bytes / 2**30:.0f} GiB)" for d in devices), None


def _cuda_python() -> tuple[bool, str, str | None]:
    found = _installed("cuda-python", "cuda-bindings")
    if found and _there("cuda.bindings"):
        return True, found, None
    # A JetPack 6 driver is of CUDA 12: packages for CUDA 13 ask it for calls that it lacks.
    old = hardware.jetpack().startswith("R36")
    fix = "pip install 'cuda-python>=12.9.1,<13'" if old else "pip install 'memedge[cuda]'"
    return False, "not installed for this Python" if not found else f"{found} has no cuda.bindings", fix


def _pycuda() -> tuple[bool, str, str | None]:
    found = _installed("pycuda")
    if found:
        return True, f"{found}, used where cuda-python is absent", None
    if _there("cuda.bindings"):
        return True, "not installed, and not needed beside cuda-python", None
    return False, "not installed; one of cuda-python and PyCUDA is needed", "pip install 'memedge[pycuda]'"


def _tensorrt() -> tuple[bool, str, str | None]:
    from memedge_engines.plans import library

    try:
        module = library.tensorrt()
    except CudaError as error:
        beside = _beside("tensorrt", "tensorrt", "tensorrt-cu13", "tensorrt-cu12")
        return False, f"{error.message} ({beside})", error.fix
    return True, str(module.__version__), None


def _plans() -> tuple[bool, str, str | None]:
    problem = cache.status()
    if problem:
        return False, f"the cache folder cannot be written: {problem}", "set MEMEDGE_CACHE to a folder that can"
    found = [path for path in cache.folder().glob("plans/*/*.plan") if path.is_file()]
    size = sum(path.stat().st_size for path in found) / 2**20
    if not found:
        return True, "none in the cache; memedge run builds them in the background, memedge build beforehand", None
    return True, f"{len(found)} in {cache.folder() / 'plans'} ({size:.0f} MiB)", None


def _provider(name: str, title: str) -> tuple[bool, str, str | None]:
    package = _installed("onnxruntime-gpu", "onnxruntime")
    fix = (
        "a wheel from the Jetson community's index, or a build of your own: the registry's has no code for Jetsons"
        if _jetson()
        else "pip uninstall -y onnxruntime && pip install --force-reinstall 'memedge[gpu]'"
    )
    if not _there("onnxruntime"):
        return False, "onnxruntime is not installed", fix
    import onnxruntime as ort

    if name in ort.get_available_providers():
        found = onnx_providers.availability(name, title)  # compiled in is not enough: its libraries must load
        where = f"in {package or 'onnxruntime ' + str(ort.__version__)}"
        return found.usable, where if found.usable else found.reason, found.fix
    return False, f"{package or 'onnxruntime'} was built without it", fix


def _gstreamer() -> tuple[bool, str, str | None]:
    from .sources import gstreamer_library

    route = gstreamer_library.gi_route()
    if not route.usable:
        return False, route.reason, route.fix
    return True, f"{route.version} through PyGObject", None


def _gstreamer_elements() -> tuple[bool, str, str | None]:
    from .sources import gstreamer_library

    if not gstreamer_library.gi_route().usable:
        return False, "cannot be told without PyGObject", gstreamer_library.INSTALL
    found = gstreamer_library.elements()
    wanted = _ON_JETSON if _jetson() else _ON_DESKTOP
    missing = [name for name in wanted if not found.has(name)]
    if missing:
        return False, f"missing: {', '.join(missing)}", gstreamer_library.element_fix(missing[0])
    return True, ", ".join(wanted), None


def _gstreamer_cv2() -> tuple[bool, str, str | None]:
    from .sources import gstreamer_library

    route = gstreamer_library.cv2_route()
    if route.usable:
        return True, f"cv2 {route.version} has GStreamer", None
    if gstreamer_library.gi_route().usable:
        return True, f"{route.reason}; not needed beside PyGObject", None
    return False, route.reason, route.fix


def _nvcodec() -> tuple[bool, str, str | None]:
    from .sources import nvcodec

    found = nvcodec.availability()
    if found.usable:
        return True, found.version or "there", found.fix
    beside = "" if hardware.nvidia_driver() else f" ({_beside('PyNvVideoCodec', 'PyNvVideoCodec')})"
    return False, found.reason + beside, found.fix


_PROBES: tuple[tuple[str, Callable[[], tuple[bool, str, str | None]]], ...] = (
    ("JetPack", _jetpack),
    ("power mode", _power),
    ("NVIDIA driver", _driver),
    ("CUDA device", _device),
    ("cuda-python", _cuda_python),
    ("PyCUDA", _pycuda),
    ("TensorRT", _tensorrt),
    ("plans", _plans),
    ("onnxruntime CUDA provider", lambda: _provider("CUDAExecutionProvider", "CUDA")),
    ("onnxruntime TensorRT provider", lambda: _provider("TensorrtExecutionProvider", "TensorRT")),
    ("GStreamer", _gstreamer),
    ("GStreamer elements", _gstreamer_elements),
    ("GStreamer in cv2", _gstreamer_cv2),
    ("PyNvVideoCodec", _nvcodec),
)
