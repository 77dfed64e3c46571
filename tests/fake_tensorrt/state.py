"""What one fake TensorRT knows beside its names: the GPU, what shall go wrong, what was said and done."""

from __future__ import annotations

import platform
import weakref
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal


class Misuse(AssertionError):
    """What TensorRT leaves undefined was done. Not an ordinary error: no handler may eat it."""


@dataclass
class Faults:
    """What shall go wrong, changed by tests at any time.

    Attributes:
        parse: text of a parser error, without looking at the graph.
        build: lines of the log of a build that gives no plan.
        strong_build: the same, only for strongly typed networks.
        deserialize: lines of the log of a plan that is refused.
        context: no execution context, as where memory ran out.
        enqueue: the n-th execution from now (1 is the next) returns False.
        capture: executions in a capture return False and spoil it.
        skew: added to every floating point output of plans that are built from now on.
        skewed_builds: how many builds ``skew`` is for; none: all.
        raising: name of a method that raises RuntimeError where it should return, ``Builder.create_network``.
        refusing: name of a method that returns what it returns when it refuses.
        says: logged as an error by ``refusing``.
    """

    parse: str = ""
    build: tuple[str, ...] = ()
    strong_build: tuple[str, ...] = ()
    deserialize: tuple[str, ...] = ()
    context: bool = False
    enqueue: int = 0
    capture: bool = False
    skew: float = 0.0
    skewed_builds: int | None = None
    raising: str = ""
    refusing: str = ""
    says: str = "Error Code 1: Cuda Runtime (out of memory)"


@dataclass
class Fake:
    """The test's side of a fake TensorRT.

    Attributes:
        version: four numbers.
        driver: where engines run; none: plans are built and loaded, never run.
        gpu: whether there is one at all.
        sm, platform: what plans are made for and loaded on.
        calls: how often each method was called, ``Builder.create_network``.
        said: (severity's name, text) of everything logged, the last 1000.
        built: descriptions of the plans that were built, the last 64.
        executions: how often a graph was really run.
    """

    version: tuple[int, ...]
    driver: Any = None
    gpu: bool = True
    sm: str = "87"
    platform: str = field(default_factory=lambda: f"{platform.system()} {platform.machine()}")
    faults: Faults = field(default_factory=Faults)
    calls: Counter[str] = field(default_factory=Counter)
    said: list[tuple[str, str]] = field(default_factory=list)
    built: list[dict[str, Any]] = field(default_factory=list)
    executions: int = 0
    steps: int = 12
    trt: Any = None
    loggers: weakref.WeakSet[Any] = field(default_factory=weakref.WeakSet)

    @property
    def major(self) -> int:
        """10 or 11."""
        return self.version[0]

    def say(self, logger: Any, severity: Literal["INTERNAL_ERROR", "ERROR", "WARNING", "INFO"], text: str) -> None:
        """Tell the logger, which a caller may have written; an exception of it would end a real process."""
        self.said.append((severity, text))
        del self.said[:-1000]
        try:
            logger.log(getattr(self.trt.ILogger.Severity, severity), text)
        except Exception as error:
            raise Misuse(f"the logger raised {error!r} into TensorRT") from error

    def error(self, logger: Any, call: str, kind: str, text: str) -> None:
        """An error in TensorRT's form: ``IBuilder::x: Error Code 4: API Usage Error (text. In x at file:1)``."""
        codes = {"API Usage Error": 4, "Internal Error": 2, "Cuda Runtime": 1, "Serialization": 6}
        name = call.rpartition("::")[2]
        self.say(logger, "ERROR", f"{call}: Error Code {codes[kind]}: {kind} ({text} In {name} at fake:1)")

    def need_logger(self, logger: Any) -> Any:
        """The logger, if it is one and its base class was initialised."""
        if not isinstance(logger, self.trt.ILogger):
            raise TypeError("incompatible constructor arguments: the logger is no ILogger")
        if not getattr(logger, "_initialised", False):
            raise TypeError("ILogger.__init__() must be called when overriding __init__")
        self.loggers.add(logger)
        if len(self.loggers) > 1:
            raise Misuse("a second logger: TensorRT keeps a pointer to the first one for the whole process")
        return logger

    def need_gpu(self, what: str) -> None:
        """What a constructor of the bindings does where there is no GPU."""
        if not self.gpu:
            raise TypeError(f"{what}: pybind11::init(): factory function returned nullptr")
