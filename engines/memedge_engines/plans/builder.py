"""One ONNX graph to one plan, with names that TensorRT 10.3 to 11.4 have in common.

Strongly typed: precisions are those in the graph. Nothing of the builder raises by itself, so every call's None, False
or -1 becomes an error with what the library said meanwhile. Below TensorRT 10.12, where strong typing is not complete,
a graph that fails for its types or for a missing kernel is tried once more with weak typing and the FP16 and INT8
flags; the record of the plan says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from ..backends.base import Dim
from ..errors import BuildCancelled, PlanError
from . import classify, library
from .machine import Machine
from .profile import Profile
from .progress import Watch, monitor
from .sidecar import Options, TensorSpec

_STRONG_TYPING_COMPLETE = (10, 12)
_WEAK_FLAGS = ("FP16", "INT8")
_MOST_ERRORS = 8
_LONGEST_ERROR = 500
# Causes that another typing may mend; a full disk or a damaged file stays what it is.
_TYPING_CAUSES = frozenset({"typing", "unsupported", "unknown"})
_DTYPES = {"float": "float32", "half": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class Built:
    """A finished plan, not checked yet.

    Attributes:
        plan: the bytes to store and deserialise.
        timing_cache: what this build measured beside what it was given; empty on TensorRT for RTX, which has none.
        log: warnings of the build.
        tensors: inputs and outputs with the profile's shapes.
        options: what the builder was set to.
        seconds: duration.
    """

    plan: bytes
    timing_cache: bytes
    log: tuple[str, ...]
    tensors: tuple[TensorSpec, ...]
    options: Options
    seconds: float


@dataclass
class _Job:
    """One build's arguments, and the library's objects of the present attempt."""

    trt: Any
    model: bytes
    lowering: str
    profile: Profile
    machine: Machine
    shapes: Mapping[str, Sequence[Dim]]
    timing_cache: bytes
    watch: Watch
    strong: bool = True
    flags: list[str] = field(default_factory=list)
    tensors: list[TensorSpec] = field(default_factory=list)


def build(
    model: bytes,
    lowering: str,
    profile: Profile,
    machine: Machine,
    *,
    trt: Any,
    shapes: Mapping[str, Sequence[Dim]] | None = None,
    timing_cache: bytes = b"",
    progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Built:
    """Build a plan; takes seconds to many minutes, in the calling thread.

    Args:
        model: an ONNX graph with all its data.
        lowering: ``trt-int8``, ``trt-fp16`` or ``fp32``; the last is built without TF32.
        shapes: input name to the shape that its contract makes (``backends.base.contract_shape``), for axes other than
            the batch that the graph leaves free.
        timing_cache: of an earlier build on this machine, or empty.
        progress: told (fraction 0..1, phase), from several threads; an exception of it stops the build.
        cancelled: asked at every step; true stops the build.

    Raises:
        BuildCancelled: it was stopped.
        PlanError: anything else, with the cause, its fix and the collected log.
    """
    watch = Watch(progress, cancelled)
    job = _Job(trt, model, lowering, profile, machine, shapes or {}, timing_cache, watch)
    try:
        return _attempt(job)
    except BuildCancelled:
        raise
    except PlanError as error:
        if not _may_fall_back(job, error):
            raise
        first = error
    weak = _Job(trt, model, lowering, profile, machine, shapes or {}, timing_cache, watch, strong=False)
    try:
        return _attempt(weak, fallback=first.message)
    except BuildCancelled:
        raise
    except PlanError as error:
        # What went wrong first is what a reader can mend.
        text = f"{first.message}; weak typing failed too: {error.message}"
        raise PlanError(text, log=first.log + error.log, fix=first.fix, cause=first.cause) from None


def _may_fall_back(job: _Job, error: PlanError) -> bool:
    old = library.flavour(job.trt) == "full" and library.version(job.trt) < _STRONG_TYPING_COMPLETE
    flags = all(hasattr(job.trt.BuilderFlag, name) for name in _WEAK_FLAGS)
    return old and flags and job.lowering != "fp32" and error.cause in _TYPING_CAUSES


def _attempt(job: _Job, fallback: str = "") -> Built:
    began = time.monotonic()
    with library.collecting() as log:
        try:
            plan, cache = _build(job, log)
        except PlanError:
            raise
        except MemoryError:
            _fail("building", ["error: out of memory", *log])
        except Exception as error:  # a binding that raises where it should return None
            if job.watch.error is not None:
                raise job.watch.error from None
            _fail("building", [*log, f"error: {type(error).__name__}: {error}"])
    options = Options(
        typing="strong" if job.strong else "weak",
        fallback=fallback,
        flags=tuple(job.flags),
        level=job.profile.level,
        workspace_bytes=job.profile.workspace_bytes(integrated=job.machine.integrated),
        max_aux_streams=0,
        timing_cache_bytes=len(job.timing_cache),
    )
    return Built(plan, cache, tuple(log), tuple(job.tensors), options, time.monotonic() - began)


def _build(job: _Job, log: list[str]) -> tuple[bytes, bytes]:
    trt = job.trt
    logger = library.logger(trt)
    builder = _need(trt.Builder(logger), "creating the builder", log)
    creation = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if job.strong else 0
    # Held in a variable until the end: the parser does not keep the network alive.
    network = _need(builder.create_network(creation), "creating the network", log)
    parser = _need(trt.OnnxParser(network, logger), "creating the parser", log)
    _parse(job, parser, network, log)
    config = _need(builder.create_builder_config(), "configuring the builder", log)
    _configure(job, config, log)
    _add_profile(job, builder, network, config, log)
    cache = _set_timing_cache(job, config, log)
    config.progress_monitor = monitor(trt, job.watch)
    plan = builder.build_serialized_network(network, config)
    config.progress_monitor = None
    if job.watch.error is not None:
        raise job.watch.error
    if job.watch.cancelled:
        raise BuildCancelled("the build was cancelled", log=tuple(log), cause="cancelled")
    if plan is None or plan.nbytes == 0:
        _fail("building", log)
    # The cache object outlives the build; the configuration gives back what was added.
    measured = config.get_timing_cache() if cache is not None else None
    blob = measured.serialize() if measured is not None else None
    return bytes(plan), b"" if blob is None else bytes(blob)


def _parse(job: _Job, parser: Any, network: Any, log: list[str]) -> None:
    if not parser.parse(job.model):
        errors = [parser.get_error(i) for i in range(min(parser.num_errors, _MOST_ERRORS))]
        told = [f"error: node '{e.node_name()}' ({e.node_operator()}): {_said(e.desc())}" for e in errors]
        _fail("parsing the graph", told + log)
    # Without a single byte of a graph the parser is content.
    if not (network.num_inputs and network.num_outputs):
        _fail("parsing the graph", ["error: invalid_graph: it has no input or no output", *log])


def _said(description: str) -> str:
    """A parser error in one line, without what the library says about a missing driver beside everything else."""
    lines = [line for line in str(description).splitlines() if "Cuda Runtime" not in line]
    return " ".join(" ".join(lines).split())[:_LONGEST_ERROR]


def _configure(job: _Job, config: Any, log: list[str]) -> None:
    trt = job.trt
    config.builder_optimization_level = job.profile.level
    # One stream: a captured graph stays linear, and memory is not held twice.
    config.max_aux_streams = 0
    # Without it the inspector tells names only, not what a layer computes in.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    workspace = job.profile.workspace_bytes(integrated=job.machine.integrated)
    if workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    if job.lowering == "fp32":
        # On by default; it rounds the operands of fp32 products to 10 bits: another number than fp32.
        config.clear_flag(trt.BuilderFlag.TF32)
    else:
        job.flags.append("TF32")
    if not job.strong:
        for name in _WEAK_FLAGS if job.lowering == "trt-int8" else _WEAK_FLAGS[:1]:
            config.set_flag(getattr(trt.BuilderFlag, name))
            job.flags.append(name)
    if library.flavour(trt) == "rtx":
        _aim(job, config, log)


def _aim(job: _Job, config: Any, log: list[str]) -> None:
    """TensorRT for RTX builds for a named compute capability, so that it needs no GPU while building."""
    target = getattr(job.trt.ComputeCapability, f"SM{job.machine.sm}", None)
    if target is None:
        _fail("configuring the builder", [f"error: unsupported SM {job.machine.sm} of TensorRT for RTX", *log])
    config.num_compute_capabilities = 1
    if not config.set_compute_capability(target, 0):
        _fail("configuring the builder", log)


def _add_profile(job: _Job, builder: Any, network: Any, config: Any, log: list[str]) -> None:
    """Describe inputs and outputs; where an input has free axes, give the builder their range."""
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    ranges = {tensor.name: _range(job, tensor.name, tuple(tensor.shape)) for tensor in inputs}
    job.tensors = [_spec(t, "input", ranges[t.name]) for t in inputs] + [_spec(t, "output", None) for t in outputs]
    free = {t.name: ranges[t.name] for t in inputs if -1 in tuple(t.shape)}
    if not free:
        return
    profile = _need(builder.create_optimization_profile(), "creating the profile", log)
    for name, (least, best, most) in free.items():
        profile.set_shape(name, least, best, most)
    told = ", ".join(f"'{name}' {' '.join(map(str, shapes))}" for name, shapes in free.items())
    # An impossible profile raises nothing: it is false, or gets the index -1.
    if not profile or config.add_optimization_profile(profile) == -1:
        _fail("setting the profile", [*log, f"error: the optimization profile {told} was refused"])


def _range(job: _Job, name: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """(least, best, most) shapes of an input: the batch from the profile, other free axes from the contract."""
    known, most = job.shapes.get(name, ()), job.profile.max_batch
    sizes: list[int] = []
    for axis, size in enumerate(shape):
        contract = known[axis] if axis < len(known) else None
        problem = ""
        if axis == 0 and size not in (-1, most):
            problem = f"has a fixed batch of {size}; the profile asks for {most}"
        elif axis > 0 and size == -1 and contract is None:
            problem = f"leaves axis {axis} free and its contract gives no size"
        if problem:
            _fail("setting the profile", [f"error: no optimization profile: input '{name}' {problem}"])
        sizes.append(contract if axis > 0 and size == -1 and contract is not None else size)
    batches = (1, job.profile.opt_batch, most)
    return tuple((batch, *sizes[1:]) if shape[:1] == (-1,) else tuple(sizes) for batch in batches)


def _spec(tensor: Any, mode: Literal["input", "output"], shapes: tuple[tuple[int, ...], ...] | None) -> TensorSpec:
    word = str(tensor.dtype).rpartition(".")[2].lower()
    least, best, most = shapes or (None, None, None)
    return TensorSpec(
        name=tensor.name,
        mode=mode,
        dtype=_DTYPES.get(word, word),
        layout="linear",
        shape=tuple(tensor.shape),
        minimum=least,
        optimum=best,
        maximum=most,
    )


def _set_timing_cache(job: _Job, config: Any, log: list[str]) -> Any:
    """The cache of earlier builds, a new one where it does not fit; none on TensorRT for RTX, where it is a no-op."""
    if library.flavour(job.trt) == "rtx":
        return None
    for data in dict.fromkeys((job.timing_cache, b"")):
        cache = config.create_timing_cache(data)
        if cache is not None and config.set_timing_cache(cache, False):
            job.timing_cache = data
            return cache
    _fail("setting the timing cache", log)


def _need(made: Any, stage: str, log: list[str]) -> Any:
    return _fail(stage, log) if made is None else made


def _fail(stage: str, log: Sequence[str]) -> NoReturn:
    cause = classify.build_failure(log)
    if cause is classify.CANCELLED:
        raise BuildCancelled("the build was cancelled", log=tuple(log), cause=cause.code)
    said = classify.telling(log)
    text = f"{stage} failed: {cause.text}" + (f": {said}" if said else "")
    raise PlanError(text, log=tuple(log), fix=cause.fix, cause=cause.code)
