"""Golden frames through new plans before anything else runs on them: builds are not deterministic.

The runner is the TensorRT back end: ``memedge_engines.backends.tensorrt.open_plan(node, lowering, plan) -> Engine``,
looked up by name when it is needed. Where it is absent, and for TensorRT for RTX, a plan stays unproven and says so.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import golden
from ..backends.base import Engine
from ..bundle import Bundle
from ..errors import EngineError, PlanMismatch
from ..manifest import Node, lowering_of
from . import library
from .sidecar import Difference
from .store import Plan

OpenPlan = Callable[[Node, str, Plan], Engine]
BACKEND = "memedge_engines.backends.tensorrt"


def runner(trt: Any) -> OpenPlan | None:
    """What opens a plan here, or none."""
    if library.flavour(trt) != "full":
        return None
    try:
        module = importlib.import_module(BACKEND)
    except ImportError:
        return None
    found: OpenPlan | None = getattr(module, "open_plan", None)
    return found


def prove(bundle: Bundle, lowering: str, plans: Mapping[str, Plan], open_plan: OpenPlan) -> tuple[Difference, ...]:
    """Run every golden frame through the plans (node name to plan) and measure the targets' differences.

    Raises:
        PlanMismatch: reason ``golden``: past the recorded tolerance, or a plan that does not run.
        BundleError: no golden scores for this lowering.
    """
    frames = golden.read(bundle)
    engines: dict[str, Engine] = {}
    try:
        for name, plan in plans.items():
            engines[name] = open_plan(node := bundle.manifest.node(name), lowering_of(node, lowering), plan)

        def run(node: Node, inputs: dict[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
            return engines[node.name].run(inputs)

        rows = [_targets(bundle, frames, number, lowering, run) for number in range(len(frames.frames))]
    except PlanMismatch:
        raise
    except EngineError as error:
        text = f"the plan does not run its golden frames: {error.message}"
        raise PlanMismatch("golden", text, fix=error.fix) from None
    finally:
        for engine in engines.values():
            engine.close()
    found = golden.check_scores(bundle, frames, lowering, rows)
    bad = [one for one in found if not one.passed]
    if bad:
        told = ", ".join(f"{one.target} differs by {one.largest:.3g} (tolerance {one.tolerance:g})" for one in bad)
        raise PlanMismatch(
            "golden",
            f"the plan's golden scores are not the recorded ones: {told}",
            fix="memedge build --precision fp16, and report the GPU and the TensorRT version",
        )
    return tuple(Difference(target=one.target, largest=one.largest, tolerance=one.tolerance) for one in found)


def _targets(
    bundle: Bundle, frames: golden.GoldenFrames, number: int, lowering: str, run: golden.RunGraph
) -> dict[str, float]:
    """Each target's score of one golden frame, clipped to 0..1 as a Scorer clips it."""
    values = golden.values_of(bundle, frames, number, lowering, run)
    scores = {}
    for target in bundle.manifest.targets:
        array = np.asarray(values[target.source], np.float64).reshape(-1)
        value = float(array[0]) if array.size == 1 else math.nan
        # A comparison with something that is not a number is false: NaN stays NaN and fails.
        scores[target.name] = min(1.0, max(0.0, value)) if math.isfinite(value) else math.nan
    return scores
