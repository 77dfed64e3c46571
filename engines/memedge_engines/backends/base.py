"""The two inner seams of inference: a back end opens nodes, an engine is one opened node.

Public methods check, ``_open`` and ``_run`` work, and everything is context-managed.
"""

from __future__ import annotations

import importlib.util
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..errors import BackendUnavailable, EngineError
from ..manifest import PRECISION_OF, Node, NodeInput

Dim = int | None


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of a tensor; ``None`` is a dimension free at run time (the batch).

    ``any_rank``: the graph does not say how many dimensions there are, ``shape`` is then empty.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[Dim, ...]
    any_rank: bool = False


@dataclass(frozen=True)
class Availability:
    """Whether a back end can be used here; if not, why and what would mend it.

    ``version``: of the library, where it is installed; ``devices``: what it would run on.
    """

    usable: bool
    reason: str = ""
    fix: str | None = None
    version: str | None = None
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class EngineOptions:
    """Options of opening a node. ``threads`` 0: the library's default for all cores; ``bf16`` only by explicit wish."""

    threads: int = 0
    max_batch: int = 1
    bf16: bool = False
    extra: Mapping[str, str] = field(default_factory=dict)


class Engine(ABC):
    """An opened node: named arrays in, named arrays out. Not thread-safe; one worker drives it.

    Attributes:
        name: the back end's name, as readings print it.
        lowering, precision: which file of the node runs.
        inputs, outputs: tensor specifications in the graph's order.
    """

    def __init__(
        self, name: str, lowering: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], precision: str = ""
    ) -> None:
        self.name = name
        self.lowering = lowering
        self.precision = precision or PRECISION_OF[lowering]
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self._closed = False

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """One inference. Input and output arrays have the batch as first axis.

        Raises:
            EngineError: closed, missing or unknown names, another dtype or shape than declared, or the library failed.
        """
        if self._closed:
            raise EngineError(f"engine {self.name} was used after it was closed")
        expected = {spec.name for spec in self.inputs}
        if set(inputs) != expected:
            raise EngineError(f"engine {self.name}: inputs {sorted(inputs)}; expected {sorted(expected)}")
        batch: int | None = None
        for spec in self.inputs:
            array = inputs[spec.name]
            if array.dtype != spec.dtype:
                raise EngineError(f"input '{spec.name}': found dtype {array.dtype}, expected {spec.dtype}")
            fits = len(array.shape) == len(spec.shape) and all(
                want is None or have == want for have, want in zip(array.shape, spec.shape, strict=True)
            )
            if not array.shape or not (fits or spec.any_rank):
                raise EngineError(f"input '{spec.name}': found shape {array.shape}, expected {shape_text(spec.shape)}")
            if batch is not None and array.shape[0] != batch:
                raise EngineError(f"input '{spec.name}': batch {array.shape[0]}, another input has {batch}")
            batch = array.shape[0]
        return self._run(inputs)

    @abstractmethod
    def _run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run on checked inputs."""

    def close(self) -> None:
        """Give the library's memory back; safe to call twice."""
        if not self._closed:
            self._closed = True
            self._close()

    def _close(self) -> None:  # noqa: B027 - optional hook
        """Release the library's objects."""

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Backend(ABC):
    """A library that runs nodes.

    Attributes:
        name: as typed after ``--engine``.
        lowerings: the lowerings it runs, best first.
        gpu: whether it runs on a GPU, which decides what ``precision="auto"`` means.
        by_name_only: ``auto`` never takes it, nor are it and others timed against each other unasked.
        module: the library's module, looked for but not imported to tell what is not installed; empty: none needed.
        distributions: packages whose versions a remembered measurement depends on.
    """

    name: str = ""
    lowerings: tuple[str, ...] = ("fp32",)
    gpu: bool = False
    by_name_only: bool = False
    module: str = ""
    distributions: tuple[str, ...] = ()

    def installed(self) -> bool:
        """Whether the library's module is there, without importing it."""
        if not self.module or sys.modules.get(self.module) is not None:
            return True
        try:
            return importlib.util.find_spec(self.module) is not None
        except (ImportError, ValueError):
            return False

    @abstractmethod
    def availability(self) -> Availability:
        """Probe this machine. Never raises; imports the library only here and in ``_open``."""

    def open(self, bundle: Bundle, node: Node, lowering: str, options: EngineOptions | None = None) -> Engine:
        """Open one lowering of a node.

        Raises:
            BackendUnavailable: the library is not usable here.
            EngineError: the back end does not run this lowering, the node has no such file, or the library refuses it.
        """
        if lowering not in self.lowerings:
            raise EngineError(
                f"engine {self.name} does not run lowering '{lowering}'; it runs {', '.join(self.lowerings)}"
            )
        if node.kind == "graph" and lowering not in node.files:
            raise EngineError(
                f"node '{node.name}' has no lowering '{lowering}'; the bundle has {', '.join(node.files)}"
            )
        found = self.availability()
        if not found.usable:
            raise BackendUnavailable(f"engine {self.name}: {found.reason}", fix=found.fix)
        engine = self._open(bundle, node, lowering, options or EngineOptions())
        try:
            _check_engine(engine, node)
        except EngineError:
            engine.close()
            raise
        return engine

    @abstractmethod
    def _open(self, bundle: Bundle, node: Node, lowering: str, options: EngineOptions) -> Engine:
        """Open a checked request."""


def shape_text(shape: Sequence[Dim]) -> str:
    """``(batch, 3, 224, 224)`` for a specification with a free first axis."""
    return "(" + ", ".join("batch" if d is None else str(d) for d in shape) + ")"


def first_line(error: BaseException) -> str:
    """The first line of a library's message that says something, at most 300 characters."""
    lines = [line.strip() for line in str(error).splitlines()]
    # OpenVINO begins with where in its own sources the error was thrown.
    lines = [line for line in lines if line and not line.startswith("Exception from")]
    return (lines[0] if lines else type(error).__name__)[:300]


def _check_engine(engine: Engine, node: Node) -> None:
    """Raise EngineError when a node's file does not take and give what the manifest says of the node."""
    where = f"node '{node.name}' ({engine.lowering})"
    found, expected = sorted(s.name for s in engine.inputs), sorted(i.name for i in node.inputs)
    if found != expected:
        raise EngineError(f"{where}: the file's inputs are {found}; the manifest names {expected}")
    outputs = {spec.name for spec in engine.outputs}
    missing = [output.name for output in node.outputs if output.name not in outputs]
    if missing:
        raise EngineError(f"{where}: the file's outputs are {sorted(outputs)}; the manifest names {missing} too")
    entry = node.files.get(engine.lowering)  # type: ignore[call-overload]
    for item in node.inputs:
        spec = next(s for s in engine.inputs if s.name == item.name)
        storage = entry.inputs.get(item.name) if entry is not None else None
        dtype = np.dtype(storage.dtype if storage is not None else "float32")
        if spec.dtype != dtype:
            raise EngineError(f"{where} input '{item.name}': the file takes {spec.dtype}, the manifest says {dtype}")
        if spec.any_rank:
            continue
        wanted = contract_shape(item)
        if wanted is not None and not _compatible(spec.shape, wanted):
            takes, makes = shape_text(spec.shape), shape_text(wanted)
            raise EngineError(f"{where} input '{item.name}': the file takes {takes}, the contract makes {makes}")
        if spec.shape[:1] != (None,):
            raise EngineError(
                f"{where} input '{item.name}': shape {shape_text(spec.shape)}; the first axis is the batch: free"
            )


def _compatible(found: Sequence[Dim], wanted: Sequence[Dim]) -> bool:
    pairs = zip(found, wanted, strict=False)
    return len(found) == len(wanted) and all(a is None or b is None or a == b for a, b in pairs)


def contract_shape(item: NodeInput) -> tuple[Dim, ...] | None:
    """Shape of the tensor that an input's contract makes, ``None`` for free sizes; none where the manifest does not
    say: values of other nodes, and of the caller without a shape."""
    contract = item.preprocess
    if contract is None:
        return None if item.shape is None else (None, *item.shape)
    size: tuple[Dim, Dim] = (None, None)
    if contract.crop.size is not None:
        size = contract.crop.size
    elif isinstance(contract.resize.size, tuple):
        size = contract.resize.size
    if contract.layout == "nchw":
        return (None, contract.channels, *size)
    if contract.layout == "ncthw":
        return (None, contract.channels, item.last, *size)
    return (None, item.last, contract.channels, *size)
