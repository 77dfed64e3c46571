"""From range tables to lowerings that passed: the best calibration method, then the gate for each lowering.

What is lowered, a frame model's graph or all graphs of a system, is a :class:`Subject`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from memedge.console import status
from memedge.fidelity import LoweringFidelity, MethodResult, Speed
from memedge_engines.manifest import Promoted as PromotedLayer

from ..errors import ExportError
from . import gate
from .fidelity import measure
from .graph import Layer
from .lint import lint
from .lower_kernels import integer_convs
from .lower_types import Lowered
from .options import QuantOptions
from .sensitivity import Score


class Subject(Protocol):
    """What is lowered, with the pictures that judge it."""

    @property
    def float_scores(self) -> NDArray[np.float64]:
        """The float graphs' primary score of every gate picture, ``[N]``."""
        ...

    @property
    def human(self) -> NDArray[np.float64] | None:
        """Human scores of the gate's pictures, or none."""
        ...

    def lower(self, name: str, method: str, excluded: Collection[str]) -> Lowered:
        """The lowering ``name`` by one method's ranges, some layers left in float."""
        ...

    def layers(self, name: str) -> Sequence[Layer]:
        """Layers that the lowering may narrow, in order."""
        ...

    def score(self, name: str) -> Score:
        """What scores the gate's pictures by a lowering."""
        ...

    def other(self, name: str) -> gate.OtherFrames:
        """Pictures of another kind."""
        ...

    def further(self, name: str, lowered: Lowered) -> Iterator[tuple[str, NDArray[np.float64], NDArray[np.float64]]]:
        """Every other score: what it is, the float graphs' and the lowering's, ``[N]`` each."""
        ...

    def check(self, name: str, lowered: Lowered, least_share: float) -> None:
        """Raise ExportError for a lowering of the wrong form."""
        ...

    def speed(self, name: str, result: gate.GateResult) -> Speed | None:
        """How fast it is here, where that can be told."""
        ...


@dataclass(frozen=True)
class Judged:
    """What came of it.

    Attributes:
        method: the best one; ``tried``: what each gave.
        lowered: lowering name to the graphs that are left.
        results: as they stand in ``fidelity.json``.
        promoted: for the manifest.
    """

    method: str
    tried: tuple[MethodResult, ...]
    lowered: dict[str, Lowered] = field(default_factory=dict)
    results: dict[str, LoweringFidelity] = field(default_factory=dict)
    promoted: tuple[PromotedLayer, ...] = ()

    @property
    def passed(self) -> frozenset[str]:
        """Lowerings that the gate passed."""
        return frozenset(name for name, result in self.results.items() if result.passed)

    @property
    def per_method(self) -> dict[str, float]:
        """Spearman with float by method, where there is one."""
        return {one.method: one.spearman for one in self.tried if one.spearman is not None}


def judge(subject: Subject, wanted: Sequence[str], methods: Sequence[str], options: QuantOptions) -> Judged:
    """Choose the method and bring every wanted lowering through the gate, in the order given.

    Raises:
        GateError: a lowering that does not rank pictures as the float graphs do.
        ExportError: a lowering of the wrong form.
    """
    method, tried = best_method(subject, methods, options)
    found = Judged(method, tried)
    promoted: list[PromotedLayer] = []
    for name in wanted:
        half = name == "trt-fp16"
        result = gate.run_gate(
            partial(subject.lower, name, method),
            subject.score(name),
            subject.float_scores,
            subject.layers(name),
            name=name,
            human=subject.human,
            other=subject.other(name),
            small_ok=options.small_gate,
            allow=options.allow,
            least_share=None if half else gate.LEAST_SHARE,
            seed=options.seed,
        )
        for output, floats, lowered in subject.further(name, result.lowered):
            result = _with_output(result, name, output, floats, lowered, options)
        subject.check(name, result.lowered, 0.0 if options.allow else gate.LEAST_SHARE)
        found.lowered[name] = result.lowered
        found.results[name] = gate.lowering_fidelity(
            result,
            method=None if half else method,
            methods=() if half else tried,
            speed=subject.speed(name, result),
        )
        promoted += [PromotedLayer(node=name, layer=p.layer, reason=p.reason) for p in result.promoted]
    return replace(found, promoted=tuple(promoted))


def best_method(
    subject: Subject, methods: Sequence[str], options: QuantOptions
) -> tuple[str, tuple[MethodResult, ...]]:
    """The method whose ``cpu`` lowering ranks best, before any promotion, with what every method gave.

    Among methods whose Spearman is within .0005 of the best, the smaller mean difference decides.
    """
    tried: list[MethodResult] = []
    for method in methods:
        lowered = subject.lower("cpu", method, frozenset())
        found = measure(subject.float_scores, subject.score("cpu")(lowered), subject.human, small_ok=options.small_gate)
        tried.append(gate.method_result(method, found))
        rho = "none" if found.spearman is None else f"{found.spearman:.5f}"
        mean = "not finite" if found.mean_abs is None else f"{found.mean_abs:.5f}"
        status(f"calibration {method}: Spearman {rho}, mean |difference| {mean}")
    top = max((one.spearman for one in tried if one.spearman is not None), default=None)
    if top is None:
        return tried[0].method, tuple(tried)
    near = [one for one in tried if one.spearman is not None and one.spearman >= top - 5e-4]
    best = min(near, key=lambda one: float("inf") if one.mean_abs is None else one.mean_abs)
    return best.method, tuple(tried)


def _with_output(
    result: gate.GateResult,
    name: str,
    output: str,
    floats: NDArray[np.float64],
    lowered: NDArray[np.float64],
    options: QuantOptions,
) -> gate.GateResult:
    """The result, with what a further score's measurement adds. Raises GateError where that fails."""
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


def check_graph(name: str, lowered: Lowered, least_share: float) -> None:
    """The linter's rules for one graph, and on the CPU that every lowered convolution runs as an integer kernel here.

    Raises:
        ExportError: a broken rule.
    """
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
