"""The module object: one version's names over the behaviour that the fake has."""

from __future__ import annotations

import functools
import json
import types
from pathlib import Path
from typing import Any

import numpy as np

from . import building, logging, parsing, running
from .state import Fake, Faults
from .surface import make_class, make_enum

FOLDER = Path(__file__).resolve().parent.parent / "data" / "tensorrt_api"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


VERSIONS = tuple(sorted((path.stem for path in FOLDER.glob("*.json")), key=_numbers))
"""Versions whose names are recorded, oldest first."""

_BEHAVIOUR: dict[str, type] = {
    **logging.CLASSES, **parsing.CLASSES, **building.CLASSES, **running.CLASSES,
}  # fmt: skip
_ALIASES = {
    "float32": "FLOAT", "float16": "HALF", "bfloat16": "BF16", "int8": "INT8", "int32": "INT32", "int64": "INT64",
    "uint8": "UINT8", "bool": "BOOL", "fp8": "FP8", "int4": "INT4",
}  # fmt: skip
_NUMPY = {
    "FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8, "INT32": np.int32, "INT64": np.int64,
    "UINT8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip


class FakeModule(types.ModuleType):
    """A module with one version's names. ``fake``: the test's side."""

    fake: Fake

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"module 'tensorrt' ({self.__version__}) has no attribute '{name}'")


@functools.cache
def recorded(version: str) -> dict[str, Any]:
    """The recorded names of a version."""
    found: dict[str, Any] = json.loads((FOLDER / f"{version}.json").read_text(encoding="utf-8"))
    return found


def fake_tensorrt(
    version: str = "10.3", *, driver: Any = None, gpu: bool = True, sm: str = "", faults: Faults | None = None
) -> Any:
    """A fake TensorRT.

    Args:
        version: the beginning of a recorded version, such as ``10.3`` or ``11``; the newest that fits.
        driver: a FakeDriver on which engines run; none: they are built and loaded only.
        gpu: false: builders and runtimes cannot be made.
        sm: compute capability; empty: that of the driver's first device, else 87.
        faults: what shall go wrong.
    """
    wanted = version.split(".")
    found = [one for one in VERSIONS if one.split(".")[: len(wanted)] == wanted]
    if not found:
        raise ValueError(f"no names of TensorRT {version} are recorded; there are {', '.join(VERSIONS)}")
    told = recorded(found[-1])
    numbers = (*_numbers(told["version"]), 0)[:4]
    devices = driver.devices() if driver is not None else []
    fake = Fake(numbers, driver, gpu, sm or (devices[0].sm if devices else "87"))
    fake.faults = faults or fake.faults
    module = FakeModule("tensorrt")
    module.__version__ = told["version"]
    module.fake, fake.trt = fake, module
    made: dict[str, type] = {}
    for name, one in told["classes"].items():
        if "enum" in one:
            made[name] = make_enum(name, one, numbers)
    for name, one in sorted(told["classes"].items(), key=lambda item: "bases" in item[1]):
        if name not in made:
            base = made.get(next(iter(one.get("bases", ())), ""), object)
            made[name] = make_class(fake, name, one, _BEHAVIOUR.get(name), base)
    vars(module).update(made)
    for alias, member in _ALIASES.items():
        if alias in told["values"]:
            setattr(module, alias, module.DataType[member])
    functions = {"nptype": _nptype, "volume": lambda iterable: int(np.prod(tuple(iterable), dtype=np.int64)),
                 "init_libnvinfer_plugins": lambda logger, namespace: True}  # fmt: skip
    vars(module).update({name: one for name, one in functions.items() if name in told["functions"]})
    return module


def _nptype(trt_type: Any) -> Any:
    if trt_type.name not in _NUMPY:
        raise TypeError(f"Could not resolve TensorRT datatype to an equivalent numpy datatype: {trt_type}")
    return _NUMPY[trt_type.name]
