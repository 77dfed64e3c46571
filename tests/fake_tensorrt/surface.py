"""Classes from recorded names: a method, parameter or property that a version lacks is lacking here."""

from __future__ import annotations

import enum
import functools
import hashlib
import types
from collections.abc import Callable, Mapping
from typing import Any

from .state import Fake, Misuse


def make_enum(name: str, told: Mapping[str, Any], version: tuple[int, ...]) -> type[enum.Enum]:
    """An enumeration with the version's members, numbered in an order of its own."""
    members = sorted(told["enum"], key=lambda one: hashlib.sha256(f"{version}{name}{one}".encode()).digest())
    # From 1: a member that is 0 would fit flags where none is meant.
    made = _Numbered(name, {member: number for number, member in enumerate(members, 1)}, qualname=name)
    return made


class _Numbered(enum.Enum):
    """As pybind11's enumerations: no number by itself, but ``int(member)`` gives one."""

    def __int__(self) -> int:
        return int(self.value)

    __index__ = __int__

    @property
    def itemsize(self) -> float:
        """Bytes of one element of a data type."""
        sizes = {"INT4": 0.5, "FP4": 0.5, "HALF": 2, "BF16": 2, "FLOAT": 4, "INT32": 4, "INT64": 8}
        return sizes.get(self.name, 1)


def make_class(fake: Fake, name: str, told: Mapping[str, Any], behaviour: type | None, base: type = object) -> type:
    """A class with exactly the recorded names; what ``behaviour`` does not have raises Misuse when it is used."""
    space: dict[str, Any] = {"__module__": "tensorrt", "__qualname__": name, "_fake": fake}
    given = dict(vars(behaviour)) if behaviour is not None else {}
    for key, value in given.items():
        if key.startswith("_") and key not in ("__module__", "__qualname__", "__dict__", "__weakref__"):
            space[key] = value
    for key, overloads in told.get("methods", {}).items():
        if key == "__init__" and key not in given:
            space[key] = _refuse_construction(name) if not overloads else _init_of_base
        else:
            space[key] = _method(fake, name, key, overloads, given.get(key))
    for key, access in told.get("properties", {}).items():
        found = given.get(key)
        space[key] = found if isinstance(found, property) else _stored(name, key, access, behaviour)
    for key, inner in told.get("classes", {}).items():
        space[key] = make_enum(key, inner, fake.version) if "enum" in inner else make_class(fake, key, inner, None)
    severity = space.get("Severity")
    for key in told.get("values", ()):
        if severity is not None and key in severity.__members__:
            space[key] = severity[key]
    if name not in _SUBCLASSED:
        allowed = frozenset(key for key, access in told.get("properties", {}).items() if access == "rw")
        space["__setattr__"] = functools.partialmethod(_set_allowed, name, allowed)
    return types.new_class(name, (base,), exec_body=lambda body: body.update(space))


# Written by callers as base classes, whose own attributes are free.
_SUBCLASSED = ("ILogger", "Logger", "IProgressMonitor", "IErrorRecorder", "IOutputAllocator", "IProfiler")


def _set_allowed(self: Any, owner: str, allowed: frozenset[str], name: str, value: Any) -> None:
    if not name.startswith("_") and name not in allowed:
        raise AttributeError(f"'tensorrt.{owner}' object has no writable attribute '{name}'")
    object.__setattr__(self, name, value)


def _init_of_base(self: Any, *args: Any) -> None:
    self._initialised = True


def _refuse_construction(owner: str) -> Callable[..., None]:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> None:
        raise TypeError(f"tensorrt.{owner}: No constructor defined!")

    return refuse


def _method(fake: Fake, owner: str, name: str, overloads: list[str], behaviour: Any) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = bind(overloads, args, kwargs)
        if bound is None:
            told = " or ".join(f"({text})" for text in overloads)
            raise TypeError(f"{owner}.{name}(): incompatible function arguments {args} {kwargs}; supported: {told}")
        fake.calls[f"{owner}.{name}"] += 1
        if behaviour is None:
            raise Misuse(f"the fake TensorRT does not know what {owner}.{name} does")
        if fake.faults.raising == f"{owner}.{name}":
            raise RuntimeError(f"{name} raised")
        if fake.faults.refusing == f"{owner}.{name}":
            fake.say(next(iter(fake.loggers)), "ERROR", f"{owner}::{name}: {fake.faults.says}")
            return _REFUSALS.get(name)
        return behaviour(self, **bound)

    call.__name__ = name
    call.__qualname__ = f"{owner}.{name}"
    return call


_REFUSALS: dict[str, Any] = {
    "parse": False, "parse_from_file": False, "add_optimization_profile": -1, "set_timing_cache": False,
    "set_input_shape": False, "set_tensor_address": False, "execute_async_v3": False,
}  # fmt: skip


def bind(overloads: list[str], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
    """Arguments by name after the first overload that takes them; none where no overload does."""
    for text in overloads:
        names = [part for part in text.split(",") if part]
        plain = [name.rstrip("?") for name in names]
        if len(args) > len(plain):
            continue
        bound = dict(zip(plain, args, strict=False))
        if set(kwargs) - set(plain) or set(kwargs) & set(bound):
            continue
        bound.update(kwargs)
        if all(name.endswith("?") or name in bound for name in names):
            return bound
    return None


def _stored(owner: str, name: str, access: str, behaviour: type | None) -> property:
    """A property that keeps what it is given; one that nobody told a default for is not known."""
    defaults: Mapping[str, Any] = getattr(behaviour, "_defaults", {})
    checks: Mapping[str, Callable[[Any], bool]] = getattr(behaviour, "_checks", {})

    def get(self: Any) -> Any:
        if f"_stored_{name}" in vars(self):
            return vars(self)[f"_stored_{name}"]
        if name not in defaults:
            raise Misuse(f"the fake TensorRT does not know {owner}.{name}")
        value = defaults[name]
        if isinstance(value, str) and "." in value:  # a member of an enumeration, which each version has of its own
            kind, _, member = value.partition(".")
            return getattr(self._fake.trt, kind)[member]
        return value

    def put(self: Any, value: Any) -> None:
        if name in checks and not checks[name](value):
            raise TypeError(f"{owner}.{name}: incompatible value {value!r}")
        object.__setattr__(self, f"_stored_{name}", value)

    return property(get, put if access == "rw" else None)
