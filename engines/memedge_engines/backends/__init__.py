"""Back ends: one file each, found by name, imported on use.

A back end's file defines ``BACKEND``, an instance of :class:`Backend`. The name is the file's, with ``-`` for ``_``.
Other packages add theirs through the entry-point group ``memedge.backends``.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
from importlib.metadata import EntryPoint, entry_points

from ..errors import EngineError, UnknownName
from .base import Availability, Backend, Engine, EngineOptions, TensorSpec

__all__ = ["Availability", "Backend", "Engine", "EngineOptions", "TensorSpec", "automatic", "get", "names"]

# In the order in which an unmeasured device tries them. onnxruntime opens in a third of openvino's time, and the first
# score should be soon; timing decides afterwards.
_PREFERENCE = ("tensorrt", "onnxruntime-cuda", "onnxruntime", "openvino", "onnxruntime-tensorrt")


@functools.cache
def _foreign() -> dict[str, EntryPoint]:
    """Back ends of other packages. Read once: it takes a look at every installed package."""
    return {point.name: point for point in entry_points(group="memedge.backends")}


def _own() -> set[str]:
    modules = {module.name for module in pkgutil.iter_modules(__path__)} - {"base", "synthetic"}
    return {name.replace("_", "-") for name in modules}


def names() -> list[str]:
    """Names of all back ends but ``synthetic``, in the order in which ``auto`` tries those that it may take."""
    found = _own() | set(_foreign())
    return [n for n in _PREFERENCE if n in found] + sorted(found - set(_PREFERENCE))


def automatic() -> list[str]:
    """:func:`names` without those that are used by name only."""
    return [name for name in names() if not get(name).by_name_only]


def get(name: str) -> Backend:
    """The back end called ``name``; memedge's own before another package's of the same name.

    Raises:
        UnknownName: there is none of that name.
    """
    if name == "synthetic" or name in _own():
        module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
        backend: Backend = module.BACKEND
        return backend
    point = _foreign().get(name)
    if point is None:
        near = difflib.get_close_matches(name, [*names(), "synthetic"], 1)
        hint = f"; did you mean '{near[0]}'?" if near else "."
        raise UnknownName(f"no engine '{name}'{hint} There are {', '.join(names())}", fix="memedge doctor")
    loaded = point.load()
    if not isinstance(loaded, Backend):
        raise EngineError(f"engine '{name}': entry point {point.value} gives no back end")
    return loaded
