"""The one place that imports TensorRT. Nothing of it is constructed where there is no usable driver: it could crash."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Literal


def tensorrt() -> Any:
    """The ``tensorrt`` module (10.3 <= version < 12), or what :func:`use` put in its place.

    Raises:
        DriverMissing, NoDevice: no usable driver or GPU; TensorRT is not touched then.
        BackendUnavailable: it is not installed, a shared library is missing (named), or its version is not supported.
    """
    raise NotImplementedError


def use(module: Any) -> AbstractContextManager[Any]:
    """While the block runs, ``module`` is TensorRT, whatever the driver: for TensorRT for RTX and for tests."""
    raise NotImplementedError


def flavour(trt: Any) -> Literal["full", "rtx"]:
    """``rtx`` for TensorRT for RTX, which has no inspector without a GPU and plans of its own; else ``full``."""
    raise NotImplementedError


def logger(trt: Any) -> Any:
    """The process's one ILogger of this module. TensorRT keeps a pointer to it, so it is never freed."""
    raise NotImplementedError


def collecting() -> AbstractContextManager[list[str]]:
    """What TensorRT says while the block runs: warnings and errors, at most 200 lines, oldest in the middle dropped."""
    raise NotImplementedError
