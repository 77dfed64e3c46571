"""Back ends: one file each, found by name, imported on use.

A back end's file defines ``BACKEND``, an instance of :class:`Backend`. The name is the file's, with ``-`` for ``_``.
Other packages add theirs through the entry-point group ``memedge.backends``.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from importlib.metadata import entry_points

from ..errors import EngineError, UnknownName
from .base import Availability, Backend, Engine, EngineOptions, TensorSpec

__all__ = ["Availability", "Backend", "Engine", "EngineOptions", "TensorSpec", "get", "names"]

# In the order in which an unmeasured device tries them. onnxruntime opens in a third of openvino's time, and the first
# score should be soon; timing decides afterwards.
_PREFERENCE = ("tensorrt", "onnxruntime-cuda", "onnxruntime", "openvino")


def names() -> list[str]:
    """Names of all back ends, in the order in which ``auto`` tries them; ``synthetic`` only by name."""
    found = {m.name.replace("_", "-") for m in pkgutil.iter_modules(__path__) if m.name not in ("base", "synthetic")}
    found |= {point.name for point in entry_points(group="memedge.backends")}
    return [n for n in _PREFERENCE if n in found] + sorted(found - set(_PREFERENCE))


def get(name: str) -> Backend:
    """The back end called ``name``.

    Raises:
        UnknownName: there is none of that name.
    """
    for point in entry_points(group="memedge.backends"):
        if point.name == name:
            loaded = point.load()
            if not isinstance(loaded, Backend):
                raise EngineError(f"engine '{name}': entry point {point.value} gives no back end")
            return loaded
    known = [*names(), "synthetic"]
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean '{near[0]}'?" if near else "."
        raise UnknownName(f"no engine '{name}'{hint} There are {', '.join(names())}", fix="memedge doctor")
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    backend: Backend = module.BACKEND
    return backend
