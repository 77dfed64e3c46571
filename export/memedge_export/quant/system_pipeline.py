"""Calibrate the graph nodes of a system on what the dataflow gives them, lower each as its card allows, and pass the
system's own scores through the fidelity gate, all lowered nodes in place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memedge.console import status
from memedge.fidelity import LoweringFidelity, Speed
from memedge.pictures import generate
from memedge.titles import Words
from memedge_engines.manifest import PRECISION_OF, Calibration, Node
from memedge_engines.manifest import Promoted as PromotedLayer

from ..errors import ExportError
from ..models.system import System
from ..system_clips import Fitted, Fitter, Timeline, run_calls
from ..system_graphs import NodeGraph
from . import gate
from .calib_callers import CallerExamples
from .calib_clips import ClipStore, pictures_of
from .calib_reading import LEAST_CALIBRATE, digest_of
from .collect import collect, state_path
from .frames import CalibrationSet, plan
from .judge import Judged, check_graph, judge
from .lower import Layer, Lowered
from .options import QuantOptions
from .pipeline import OTHER_FRAMES, OTHER_SEED, lowerings_of, told_gate
from .ranges import RangeTable
from .scoring import open_model
from .system_lowering import NodeRanges, NodeSource, SystemLowered, SystemLowerings
from .system_scores import PrimaryScores, SystemScores

CLIP_SHARE = 4
"""A clip counts as so many frames: 128 clips calibrate where 512 frames would."""
_OTHER_CLIPS = 50


@dataclass(frozen=True)
class QuantisedSystem:
    """What a bundle of several nodes gains.

    Attributes:
        lowered: lowering to the system's graphs.
        passed: lowerings that the gate passed.
        ranges, fidelity: bytes of ``ranges.json`` and ``fidelity.json``.
        calibration, promoted, excluded: for the manifest.
        precisions: what was made in the end.
        results: lowering to what the gate found, for the summary.
    """

    lowered: dict[str, SystemLowered]
    passed: frozenset[str]
    ranges: bytes
    fidelity: bytes
    calibration: Calibration
    promoted: tuple[PromotedLayer, ...]
    excluded: tuple[str, ...]
    precisions: tuple[str, ...]
    results: dict[str, LoweringFidelity]


@dataclass(frozen=True)
class _Subject:
    """A system's lowerings and what scores them; a :class:`.judge.Subject`."""

    lowerings: SystemLowerings
    scores: SystemScores
    floats: NDArray[np.float64]
    human: NDArray[np.float64] | None
    others: SystemScores
    other_floats: NDArray[np.float64]
    targets: Sequence[str]

    @property
    def float_scores(self) -> NDArray[np.float64]:
        """See :class:`.judge.Subject`, as for all other members."""
        return self.floats[:, 0]

    def lower(self, name: str, method: str, excluded: Collection[str]) -> Lowered:
        """All nodes."""
        return self.lowerings.lower(name, method, excluded)

    def layers(self, name: str) -> Sequence[Layer]:
        """Of all nodes that have the lowering."""
        return self.lowerings.layers(name)

    def score(self, name: str) -> PrimaryScores:
        """The system's final score."""
        return self.scores.of(optimise=name == "cpu")

    def other(self, name: str) -> gate.OtherFrames:
        """Generated pictures."""
        return gate.OtherFrames(
            "memedge's picture generator", self.other_floats[:, 0], self.others.of(optimise=name == "cpu")
        )

    def further(self, name: str, lowered: Lowered) -> Iterator[tuple[str, NDArray[np.float64], NDArray[np.float64]]]:
        """The scores of further targets."""
        if len(self.targets) < 2:
            return
        assert isinstance(lowered, SystemLowered)
        found = self.scores.all_targets(lowered, optimise=name == "cpu")
        for column, target in enumerate(self.targets[1:], start=1):
            yield target, self.floats[:, column], found[:, column]

    def check(self, name: str, lowered: Lowered, least_share: float) -> None:
        """The linter's rules for every node's graph; how much is narrow is judged over all of them."""
        assert isinstance(lowered, SystemLowered)
        for node, one in lowered.nodes.items():
            try:
                check_graph(lowered.forms[node], one, 0.0)
            except ExportError as error:
                raise ExportError(f"node '{node}': {error.message}", fix=error.fix) from None
        if name == "trt-fp16":
            # They stand in, as they passed, for nodes without int8.
            self.lowerings.halves.update(lowered.nodes)

    def speed(self, name: str, result: gate.GateResult) -> Speed | None:
        """Not here: ``memedge bench`` tells it for every node."""
        return None


def precisions_of(network: System, wanted: Sequence[str]) -> list[str]:
    """The precisions that can be made, ``fp16`` among them where a node of an int8 bundle stays half; told.

    Raises:
        ExportError: a wanted precision that no node's card allows.
    """
    lowest = {name: graph.lowest for name, graph in network.graphs.items()}
    if "int8" in wanted and "int8" not in lowest.values():
        other = "--fp16" if "fp16" in lowest.values() else "fp32 alone: leave --int8 out"
        raise ExportError(f"no node suits int8: {'; '.join(_reasons(network))}", fix=other)
    if "fp16" in wanted and not {"int8", "fp16"} & set(lowest.values()):
        raise ExportError(f"no node suits fp16: {'; '.join(_reasons(network))}", fix="fp32 alone: leave --fp16 out")
    more = set(wanted)
    if "int8" in wanted and "fp16" in lowest.values() and "fp16" not in wanted:
        halves = ", ".join(name for name, low in lowest.items() if low == "fp16")
        status(f"{halves} cannot be int8: half precision is made, too, for TensorRT")
        more.add("fp16")
    return [name for name in ("fp32", "fp16", "int8") if name in more]


def _reasons(network: System) -> list[str]:
    return [f"{n}: {g.reason or 'its card says so'}" for n, g in network.graphs.items() if g.lowest != "int8"]


def quantise_system(
    network: System,
    graphs: Mapping[str, NodeGraph],
    precisions: Sequence[str],
    options: QuantOptions,
    *,
    trained: bool,
    words: Words | None = None,
) -> QuantisedSystem:
    """Calibrate, lower and gate.

    Args:
        graphs: graph node to its float graph.
        precisions: as :func:`precisions_of` gave them.
        trained: whether human scores say anything about this system.
        words: what titles are made of, for a system that reads them.

    Raises:
        DataError: too few or damaged pictures, an incomplete data set.
        ExportError: a graph that cannot be calibrated; a lowering that breaks the linter's rules.
        GateError: a lowering that does not rank pictures as the float graphs do.
    """
    timeline = Timeline.of(network.dataflow)
    count = options.frames
    if timeline.moves:
        count = max(LEAST_CALIBRATE, options.frames // CLIP_SHARE)
    chosen = plan(options.calib, count, options.gate_frames, options.seed)
    floats = {name: graph.exported.data for name, graph in graphs.items()}
    callers = CallerExamples(network.dataflow, words)
    sources = _sources(network, graphs, floats, timeline, chosen, options, callers)
    fitter = Fitter(timeline)
    human: list[float | None] = []
    digests: list[str] = []

    def gate_clips() -> Iterator[Fitted]:
        for item, clip in chosen.gate.clips(fitter):
            human.append(item.score)
            digests.append(digest_of(pictures_of(clip)).hex())
            yield clip

    drawn = generate(_OTHER_CLIPS if timeline.moves else OTHER_FRAMES, OTHER_SEED + options.seed)
    other_clips = (fitter.still(picture, number) for number, picture in enumerate(drawn))
    store, others = ClipStore(gate_clips()), ClipStore(other_clips)
    try:
        scores = SystemScores(timeline, floats, store, options.threads, callers)
        elsewhere = SystemScores(timeline, floats, others, options.threads, callers)
        known = trained and all(score is not None for score in human)
        lowerings = SystemLowerings(sources, options.trt_body)
        subject = _Subject(
            lowerings,
            scores,
            scores.float_scores(),
            np.array(human, np.float64) if known else None,
            elsewhere,
            elsewhere.float_scores(),
            [target.name for target in network.system_targets],
        )
        methods = _methods(sources, precisions)
        order, refused = _possible(lowerings, precisions, methods[0], options)
        found = judge(subject, order, methods, options)
    finally:
        store.close()
        others.close()
    return _result(network, chosen, sources, found, refused, digests)


def _possible(
    lowerings: SystemLowerings, precisions: Sequence[str], method: str, options: QuantOptions
) -> tuple[list[str], list[str]]:
    """Lowerings to make, half precision first (it stands in for nodes without int8), and why others are not made.

    An int8 lowering whose form leaves out too much of the work is none; half precision takes its place on TensorRT.

    Raises:
        ExportError: int8 was wanted, and neither form is one.
    """
    order, refused = lowerings_of(precisions), []
    for name in [name for name in order if name != "trt-fp16" and not options.allow]:
        found = lowerings.lower(name, method, frozenset())
        if found.mac_share < gate.LEAST_SHARE:
            left = [one for one in lowerings.layers(name) if one.name in found.floated and one.op.startswith("Conv")]
            worst = max(left, key=lambda one: one.macs)
            share = f"{100 * found.mac_share:.0f} % of the convolution multiply-adds"
            refused.append(f"{name}: int8 would hold {share}; {worst.name}: {found.floated[worst.name]}")
            status(f"no lowering {refused[-1]}")
            order.remove(name)
            if name == "trt-int8" and "trt-fp16" not in order:
                order.append("trt-fp16")
    lowerings.half_made = "trt-fp16" in order
    if "int8" in precisions and not {"cpu", "trt-int8"} & set(order):
        raise ExportError(f"int8 does not suit this system: {'; '.join(refused)}", fix="--fp16")
    return sorted(order, key=lambda name: name != "trt-fp16"), refused


def _methods(sources: Mapping[str, NodeSource], precisions: Sequence[str]) -> list[str]:
    """Methods to compare; half precision needs magnitudes only, which every method knows."""
    methods = list(next(source.tables for source in sources.values() if source.tables))
    return methods if "int8" in precisions else methods[:1]


def _sources(
    network: System,
    graphs: Mapping[str, NodeGraph],
    floats: Mapping[str, bytes],
    timeline: Timeline,
    chosen: CalibrationSet,
    options: QuantOptions,
    callers: CallerExamples,
) -> dict[str, NodeSource]:
    """What each node's lowerings are made of, calibrated where there will be some."""
    given: Mapping[str, RangeTable] = {}
    if options.ranges is not None:
        given = _given_ranges(options)
    made = {}
    for name, graph in network.graphs.items():
        parts = graphs[name].exported.parts
        kept = frozenset(
            layer for layer, part in parts.items() if any(f".{f}." in f".{part}." for f in graph.float_layers)
        )
        source = NodeSource(floats[name], graph.lowest, kept)
        if graph.lowest != "fp32":
            source = replace(source, tables=_tables(name, floats, timeline, chosen, options, given, callers))
        made[name] = source
    return made


def _given_ranges(options: QuantOptions) -> Mapping[str, RangeTable]:
    assert options.ranges is not None
    file = options.ranges / "ranges.json" if options.ranges.is_dir() else options.ranges
    try:
        return NodeRanges.decode(file.read_bytes(), str(file)).nodes
    except OSError as error:
        raise ExportError(f"{file}: cannot be read: {error.strerror or error}; expected ranges.json") from None


def _tables(
    node: str,
    floats: Mapping[str, bytes],
    timeline: Timeline,
    chosen: CalibrationSet,
    options: QuantOptions,
    given: Mapping[str, RangeTable],
    callers: CallerExamples,
) -> dict[str, RangeTable]:
    """Range tables of one node by method."""
    if given:
        if node not in given:
            raise ExportError(f"--ranges has no node '{node}'; it has {', '.join(given)}", fix="leave --ranges out")
        given[node].check(floats[node])
        return {given[node].method: given[node]}
    status(f"node {node}:")
    feeds = NodeFeeds(node, floats, timeline, chosen, options.threads, callers)
    statistics = collect(
        floats[node],
        feeds,
        source=chosen.source,
        total=len(feeds),
        state=state_path(floats[node], chosen.calibrate.key),
        threads=options.threads,
    )
    return {method: statistics.table(method) for method in options.methods}


class NodeFeeds(Iterable[Mapping[str, NDArray[np.float32]]]):
    """What arrives at one graph node over the calibration clips: inputs with a batch of one, for each of its calls.

    May be iterated again. Nodes before it run in float.
    """

    def __init__(
        self,
        node: str,
        floats: Mapping[str, bytes],
        timeline: Timeline,
        chosen: CalibrationSet,
        threads: int = 0,
        callers: CallerExamples | None = None,
    ) -> None:
        self._node, self._floats, self._chosen, self._threads = node, floats, chosen, threads
        self._callers = callers or CallerExamples(timeline.manifest)
        self._part = timeline.until(node)
        self._calls = sum(call.node == node for call in self._part.calls)

    def __len__(self) -> int:
        return self._calls * len(self._chosen.calibrate)

    def __iter__(self) -> Iterator[Mapping[str, NDArray[np.float32]]]:
        before = {call.node for call in self._part.calls} & self._floats.keys()
        sessions: dict[str, Any] = {
            name: open_model(self._floats[name], self._threads) for name in before - {self._node}
        }
        for row, clip in enumerate(self._clips()):
            arrived: list[Mapping[str, NDArray[np.float32]]] = []

            def run(node: Node, inputs: dict[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
                names = [output.name for output in node.outputs]
                if node.name not in sessions:
                    arrived.append(inputs)  # noqa: B023 - called before the next clip
                    return {name: np.zeros((1, 1), np.float32) for name in names}
                return dict(zip(names, sessions[node.name].run(names, inputs), strict=True))

            run_calls(self._part, [clip], run, callers=[self._callers.of(row)])
            yield from arrived

    def _clips(self) -> Iterator[Fitted]:
        """Clips to calibrate on; empty ones for a node that looks at no picture."""
        if not self._part.times_s:
            return iter([{}] * len(self._chosen.calibrate))
        return (clip for _, clip in self._chosen.calibrate.clips(Fitter(self._part)))


def _result(
    network: System,
    chosen: CalibrationSet,
    sources: Mapping[str, NodeSource],
    found: Judged,
    refused: Sequence[str],
    digests: list[str],
) -> QuantisedSystem:
    tables = {name: source.tables[found.method] for name, source in sources.items() if source.tables}
    data = NodeRanges(nodes=tables).encode()
    first = next(iter(tables.values()))
    excluded = [f"{node} ({graph.lowest}): {graph.reason}" for node, graph in network.graphs.items()
                if graph.lowest != "int8"]  # fmt: skip
    precisions = {PRECISION_OF[name] for name in found.lowered}
    lowered = {name: one for name, one in found.lowered.items() if isinstance(one, SystemLowered)}
    return QuantisedSystem(
        lowered=lowered,
        passed=found.passed,
        ranges=data,
        fidelity=gate.fidelity_json(told_gate(chosen, digests), found.results),
        calibration=Calibration(
            method=found.method,
            frames=first.frames,
            source=first.source,
            per_method=found.per_method,
            sha256=hashlib.sha256(data).hexdigest(),
        ),
        promoted=found.promoted,
        excluded=(*excluded, *refused) if refused or "int8" in precisions else (),
        precisions=tuple(sorted(precisions)),
        results=found.results,
    )
