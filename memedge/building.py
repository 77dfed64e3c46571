"""``memedge build``: a bundle's TensorRT plans, built in a child process and kept in the user's cache."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from memedge_engines.bundle import Bundle
from memedge_engines.manifest import PRECISION_OF
from memedge_engines.plans import LOWERINGS
from memedge_engines.plans.assembly import check_lowering
from memedge_engines.plans.machine import Machine
from memedge_engines.plans.process import BuildProcess, BuildResult, BuiltPlan
from memedge_engines.plans.profile import Profile

from .console import Progress
from .errors import BuildCancelled, EngineError

PERCENT = 100
_STEP_S = 0.05
_MEGABYTE = 1e6


@dataclass(frozen=True)
class BuildReport:
    """Plans of one lowering that are ready to run, one for each graph node."""

    bundle: str
    hash: str
    result: BuildResult

    @property
    def precision(self) -> str:
        """``int8``, ``fp16`` or ``fp32``."""
        return PRECISION_OF[self.result.lowering]

    def lines(self) -> list[str]:
        """Whole lines for people."""
        return [line for plan in self.result.plans for line in self._plan_lines(plan)]

    def _plan_lines(self, plan: BuiltPlan) -> list[str]:
        record = plan.sidecar
        size = f"{record.plan_bytes / _MEGABYTE:.1f} MB"
        done = f"kept (built {record.created})" if plan.reused else f"built in {record.seconds:.1f} s"
        lines = [
            f"{self.bundle} node {plan.node}: {PRECISION_OF[record.source.lowering]}, {size}, {done}",
            f"  plan: {plan.path}",
            f"  for: {record.machine.gpu} (sm {record.machine.sm}), TensorRT {record.machine.tensorrt}, "
            f"batch 1 to {record.profile.max_batch}",
        ]
        if record.layers is not None:
            n = record.layers
            lines.append(
                f"  layers: {n.total}: {n.int8} int8, {n.fp16} fp16, {n.fp32} fp32, {n.moves} reformats and copies, "
                f"{n.other} other"
            )
        else:
            lines.append("  layers: not counted (the plan could not be inspected here)")
        if record.golden is None:
            lines.append("  golden frames: not run (no engine here runs this plan)")
        for one in record.golden or ():
            lines.append(f"  golden frames: {one.target} differs by {one.largest:.2g} (tolerance {one.tolerance:g})")
        if record.options.typing == "weak":
            lines.append(f"  weakly typed, since strong typing failed: {record.options.fallback}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """The same as plain data; ``record`` is the plan's side-car."""
        import msgspec

        return {
            "bundle": self.bundle,
            "hash": self.hash,
            "lowering": self.result.lowering,
            "precision": self.precision,
            "seconds": round(self.result.seconds, 3),
            "plans": [
                {
                    "node": plan.node,
                    "path": str(plan.path),
                    "bytes": plan.sidecar.plan_bytes,
                    "seconds": plan.sidecar.seconds,
                    "reused": plan.reused,
                    "record": msgspec.to_builtins(plan.sidecar),
                }
                for plan in self.result.plans
            ],
        }


def lowering_of(bundle: Bundle, precision: str = "auto") -> str:
    """The lowering that becomes a plan: for ``auto`` int8 where it passed the fidelity gate, then fp16, then fp32.

    Raises:
        UnknownName: no such precision.
        EngineError: the bundle has no such lowering, or records no golden scores for it.
    """
    from memedge_engines.choice import check_precision

    check_precision(precision)
    if precision != "auto":
        lowering = next(low for low in LOWERINGS if PRECISION_OF[low] == precision)
        check_lowering(bundle, lowering)
        return lowering
    passed = bundle.manifest.golden.tolerance
    found = next((low for low in LOWERINGS if low in bundle.lowerings() and low in passed), None)
    if found is None:
        raise EngineError(f"bundle '{bundle.manifest.name}' has no lowering that passed the fidelity gate")
    return found


def build(
    bundle: Bundle,
    precision: str = "auto",
    profile: Profile | None = None,
    progress: Progress | None = None,
    *,
    force: bool = False,
    machine: Machine | None = None,
    module: str = "tensorrt",
    cancelled: Callable[[], bool] = lambda: False,
) -> BuildReport:
    """Build and keep the plans of a bundle; a KeyboardInterrupt stops the child and is raised again.

    Args:
        progress: a tracker with a total of 100 (per cent).
        force: build even where fitting plans are kept.
        machine, module: as of :class:`memedge_engines.plans.process.BuildProcess`.
        cancelled: asked all the time; true stops the child.

    Raises:
        BuildCancelled: it was stopped.
        EngineError: no such lowering; no driver, GPU or TensorRT; the build failed (PlanError, with cause and fix).
        BundleError: a damaged bundle.
    """
    lowering = lowering_of(bundle, precision)
    with BuildProcess(os.fspath(bundle.path), lowering, profile, machine, force=force, module=module) as process:
        process.start()
        while not process.done:
            if cancelled():
                raise BuildCancelled("the build was cancelled", cause="cancelled")
            for event in process.poll():
                if progress is not None:
                    progress.advance(int(event.fraction * PERCENT) - progress.done, _note(event.node, event.text))
            time.sleep(_STEP_S)
        return BuildReport(bundle.manifest.name, bundle.hash, process.result())


def _note(node: str, text: str) -> str:
    return f"{node}: {text}" if node else text
