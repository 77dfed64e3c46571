"""The driver's own library through ctypes: the few calls that PyCUDA does not bind, and whether it loads at all."""

from __future__ import annotations

import ctypes
import functools
import os
from typing import Any

from ..errors import CudaUnsupported
from .driver_errors import driver_error

NAME = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
_LARGEST_CODE = 1000

_Pointer = ctypes.c_void_p
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuGetErrorName": (ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)),
    "cuGetErrorString": (ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)),
    "cuDeviceGetUuid": (ctypes.c_char_p, ctypes.c_int),
    "cuCtxPopCurrent_v2": (ctypes.POINTER(_Pointer),),
    "cuStreamBeginCapture_v2": (_Pointer, ctypes.c_int),
    "cuStreamEndCapture": (_Pointer, ctypes.POINTER(_Pointer)),
    "cuGraphInstantiateWithFlags": (ctypes.POINTER(_Pointer), _Pointer, ctypes.c_ulonglong),
    "cuGraphLaunch": (_Pointer, _Pointer),
    "cuGraphDestroy": (_Pointer,),
    "cuGraphExecDestroy": (_Pointer,),
}
THREAD_LOCAL = 1
"""``CU_STREAM_CAPTURE_MODE_THREAD_LOCAL``: other threads may go on allocating."""


def load() -> ctypes.CDLL:
    """The library; OSError where it is not there. Nothing is initialised."""
    return ctypes.WinDLL(NAME) if os.name == "nt" else ctypes.CDLL(NAME)  # type: ignore[attr-defined,unused-ignore]


class DriverLibrary:
    """Calls by name, with typed errors."""

    def __init__(self) -> None:
        self._library = load()

    def call(self, name: str, *arguments: Any) -> None:
        """One call. CudaUnsupported where this driver's library lacks it."""
        code = self._function(name)(*arguments)
        if code:
            raise driver_error(name, code, *self.texts(code))

    def handle(self, name: str, *arguments: Any, last: bool = False) -> int:
        """A call whose result is a handle, written through its first parameter (``last``: its last one)."""
        made = _Pointer()
        result = ctypes.byref(made)
        self.call(name, *((*arguments, result) if last else (result, *arguments)))
        return int(made.value or 0)

    def texts(self, code: int) -> tuple[str, str]:
        """The driver's name and text of a code; empty where it knows none."""
        found = []
        for name in ("cuGetErrorName", "cuGetErrorString"):
            text = ctypes.c_char_p()
            failed = self._function(name)(code, ctypes.byref(text))
            found.append("" if failed or not text.value else text.value.decode("utf-8", "replace"))
        return found[0], found[1]

    def code_of(self, text: str) -> int | None:
        """The code with this text; none where the driver has no such text."""
        return self._codes.get(text)

    @functools.cached_property
    def _codes(self) -> dict[str, int]:
        texts = {code: self.texts(code)[1] for code in range(1, _LARGEST_CODE)}
        return {text: code for code, text in reversed(texts.items()) if text}

    def _function(self, name: str) -> Any:
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise CudaUnsupported(f"this NVIDIA driver has no {name}", call=name) from None
        function.argtypes = _SIGNATURES[name]
        function.restype = ctypes.c_int
        return function
