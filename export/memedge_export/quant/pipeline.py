"""Calibrate once, lower per back end, pass each lowering through the fidelity gate: everything between the float graph
and the files that a bundle gains by ``--int8`` and ``--fp16``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from memedge.console import status
from memedge.errors import UsageError
from memedge.fidelity import GateFrames, LoweringFidelity, MethodResult
from memedge.pictures import generate
from memedge_engines.frame import Frame
from memedge_engines.manifest import Calibration, InputStorage, Preprocess
from memedge_engines.manifest import Promoted as PromotedLayer
from memedge_engines.preprocess import Preprocessor

from ..errors import ExportError
from . import gate
from .calib_select import check_counts
from .collect import collect, state_path
from .fidelity import LEAST_FRAMES, measure
from .frames import COUNT, GATE, CalibrationSet, plan
from .lint import lint
from .lower import Lowered, integer_convs, layers, lower_cpu, lower_trt_fp16, lower_trt_int8
from .ranges import METHODS, RangeTable, hash_frames
from .scoring import FloatModel, FrameScores, PictureTensors

OTHER_FRAMES = 200
# Pictures of another kind than the gate's, and than those that calibration without --calib uses.
_OTHER_SEED = 77_001


@dataclass(frozen=True)
class QuantOptions:
    """How to calibrate and gate.

    Attributes:
        calib: what ``--calib`` says; none: the usual places, else generated pictures.
        frames, gate_frames: how many calibrate, and how many are held out for the gate.
        method: ``auto`` (each is measured, the best is kept), ``minmax``, ``percentile`` or ``entropy``.
        ranges: a range table to use again, instead of calibrating.
        small_gate: a gate of fewer than 200 frames is good enough.
        allow: write what does not pass, marked.
        trt_body: type of what stays float in ``trt-int8``: ``fp16``, or ``fp32`` (Orin's fallback).
    """

    calib: str | None = None
    frames: int = COUNT
    gate_frames: int = GATE
    method: str = "auto"
    ranges: Path | None = None
    small_gate: bool = False
    allow: bool = False
    trt_body: Literal["fp16", "fp32"] = "fp16"
    seed: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        if self.method not in ("auto", *METHODS):
            raise UsageError(f"--calib-method {self.method}; expected one of auto, {', '.join(METHODS)}")
        if self.trt_body not in ("fp16", "fp32"):
            raise UsageError(f"--trt-body {self.trt_body}; expected fp16 or fp32")
        if self.ranges is not None and self.method != "auto":
            raise UsageError("--ranges is a finished table: it cannot go with --calib-method")
        check_counts(self.frames, self.gate_frames)
        if self.gate_frames < LEAST_FRAMES and not self.small_gate:
            raise UsageError(
                f"--gate-frames {self.gate_frames}; expected at least {LEAST_FRAMES}, or --allow-small-gate with it"
            )


@dataclass(frozen=True)
class Quantised:
    """What a bundle gains.

    Attributes:
        models: lowering -> ONNX bytes; ``inputs``: lowering -> how it takes its inputs.
        passed: lowerings that the gate passed; the others were written because ``--allow`` said so.
        ranges, fidelity: bytes of ``ranges.json`` and ``fidelity.json``.
        calibration, promoted: for the manifest.
        results: lowering -> what the gate found, for the summary.
    """

    models: dict[str, bytes]
    inputs: dict[str, dict[str, InputStorage]]
    passed: frozenset[str]
    ranges: bytes
    fidelity: bytes
    calibration: Calibration
    promoted: tuple[PromotedLayer, ...]
    results: dict[str, LoweringFidelity] = field(default_factory=dict)


@dataclass(frozen=True)
class _Gate:
    """The gate's pictures, with float scores, and those of another kind."""

    pictures: PictureTensors
    float_scores: NDArray[np.float64]
    human: NDArray[np.float64] | None
    others: PictureTensors
    other_float: NDArray[np.float64]
    threads: int

    def scores(self, lowering: str) -> FrameScores:
        """What scores the pictures by a lowering."""
        return FrameScores(self.pictures, self.threads, optimise=lowering == "cpu")

    def other(self, lowering: str) -> gate.OtherFrames:
        """The pictures of another kind, for a lowering."""
        score = FrameScores(self.others, self.threads, optimise=lowering == "cpu")
        return gate.OtherFrames("memedge's picture generator", self.other_float, score)


def quantise(
    graph: bytes,
    contract: Preprocess,
    precisions: Sequence[str],
    options: QuantOptions,
    *,
    trained: bool,
    input_name: str = "frames",
    outputs: Sequence[str] = ("score",),
) -> Quantised:
    """Calibrate, lower and gate.

    Args:
        graph: the float graph.
        contract: of its pictures.
        precisions: ``int8`` gives the lowerings ``cpu`` and ``trt-int8``, ``fp16`` gives ``trt-fp16``.
        trained: whether human scores say anything about this model.
        outputs: the graph's scores; the first one chooses method and promotions, every other one must pass, too.

    Raises:
        DataError: too few or damaged pictures, an incomplete data set.
        ExportError: a graph that cannot be calibrated; a lowering that breaks the linter's rules.
        GateError: a lowering that does not rank pictures as the float graph does.
    """
    chosen = plan(options.calib, options.frames, options.gate_frames, options.seed)
    tables = _tables(graph, contract, chosen, options, input_name)
    pictures = chosen.gate.load(contract, input_name)
    gated = _gate_pictures(graph, contract, pictures.pictures, pictures.human if trained else None, options)
    method, table, tried = _best_method(graph, tables, gated, options)
    wanted = [
        *(["cpu", "trt-int8"] if "int8" in precisions else []),
        *(["trt-fp16"] if "fp16" in precisions else []),
    ]
    lowerings = {
        "cpu": partial(lower_cpu, graph, table),
        "trt-int8": partial(lower_trt_int8, graph, table, body=options.trt_body),
        "trt-fp16": partial(lower_trt_fp16, graph, table),
    }
    found_layers = layers(graph)
    models: dict[str, bytes] = {}
    inputs: dict[str, dict[str, InputStorage]] = {}
    results: dict[str, LoweringFidelity] = {}
    promoted: list[PromotedLayer] = []
    for name in wanted:
        result = gate.run_gate(
            lowerings[name],
            gated.scores(name),
            gated.float_scores,
            found_layers,
            name=name,
            human=gated.human,
            other=gated.other(name),
            small_ok=options.small_gate,
            allow=options.allow,
            least_share=None if name == "trt-fp16" else gate.LEAST_SHARE,
            seed=options.seed,
        )
        for output in outputs[1:]:
            result = _further(graph, result, name, output, gated, options)
        _check_form(name, result.lowered, 0.0 if options.allow else gate.LEAST_SHARE)
        speed = gate.speed_here(result, graph, gated.pictures[0:1], options.threads) if name == "cpu" else None
        results[name] = gate.lowering_fidelity(
            result,
            method=None if name == "trt-fp16" else method,
            methods=() if name == "trt-fp16" else tried,
            speed=speed,
        )
        models[name], inputs[name] = result.lowered.model, result.lowered.inputs
        promoted += [PromotedLayer(node=name, layer=p.layer, reason=p.reason) for p in result.promoted]
    digest = hash_frames([hashlib.sha256(p.tobytes()).hexdigest() for p in pictures.pictures])
    told = GateFrames(source=chosen.source, frames=len(pictures), sha256=digest)
    data = table.encode()
    calibration = Calibration(
        method=table.method,
        frames=table.frames,
        source=table.source,
        per_method={one.method: one.spearman for one in tried if one.spearman is not None},
        sha256=hashlib.sha256(data).hexdigest(),
    )
    return Quantised(
        models=models,
        inputs=inputs,
        passed=frozenset(name for name, result in results.items() if result.passed),
        ranges=data,
        fidelity=gate.fidelity_json(told, results),
        calibration=calibration,
        promoted=tuple(promoted),
        results=results,
    )


def _further(
    graph: bytes, result: gate.GateResult, name: str, output: str, gated: _Gate, options: QuantOptions
) -> gate.GateResult:
    """The result, with what a further score's measurement adds. Raises GateError where that fails."""
    floats = FrameScores(gated.pictures, options.threads, output)(FloatModel(graph))
    lowered = FrameScores(gated.pictures, options.threads, output, optimise=name == "cpu")(result.lowered)
    found = measure(floats, lowered, None, small_ok=options.small_gate)
    rho = "none" if found.spearman is None else f"{found.spearman:.4f}"
    status(f"{name}, output '{output}': Spearman {rho} with float")
    if found.passed:
        return result
    reasons = tuple(f"output '{output}': {reason}" for reason in found.reasons)
    failed = replace(result, passed=False, reasons=(*result.reasons, *reasons), allowed=options.allow)
    if not options.allow:
        raise gate.GateError(f"lowering '{name}' fails the fidelity gate: {reasons[0]}", failed, fix="--allow")
    return failed


def _tables(
    graph: bytes, contract: Preprocess, chosen: CalibrationSet, options: QuantOptions, input_name: str
) -> dict[str, RangeTable]:
    """Range tables by method: the given one, or one calibration pass turned into each method's."""
    if options.ranges is not None:
        table = RangeTable.load(options.ranges)
        table.check(graph)
        status(f"ranges of '{options.ranges}' are used again ({table.method}, {table.frames} frames)")
        return {table.method: table}
    statistics = collect(
        graph,
        chosen.calibrate.feeds(contract, input_name),
        source=chosen.source,
        total=len(chosen.calibrate),
        state=state_path(graph, chosen.calibrate.key),
        threads=options.threads,
    )
    methods = METHODS if options.method == "auto" else (options.method,)
    return {method: statistics.table(method) for method in methods}


def _gate_pictures(
    graph: bytes,
    contract: Preprocess,
    pictures: Sequence[NDArray[np.uint8]],
    human: NDArray[np.float64] | None,
    options: QuantOptions,
) -> _Gate:
    preprocessor = Preprocessor(contract)
    others = [preprocessor.picture(Frame.from_rgb(p)) for p in generate(OTHER_FRAMES, _OTHER_SEED + options.seed)]
    tensors, other_tensors = PictureTensors(pictures, contract), PictureTensors(others, contract)
    model = FloatModel(graph)
    return _Gate(
        pictures=tensors,
        float_scores=FrameScores(tensors, options.threads)(model),
        human=human,
        others=other_tensors,
        other_float=FrameScores(other_tensors, options.threads)(model),
        threads=options.threads,
    )


def _best_method(
    graph: bytes, tables: dict[str, RangeTable], gated: _Gate, options: QuantOptions
) -> tuple[str, RangeTable, tuple[MethodResult, ...]]:
    """The method whose ``cpu`` lowering ranks best, before any promotion, with what every method gave.

    Among methods whose Spearman is within .0005 of the best, the smaller mean difference decides.
    """
    tried: list[MethodResult] = []
    for method, table in tables.items():
        lowered = lower_cpu(graph, table)
        found = measure(gated.float_scores, gated.scores("cpu")(lowered), gated.human, small_ok=options.small_gate)
        tried.append(gate.method_result(method, found))
        rho = "none" if found.spearman is None else f"{found.spearman:.5f}"
        mean = "not finite" if found.mean_abs is None else f"{found.mean_abs:.5f}"
        status(f"calibration {method}: Spearman {rho}, mean |difference| {mean}")
    top = max((one.spearman for one in tried if one.spearman is not None), default=None)
    if top is None:
        return tried[0].method, tables[tried[0].method], tuple(tried)
    near = [one for one in tried if one.spearman is not None and one.spearman >= top - 5e-4]
    best = min(near, key=lambda one: float("inf") if one.mean_abs is None else one.mean_abs)
    return best.method, tables[best.method], tuple(tried)


def _check_form(name: str, lowered: Lowered, least_share: float) -> None:
    """The linter's rules, and on the CPU that every lowered convolution runs as an integer kernel here."""
    findings = lint(lowered.model, name, least_share=least_share)  # type: ignore[arg-type]
    if findings:
        more = f" and {len(findings) - 1} more" if len(findings) > 1 else ""
        raise ExportError(f"lowering '{name}' breaks the linter's rule {findings[0]}{more}")
    if name == "cpu":
        integer, _ = integer_convs(lowered.model)
        if integer < len(lowered.quantized):
            raise ExportError(
                f"lowering 'cpu': {integer} of {len(lowered.quantized)} int8 convolutions run as integer kernels in"
                " this ONNX Runtime; expected all of them"
            )
