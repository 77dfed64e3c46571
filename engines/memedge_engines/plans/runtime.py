"""A plan in memory: deserialised, its tensors by name, execution contexts whose every call is checked.

Everything here belongs to one thread that is bound to the device. Nothing of the library raises by itself: None, False
and lists of names become errors with what the library said meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from ..backends.base import TensorSpec, shape_text
from ..errors import PlanError, PlanMismatch
from . import classify, library

_REBUILD = "memedge build"
# TensorRT's name of an element type to numpy's; others have no numpy type and appear in no bundle.
_DTYPES = {
    "FLOAT": "float32", "HALF": "float16", "INT8": "int8", "UINT8": "uint8", "INT32": "int32", "INT64": "int64",
    "BOOL": "bool",
}  # fmt: skip
Shape = tuple[int, ...]


class LoadedPlan:
    """A deserialised plan.

    Args:
        trt: the TensorRT module.
        data: the plan, out of :func:`.store.read`: loading a plan is running code from it.
        what: names the plan in errors.

    Attributes:
        inputs, outputs: names, dtypes and shapes; free axes are none.
        max_batch: frames that one inference may take together.

    Raises:
        PlanMismatch: the library refuses the plan as another version's, device's or platform's.
        PlanError: it refuses it otherwise.
    """

    def __init__(self, trt: Any, data: bytes, what: str) -> None:
        self.what = what
        self._trt = trt
        with library.collecting() as log:
            self._runtime = _try(lambda: trt.Runtime(library.logger(trt)), f"{what}: starting TensorRT", log)
            self._engine = _try(lambda: self._runtime.deserialize_cuda_engine(data), f"{what}: loading", log)
        tensors = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        inputs = [name for name in tensors if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self.inputs = tuple(self._spec(name) for name in inputs)
        self.outputs = tuple(self._spec(name) for name in tensors if name not in inputs)
        self.max_batch = min((self._most(spec) for spec in self.inputs), default=1)

    def _spec(self, name: str) -> TensorSpec:
        shape = tuple(None if size < 0 else int(size) for size in self._engine.get_tensor_shape(name))
        kind = self._engine.get_tensor_dtype(name)
        for theirs, ours in _DTYPES.items():
            # A version that lacks a type cannot have made a plan with it.
            if kind == getattr(self._trt.DataType, theirs, None):
                return TensorSpec(name, np.dtype(ours), shape)
        raise PlanError(f"{self.what}: tensor '{name}' is of type {kind}, which numpy lacks", fix="memedge export")

    def _most(self, spec: TensorSpec) -> int:
        if spec.shape[:1] != (None,):
            return int(spec.shape[0] or 1) if spec.shape else 1
        return int(self._engine.get_tensor_profile_shape(spec.name, 0)[2][0])

    @property
    def scratch_bytes(self) -> int:
        """Device memory that a context needs while it runs."""
        return int(self._engine.device_memory_size_v2)

    def context(self, scratch: tuple[int, int] | None = None) -> PlanContext:
        """A new execution context.

        Args:
            scratch: (address, bytes) of memory to run in, at least ``scratch_bytes``, which contexts that never run at
                the same time may share; none: memory of its own.
        """
        with library.collecting() as log:
            make = self._engine.create_execution_context
            what = f"{self.what}: creating an execution context"
            if scratch is None:
                return PlanContext(self, _try(make, what, log))
            strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
            context = _try(lambda: make(strategy), what, log)
            _try(lambda: context.set_device_memory(*scratch) or True, f"{what}: setting its memory", log)
        return PlanContext(self, context)

    def close(self) -> None:
        """Let the library's objects go; contexts made from them must be gone. Safe to call twice."""
        # In this order: a runtime must outlive what it made.
        self._engine = None
        self._runtime = None


class PlanContext:
    """One execution context; one inference at a time, in one stream."""

    def __init__(self, plan: LoadedPlan, context: Any) -> None:
        self._plan = plan
        self._context = context

    def shape(self, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
        """Set the shapes of all inputs; the shapes of the outputs.

        Raises:
            PlanError: outside the plan's profile; the fix names the batch that would do.
        """
        context, what = self._context, self._plan.what
        with library.collecting() as log:
            for name, shape in shapes.items():
                if shape and shape[0] > self._plan.max_batch:
                    raise PlanError(
                        f"{what}: {shape[0]} frames at once; the plan takes at most {self._plan.max_batch}",
                        fix=f"memedge build --batch {shape[0]}",
                    )
                text = f"{what}: setting input '{name}' to {shape_text(shape)}"
                _need(lambda n=name, s=shape: context.set_input_shape(n, s), text, log)
            missing = _try(context.infer_shapes, f"{what}: inferring shapes", log)
            if missing:
                _fail(f"{what}: inferring shapes (not known: {', '.join(map(str, missing))})", log)
            found = {spec.name: tuple(int(n) for n in context.get_tensor_shape(spec.name)) for spec in _outputs(self)}
        for name, size in found.items():
            if min(size, default=0) < 0:
                text = f"{what}: the size of output '{name}' depends on the data: {size}"
                raise PlanError(text, fix="memedge export")
        return found

    def address(self, addresses: Mapping[str, int]) -> None:
        """Set where inputs are read and outputs written, 256-byte aligned device addresses."""
        with library.collecting() as log:
            for name, address in addresses.items():
                text = f"{self._plan.what}: setting the address of '{name}'"
                _need(lambda n=name, a=address: self._context.set_tensor_address(n, a), text, log)

    def enqueue(self, stream: int) -> None:
        """Queue one inference."""
        with library.collecting() as log:
            _need(lambda: self._context.execute_async_v3(stream), f"{self._plan.what}: running", log)

    def close(self) -> None:
        """Let the context go; nothing queued and no graph may use it. Safe to call twice."""
        self._context = None


def _outputs(context: PlanContext) -> tuple[TensorSpec, ...]:
    return context._plan.outputs


def _need(call: Any, what: str, log: Sequence[str]) -> None:
    if not _try(call, what, log):
        _fail(what, log)


def _try(call: Any, what: str, log: Sequence[str]) -> Any:
    """What a call gives, which is not None."""
    try:
        made = call()
    except MemoryError:
        _fail(what, ["error: out of memory", *log])
    except (RuntimeError, TypeError, ValueError) as error:  # a binding that raises where it should refuse
        _fail(what, [*log, f"error: {type(error).__name__}: {error}"])
    return _fail(what, log) if made is None else made


def _fail(what: str, log: Sequence[str]) -> NoReturn:
    said = classify.telling(log)
    reason = classify.mismatch(log)
    if reason is not None:
        raise PlanMismatch(reason, f"{what} failed: {said}", log=tuple(log), fix=_REBUILD)
    cause = classify.build_failure(log)
    text = f"{what} failed: {cause.text}" + (f": {said}" if said else "")
    raise PlanError(text, log=tuple(log), fix=cause.fix or _REBUILD, cause=cause.code)
