"""The one place that imports TensorRT. Nothing of it is constructed where there is no usable driver: it could crash.

Without a driver, one build of its runtime returns an object that ends the process on first use, another raises a
TypeError about a null pointer and a third logs an error and returns none; hence the check before the import.
"""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from .. import hardware
from ..errors import BackendUnavailable, DriverMissing

OLDEST = (10, 3)
BEFORE = (12,)
MOST_LINES = 200
_LONGEST_LINE = 500
# The first lines tell the cause, the last ones what came of it; what is dropped is from between.
_FIRST_LINES = 20

_lock = threading.RLock()
_instead: list[Any] = []
_loggers: dict[int, tuple[Any, Any]] = {}
_collectors: list[list[str]] = []


def check_driver() -> None:
    """Raise DriverMissing where files of the system show no NVIDIA driver: cheap, nothing is loaded."""
    if not hardware.nvidia_driver():
        raise DriverMissing(
            "no NVIDIA driver is loaded: TensorRT plans are built on the device that runs them",
            fix="install the GPU's driver, or run on the CPU: engines onnxruntime and openvino need no plan",
        )


def tensorrt() -> Any:
    """The ``tensorrt`` module (10.3 <= version < 12), or what :func:`use` put in its place.

    Raises:
        DriverMissing, NoDevice: no usable driver or GPU; TensorRT is not touched then.
        BackendUnavailable: it is not installed, a shared library is missing (named), or its version is not supported.
    """
    with _lock:
        if _instead:
            return _instead[-1]
    check_driver()
    from ..cuda.opening import load_driver

    load_driver()
    try:
        module = importlib.import_module("tensorrt")
    except ImportError as error:
        raise _not_importable(error) from None
    except Exception as error:  # a library that fails while it loads, in whatever way
        raise BackendUnavailable(f"tensorrt does not import: {_one_line(str(error))}", fix=_install()) from None
    found = version(module)
    if not OLDEST <= found < BEFORE:
        raise BackendUnavailable(
            f"TensorRT {module.__version__}; memedge works with 10.3 up to 11.x (JetPack 6.1 and newer)", fix=_install()
        )
    return module


@contextmanager
def use(module: Any) -> Iterator[Any]:
    """While the block runs, ``module`` is TensorRT, whatever the driver: for TensorRT for RTX and for tests."""
    with _lock:
        _instead.append(module)
    try:
        yield module
    finally:
        with _lock:
            _instead.remove(module)


def flavour(trt: Any) -> Literal["full", "rtx"]:
    """``rtx`` for TensorRT for RTX, which has no inspector without a GPU and plans of its own; else ``full``."""
    return "rtx" if "rtx" in str(trt.__name__) else "full"


def version(trt: Any) -> tuple[int, ...]:
    """The leading numbers of the module's version: ``(10, 3, 0)``."""
    return tuple(int(part) for part in re.findall(r"\d+", str(getattr(trt, "__version__", "0")))[:4])


def logger(trt: Any) -> Any:
    """The process's one ILogger of this module. TensorRT keeps a pointer to it, so it is never freed."""
    with _lock:
        held = _loggers.get(id(trt))
        if held is None:
            held = _loggers[id(trt)] = (trt, _make_logger(trt))
        return held[1]


@contextmanager
def collecting() -> Iterator[list[str]]:
    """What TensorRT says while the block runs, in any thread: warnings and errors, ``error: text``.

    Each line once; at most 200 lines of at most 500 characters: when there are more, those after the first 20 are
    dropped.
    """
    lines: list[str] = []
    with _lock:
        _collectors.append(lines)
    try:
        yield lines
    finally:
        with _lock:
            # By identity: two collectors that heard the same are equal as lists.
            _collectors[:] = [one for one in _collectors if one is not lines]


def _make_logger(trt: Any) -> Any:
    words = {
        trt.ILogger.INTERNAL_ERROR: "internal error",
        trt.ILogger.ERROR: "error",
        trt.ILogger.WARNING: "warning",
    }

    class Log(trt.ILogger):  # type: ignore[misc,name-defined,unused-ignore]
        """Called from the library's own threads; keeps nothing when nobody collects."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            """Hand one message to whoever collects."""
            word = words.get(severity)
            if word is not None:
                _say(f"{word}: {_one_line(message)}")

    return Log()


def _say(line: str) -> None:
    with _lock:
        for lines in _collectors:
            if line not in lines:
                lines.append(line)
            if len(lines) > MOST_LINES:
                del lines[_FIRST_LINES]


def _one_line(text: str) -> str:
    return " ".join(str(text).split())[:_LONGEST_LINE]


def _not_importable(error: ImportError) -> BackendUnavailable:
    shared = re.search(r"lib[\w+-]+\.so[.\w]*", str(error))
    if shared:
        reason = f"tensorrt does not import: the shared library {shared[0]} is missing or does not load"
    elif isinstance(error, ModuleNotFoundError) and error.name == "tensorrt":
        reason = "tensorrt is not installed for this Python"
    else:
        reason = f"tensorrt does not import: {_one_line(str(error))}"
    return BackendUnavailable(reason, fix=_install())


def _install() -> str:
    if hardware.jetpack() or "jetson" in hardware.board().lower():
        return (
            "sudo apt install nvidia-jetpack python3-libnvinfer, and a virtual environment made with "
            "python3 -m venv --system-site-packages"
        )
    return "pip install 'memedge[tensorrt]'"
