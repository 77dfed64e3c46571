"""A bundle's plans from start to finish: reuse or build, measure, prove on golden frames, store."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from .. import onnx_file
from ..backends.base import contract_shape
from ..bundle import Bundle
from ..errors import BuildCancelled, EngineError, PlanError, PlanMismatch, PlanMissing
from ..manifest import Node, lowering_of
from . import LOWERINGS, builder, inspection, library, proof, sidecar, store
from .machine import Machine
from .messages import Finished, Request
from .profile import Profile
from .store import Plan

ATTEMPTS = 3
# Of a node's share of the progress bar; the rest is for loading it and for golden frames.
_BUILDING = 0.9
_EVERY_S = 0.1
Tell = Callable[[float, str, str], None]


@dataclass(frozen=True)
class _Work:
    """What stays the same for all nodes of one request."""

    trt: Any
    bundle: Bundle
    lowering: str
    profile: Profile
    machine: Machine
    tell: Tell
    cancelled: Callable[[], bool]


def assemble(request: Request, trt: Any, tell: Tell, cancelled: Callable[[], bool]) -> Finished:
    """Make sure that every graph node of the request has a stored, proven plan.

    Args:
        trt: the TensorRT module.
        tell: told (fraction of the whole, what is being done, node).
        cancelled: asked all the time; true ends the work.

    Raises:
        BundleError: a damaged bundle.
        PlanError, BuildCancelled: no plan could be built.
        PlanMismatch: reason ``golden``: three builds in a row gave other scores than recorded.
    """
    began = time.monotonic()
    bundle = Bundle.open(request.bundle)
    check_lowering(bundle, request.lowering)
    machine = request.machine or Machine.here(trt)
    store.check_writable()
    work = _Work(trt, bundle, request.lowering, request.profile, machine, tell, cancelled)

    def waiting() -> None:
        _stop_if(cancelled)
        tell(0.0, "another process builds this plan; waiting for it", "")

    with store.lock(bundle, request.lowering, machine, waiting):
        open_plan = proof.runner(trt)
        kept = {} if request.force else _kept(work, unproven=open_plan is None)
        missing = [node for node in _graphs(bundle) if node.name not in kept]
        made = _make(work, missing, kept, open_plan) if missing else {}
        for node in missing:
            plan = made[node.name]
            store.write(bundle, node, plan.data, plan.sidecar)
    told = [(n.name, str((made.get(n.name) or kept[n.name]).path), n.name in kept) for n in _graphs(bundle)]
    tell(1.0, "done", "")
    return Finished(told, time.monotonic() - began)


def check_lowering(bundle: Bundle, lowering: str) -> None:
    """Raise EngineError for a lowering that becomes no plan, or that nothing could be checked against."""
    if lowering not in LOWERINGS:
        raise EngineError(f"TensorRT does not run lowering '{lowering}'; it runs {', '.join(LOWERINGS)}")
    name = bundle.manifest.name
    if lowering not in bundle.lowerings():
        there = ", ".join(one for one in LOWERINGS if one in bundle.lowerings())
        raise EngineError(f"bundle '{name}' has no lowering '{lowering}'; TensorRT could run {there}")
    if lowering not in bundle.manifest.golden.tolerance:
        raise EngineError(
            f"bundle '{name}' records no golden scores for '{lowering}', so a plan could not be checked",
            fix="memedge export --int8 --fp16",
        )


def _graphs(bundle: Bundle) -> list[Node]:
    return [node for node in bundle.manifest.nodes if node.kind == "graph"]


def _kept(work: _Work, *, unproven: bool) -> dict[str, Plan]:
    """Stored plans that fit."""
    found = {}
    for node in _graphs(work.bundle):
        try:
            lowering = lowering_of(node, work.lowering)
            plan = store.read(work.bundle, node, lowering, work.profile, work.machine, unproven=unproven)
        except (PlanMissing, PlanMismatch):
            continue
        found[node.name] = plan
    return found


def _make(work: _Work, missing: list[Node], kept: dict[str, Plan], open_plan: proof.OpenPlan | None) -> dict[str, Plan]:
    """Build the missing plans until together with the kept ones they pass the golden frames."""
    for attempt in range(1, ATTEMPTS + 1):
        # Another try with the same measurements would choose the same kernels.
        cache = store.timing_cache(work.machine) if attempt == 1 else b""
        made: dict[str, Plan] = {}
        for number, node in enumerate(missing):
            made[node.name], cache = _one(work, node, number, len(missing), cache, attempt)
        store.keep_timing_cache(work.machine, cache)
        if open_plan is None:
            return made
        work.tell(0.99, "golden frames", "")
        try:
            measured = proof.prove(work.bundle, work.lowering, {**kept, **made}, open_plan)
        except PlanMismatch as error:
            if attempt == ATTEMPTS or error.reason != "golden":
                raise
            work.tell(0.0, f"{error.message}; building again ({attempt + 1} of {ATTEMPTS})", "")
            continue
        return {
            name: Plan(p.path, p.data, msgspec.structs.replace(p.sidecar, golden=measured)) for name, p in made.items()
        }
    raise PlanError("no build was tried")  # not reached: the last attempt returns or raises


def _one(work: _Work, node: Node, number: int, count: int, cache: bytes, attempt: int) -> tuple[Plan, bytes]:
    lowering = lowering_of(node, work.lowering)
    entry = node.files[lowering]  # type: ignore[index]
    shapes = {item.name: contract_shape(item) or () for item in node.inputs}

    last = 0.0

    def stage(fraction: float, text: str) -> None:
        work.tell((number + fraction * _BUILDING) / count, text, node.name)

    def progress(fraction: float, text: str) -> None:
        # The builder calls thousands of times; nobody reads more than ten lines a second.
        nonlocal last
        now = time.monotonic()
        if now - last >= _EVERY_S:
            last = now
            stage(fraction, text)

    _stop_if(work.cancelled)
    stage(0.0, "reading the graph")
    model = onnx_file.graph_bytes(work.bundle, entry)
    built = builder.build(
        model,
        lowering,
        work.profile,
        work.machine,
        trt=work.trt,
        shapes=shapes,
        timing_cache=cache,
        progress=progress,
        cancelled=work.cancelled,
    )
    stage(1.0, "counting layers")
    layers = None
    if library.flavour(work.trt) == "full":
        layers = inspection.inspect_plan(work.trt, library.logger(work.trt), built.plan)
    record = _record(work, node, built, layers, attempt)
    path = store.plan_path(work.bundle, node, lowering, work.profile, work.machine)
    return Plan(path, built.plan, record), built.timing_cache or cache


def _record(
    work: _Work, node: Node, built: builder.Built, layers: sidecar.Layers | None, attempt: int
) -> sidecar.SideCar:
    manifest = work.bundle.manifest
    lowering = lowering_of(node, work.lowering)
    entry = node.files[lowering]  # type: ignore[index]
    quantized = lowering == "trt-int8"
    ranges = manifest.files.get("ranges")
    scales = {name: storage.scale for name, storage in entry.inputs.items()}
    return sidecar.SideCar(
        schema=sidecar.SCHEMA_VERSION,
        plan_sha256=hashlib.sha256(built.plan).hexdigest(),
        plan_bytes=len(built.plan),
        header=sidecar.read_header(built.plan),
        machine=work.machine,
        profile=work.profile,
        source=sidecar.Source(
            bundle=work.bundle.hash,
            bundle_name=manifest.name,
            node=node.name,
            lowering=lowering,  # type: ignore[arg-type]
            file=entry.file,
            onnx_sha256=entry.sha256,
            ranges_sha256=ranges.sha256 if quantized and ranges is not None else None,
            calibration=manifest.provenance.calibration if quantized else None,
        ),
        options=built.options,
        tensors=tuple(msgspec.structs.replace(t, scale=scales.get(t.name)) for t in built.tensors),
        preprocess={item.name: item.preprocess for item in node.inputs if item.preprocess is not None},
        layers=layers,
        attempt=attempt,
        seconds=round(built.seconds, 3),
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        tool=f"memedge {_version()}",
    )


def _version() -> str:
    try:
        return importlib.metadata.version("memedge")
    except importlib.metadata.PackageNotFoundError:
        return "from source"


def _stop_if(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise BuildCancelled("the build was cancelled", cause="cancelled")
