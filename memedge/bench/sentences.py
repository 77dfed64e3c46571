"""Sentences that say what bounds a result, and warnings about the measurement. Pure functions of a report's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..environment import Environment
from .report import Decoding, Machine, Result, Skipped

# A median that moves by more than this from round to round is not one number.
UNSTABLE_ROUNDS = 1.10
# p90 this far above p50: single frames vary, whatever the median says.
UNSTABLE_FRAMES = 1.25
UNSTABLE_CLOCKS = 1.05
# Share of the machine that others may use before it counts as noisy.
NOISY_SHARE = 0.10
STOLEN_SHARE = 0.02
FEW_SAMPLES = 100
# A paced source is kept up with when at least this share of its frames is scored.
KEPT_UP = 0.97

_INT8 = ("int8",)


def mean(result: Result, stage: str) -> float:
    """Mean milliseconds of a stage; 0 where it was not measured."""
    return result.stages[stage].mean if stage in result.stages else 0.0


def bound(result: Result, cores: int, decoding: Decoding | None = None) -> str:
    """What limits the throughput: ``source``, ``decode``, ``preprocess``, ``infer``, ``sinks`` or ``cores``.

    Decoding, the engine (preprocess and inference) and the loop (rolling, sinks) run side by side, so the slowest of
    the three sets the pace; when the throughput stays well below it and all processors are busy, they share too few.
    """
    if result.paced is not None and result.throughput_fps >= KEPT_UP * result.paced.source_fps:
        return "source"
    lanes = {
        "decode": decoding.wall_ms if decoding is not None else 0.0,
        "engine": mean(result, "preprocess") + mean(result, "infer"),
        "sinks": mean(result, "rolling") + mean(result, "sinks"),
    }
    slowest = max(lanes, key=lambda name: lanes[name])
    period = 1e3 / result.throughput_fps if result.throughput_fps else 0.0
    if period > 1.25 * lanes[slowest] and result.cores_busy >= 0.9 * cores:
        return "cores"
    if slowest == "engine":
        return "infer" if mean(result, "infer") >= mean(result, "preprocess") else "preprocess"
    return slowest


def explain(result: Result, cores: int, decoding: Decoding | None = None) -> str:
    """One sentence on what bounds a result."""
    kind = bound(result, cores, decoding)
    named = [f"decoding alone {decoding.wall_ms:.2f}"] if decoding is not None else []
    named += [f"{stage} {mean(result, stage):.2f}" for stage in ("preprocess", "infer") if stage in result.stages]
    rest = mean(result, "queue") + mean(result, "rolling") + mean(result, "sinks")
    if result.paced is None:
        named.append(f"queue, rolling and sinks {rest:.2f}")
    parts = ", ".join(named) + " ms a frame"
    if kind == "source":
        assert result.paced is not None
        busy = (mean(result, "preprocess") + mean(result, "infer")) * result.throughput_fps / 10
        age = result.paced.age
        return (
            f"{result.label}: source-bound: it keeps up with {result.paced.source_fps:.1f} frames a second, the engine "
            f"is busy {busy:.0f} % of the time; frames are {age.p50:.1f} ms old at their reading (p99 {age.p99:.1f})"
        )
    what = {
        "decode": "decode-bound: a faster engine would change nothing",
        "preprocess": "preprocess-bound: making the picture takes longer than scoring it",
        "infer": "inference-bound",
        "sinks": "output-bound: rolling and sinks take longer than decoding and scoring",
        "cores": f"processor-bound: decoding and scoring share {cores} cores",
    }[kind]
    return f"{result.label}: {what} ({parts}; {result.throughput_fps:.1f} frames a second)"


def compare(results: Sequence[Result]) -> list[str]:
    """For each bundle measured in several ways: which is fastest, and by how much."""
    sentences = []
    for bundle in dict.fromkeys(r.bundle for r in results):
        ranked = sorted((r for r in results if r.bundle == bundle), key=lambda r: mean(r, "infer"))
        if len(ranked) < 2 or not mean(ranked[0], "infer"):
            continue
        fastest = ranked[0]
        others = ", ".join(
            f"{r.engine} {r.precision} {mean(r, 'infer') / mean(fastest, 'infer'):.2f}x" for r in ranked[1:]
        )
        sentences.append(
            f"{bundle}: {fastest.engine} {fastest.precision} infers fastest, {mean(fastest, 'infer'):.2f} ms; "
            f"the others take {others}"
        )
    return sentences


def sentences(
    results: Sequence[Result],
    environment: Environment,
    decoding: Decoding | None = None,
    skipped: Sequence[Skipped] = (),
    auto: Mapping[str, str] | None = None,
) -> list[str]:
    """What the numbers say, one sentence each."""
    cores = environment.usable_cores or environment.cores or 1
    said = [explain(result, cores, decoding) for result in results] + compare(results)
    said.extend(f"{bundle}: auto takes {engine} on this machine from now on" for bundle, engine in (auto or {}).items())
    for result in results:
        if result.untrained:
            said.append(f"{result.label}: UNTRAINED: its speed is right, its scores mean nothing")
    said.extend(f"{skip.bundle}: {skip.engine} was not measured: {skip.reason}" for skip in skipped)
    return said


def warnings(results: Sequence[Result], environment: Environment, machine: Machine) -> list[str]:
    """What makes these numbers less than certain, one sentence each."""
    said = _machine_warnings(environment, machine)
    for result in results:
        rounds = result.infer_rounds
        if len(rounds) > 1 and max(rounds) > UNSTABLE_ROUNDS * min(rounds):
            said.append(
                f"{result.label}: unstable: the median inference moved between {min(rounds):.2f} and "
                f"{max(rounds):.2f} ms from round to round (clocks, heat or other work)"
            )
        infer = result.stages.get("infer")
        if infer is not None and infer.p90 > UNSTABLE_FRAMES * infer.p50:
            said.append(f"{result.label}: high variance: inference p90 {infer.p90:.2f} ms, p50 {infer.p50:.2f} ms")
        if result.samples < FEW_SAMPLES:
            said.append(f"{result.label}: {result.samples} samples: p99 is little more than the maximum")
        if result.precision in _INT8 and environment.machine in ("x86_64", "AMD64") and not environment.vnni:
            said.append(f"{result.label}: this processor has no 8-bit dot products (VNNI); int8 gains little here")
        if result.paced is not None and result.paced.within_bound < 0.99:
            said.append(
                f"{result.label}: {100 * (1 - result.paced.within_bound):.0f} % of the readings are older than one "
                f"inference plus one frame interval ({result.paced.bound_ms:.1f} ms)"
            )
    return said


def _machine_warnings(environment: Environment, machine: Machine) -> list[str]:
    said = []
    cores = environment.cores or 1
    if machine.others_busy is not None and machine.others_busy > NOISY_SHARE * cores:
        said.append(f"noisy machine: other processes kept {machine.others_busy:.1f} of {cores} cores busy meanwhile")
    elif machine.others_busy is None and machine.load_before is not None and machine.load_before > 0.3 * cores:
        said.append(f"noisy machine: the load average was {machine.load_before:.1f} on {cores} cores before the start")
    if machine.stolen_share is not None and machine.stolen_share > STOLEN_SHARE:
        said.append(f"noisy machine: the hypervisor took {100 * machine.stolen_share:.0f} % of the processor time")
    ticks = machine.yardstick_ms
    if len(ticks) > 1 and max(ticks) > UNSTABLE_CLOCKS * min(ticks):
        percent = 100 * (max(ticks) / min(ticks) - 1)
        said.append(f"unstable clocks: the same arithmetic took up to {percent:.0f} % longer in some rounds")
    if environment.governor not in (None, "performance"):
        said.append(f"the clock governor is '{environment.governor}', not 'performance': clocks follow the load")
    means = [float(np.mean(c.mhz)) for c in machine.clocks if c.mhz]
    if means and max(means) > UNSTABLE_CLOCKS * min(means):
        said.append(f"unstable clocks: between {min(means):.0f} and {max(means):.0f} MHz at the start of the rounds")
    return said
