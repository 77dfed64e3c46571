"""Calibrate once, lower per back end, pass each lowering through the fidelity gate: everything between a frame model's
float graph and the files that its bundle gains by ``--int8`` and ``--fp16``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from memedge.console import status
from memedge.fidelity import GateFrames, LoweringFidelity, Speed
from memedge.pictures import generate
from memedge_engines.frame import Frame
from memedge_engines.manifest import Calibration, InputStorage, Preprocess
from memedge_engines.manifest import Promoted as PromotedLayer
from memedge_engines.preprocess import Preprocessor

from . import gate
from .collect import collect, state_path
from .frames import CalibrationSet, plan
from .judge import check_graph, judge
from .lower import Layer, Lowered, layers, lower_cpu, lower_trt_fp16, lower_trt_int8
from .options import QuantOptions
from .ranges import RangeTable, hash_frames
from .scoring import FloatModel, FrameScores, PictureTensors

__all__ = ["OTHER_FRAMES", "OTHER_SEED", "QuantOptions", "Quantised", "lowerings_of", "quantise", "told_gate"]

OTHER_FRAMES = 200
# Pictures of another kind than the gate's, and than those that calibration without --calib uses.
OTHER_SEED = 77_001


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
class _FrameModel:
    """A frame model's graph with its ranges by method and the gate's pictures; a :class:`.judge.Subject`."""

    graph: bytes
    tables: dict[str, RangeTable]
    outputs: Sequence[str]
    pictures: PictureTensors
    float_scores: NDArray[np.float64]
    human: NDArray[np.float64] | None
    others: PictureTensors
    other_float: NDArray[np.float64]
    options: QuantOptions

    def lower(self, name: str, method: str, excluded: Collection[str]) -> Lowered:
        """See :class:`.judge.Subject`, as for all other methods."""
        table = self.tables[method]
        if name == "cpu":
            return lower_cpu(self.graph, table, excluded)
        if name == "trt-int8":
            return lower_trt_int8(self.graph, table, excluded, body=self.options.trt_body)
        return lower_trt_fp16(self.graph, table, excluded)

    def layers(self, name: str) -> Sequence[Layer]:
        """All layers with weights."""
        return layers(self.graph)

    def score(self, name: str) -> FrameScores:
        """What scores the pictures by a lowering."""
        return FrameScores(self.pictures, self.options.threads, self.outputs[0], optimise=name == "cpu")

    def other(self, name: str) -> gate.OtherFrames:
        """The pictures of another kind, for a lowering."""
        score = FrameScores(self.others, self.options.threads, self.outputs[0], optimise=name == "cpu")
        return gate.OtherFrames("memedge's picture generator", self.other_float, score)

    def further(self, name: str, lowered: Lowered) -> Iterator[tuple[str, NDArray[np.float64], NDArray[np.float64]]]:
        """The scores of further targets."""
        for output in self.outputs[1:]:
            floats = FrameScores(self.pictures, self.options.threads, output)(FloatModel(self.graph))
            found = FrameScores(self.pictures, self.options.threads, output, optimise=name == "cpu")(lowered)
            yield output, floats, found

    def check(self, name: str, lowered: Lowered, least_share: float) -> None:
        """The linter's rules."""
        check_graph(name, lowered, least_share)

    def speed(self, name: str, result: gate.GateResult) -> Speed | None:
        """Of the CPU's lowering."""
        if name != "cpu":
            return None
        return gate.speed_here(result, self.graph, self.pictures[0:1], self.options.threads)


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
    preprocessor = Preprocessor(contract)
    drawn = [preprocessor.picture(Frame.from_rgb(p)) for p in generate(OTHER_FRAMES, OTHER_SEED + options.seed)]
    tensors, others = PictureTensors(pictures.pictures, contract), PictureTensors(drawn, contract)
    model, threads = FloatModel(graph), options.threads
    subject = _FrameModel(
        graph,
        tables,
        tuple(outputs),
        tensors,
        FrameScores(tensors, threads, outputs[0])(model),
        pictures.human if trained else None,
        others,
        FrameScores(others, threads, outputs[0])(model),
        options,
    )
    found = judge(subject, lowerings_of(precisions), list(tables), options)
    table = tables[found.method]
    data = table.encode()
    digests = [hashlib.sha256(p.tobytes()).hexdigest() for p in pictures.pictures]
    return Quantised(
        models={name: lowered.model for name, lowered in found.lowered.items()},
        inputs={name: lowered.inputs for name, lowered in found.lowered.items()},
        passed=found.passed,
        ranges=data,
        fidelity=gate.fidelity_json(told_gate(chosen, digests), found.results),
        calibration=Calibration(
            method=table.method,
            frames=table.frames,
            source=table.source,
            per_method=found.per_method,
            sha256=hashlib.sha256(data).hexdigest(),
        ),
        promoted=found.promoted,
        results=found.results,
    )


def lowerings_of(precisions: Sequence[str]) -> list[str]:
    """Lowerings besides float, in the order in which they are gated."""
    return [
        *(["cpu", "trt-int8"] if "int8" in precisions else []),
        *(["trt-fp16"] if "fp16" in precisions else []),
    ]


def told_gate(chosen: CalibrationSet, digests: list[str]) -> GateFrames:
    """The gate's pictures as ``fidelity.json`` names them; ``digests``: SHA-256 of each, in hex."""
    return GateFrames(source=chosen.source, frames=len(digests), sha256=hash_frames(digests))


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
    return {method: statistics.table(method) for method in options.methods}
