"""The fidelity gate: measure a lowering, and where it fails keep the worst layers in float and try again.

Errors of layers are taken as independent, so that their squares add up: that tells how many layers to promote at
first. The number is doubled while the gate fails and halved back once it passes, within a bounded number of tries. At
least 80 % of the convolution multiply-adds stay lowered; a gate that would need more fails.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memedge.console import status
from memedge.fidelity import (
    Fidelity,
    FidelityFile,
    GateFrames,
    LoweringFidelity,
    MethodResult,
    Promoted,
    Speed,
    encode,
)
from memedge_engines import hardware

from ..errors import ExportError
from .fidelity import (
    LEAST_SPEARMAN,
    MOST_DROP,
    MOST_MEAN_ABS,
    STD_RATIO,
    OtherScores,
    float_faults,
    measure,
)
from .graph import Layer
from .lower_types import Lowered
from .scoring import FloatModel, FrameScores, Model, median_ms, score_frames
from .sensitivity import PROBE_FRAMES, LayerError, Lower, Score, sensitivity

__all__ = [
    "FrameScores", "GateError", "GateResult", "OtherFrames", "fidelity_json", "lowering_fidelity", "method_result",
    "run_gate", "score_frames", "speed_here",
]  # fmt: skip

LEAST_SHARE = 0.8
TRIES = 8
RUNS = 15
# The model of independent errors is rough: it must promise this much less error than the rules allow.
_MARGIN = 0.5
_EPS = 1e-9


@dataclass(frozen=True)
class OtherFrames:
    """Pictures of another kind than the gate's: their float scores ``[N]`` and what scores them by a lowering."""

    source: str
    float_scores: ArrayLike
    score: Callable[[Lowered], NDArray[np.float64]]


@dataclass(frozen=True)
class GateResult:
    """What came of a lowering at the gate.

    Attributes:
        lowered: the lowering that is left, promotions in float.
        fidelity: its scores against float's.
        promoted: layers kept in float, worst first, as they were ranked.
        tries: lowerings that were measured on all pictures.
        mac_share: share of convolution multiply-adds that are lowered.
        passed: fidelity and share; ``reasons`` say what did not hold.
        allowed: it did not pass and is taken all the same.
        first: the lowering without promotions, for timing.
        ranking: the sensitivity that promotions went by; empty when none was needed or none could help.
    """

    lowered: Lowered
    fidelity: Fidelity
    promoted: tuple[Promoted, ...]
    tries: int
    mac_share: float
    passed: bool
    reasons: tuple[str, ...]
    allowed: bool
    first: Lowered
    ranking: tuple[LayerError, ...] = ()


class GateError(ExportError):
    """A lowering does not rank pictures as the float graph does, and promotions did not help.

    Attributes:
        result: the best of what was tried.
    """

    def __init__(self, message: str, result: GateResult, *, fix: str | None = None) -> None:
        super().__init__(message, fix=fix)
        self.result = result


@dataclass(frozen=True)
class _Try:
    """One measured lowering: ``count`` layers of the order promoted."""

    count: int
    lowered: Lowered
    scores: NDArray[np.float64]
    fidelity: Fidelity
    reasons: tuple[str, ...]

    @property
    def merit(self) -> tuple[bool, bool, float, int]:
        """Greater is better: passed, then passed but for the share; of those the fewest promotions, else the best
        ranking."""
        good = self.fidelity.passed
        rho = self.fidelity.spearman
        return (not self.reasons, good, 0.0 if good else -1.0 if rho is None else rho, -self.count)


def run_gate(
    lower: Lower,
    score: Score,
    float_scores: ArrayLike,
    layers: Sequence[Layer],
    *,
    name: str = "cpu",
    human: ArrayLike | None = None,
    other: OtherFrames | None = None,
    small_ok: bool = False,
    allow: bool = False,
    least_share: float | None = LEAST_SHARE,
    tries: int = TRIES,
    probe_frames: int = PROBE_FRAMES,
    seed: int = 0,
) -> GateResult:
    """Bring a lowering through the gate.

    Args:
        lower: makes the lowering with some layers (by name) left in float.
        score: scores the gate's pictures by a lowering; see :class:`FrameScores`.
        float_scores: the float graph's scores of the same pictures, ``[N]``.
        layers: the graph's layers in its order; those that ``lower`` keeps in float anyway may be among them.
        name: of the lowering, for messages.
        human: human scores of the pictures, NaN where there is none; none for an untrained model.
        other: pictures of another kind: reported, never failed.
        small_ok: see :func:`measure`.
        allow: return what does not pass, marked, instead of raising; promotions may then go below ``least_share``.
        least_share: share of convolution multiply-adds that stays lowered; none where that is no rule (fp16).
        tries: most lowerings that are measured on all pictures.

    Raises:
        GateError: no lowering that was tried passes.
    """
    reference = np.asarray(float_scores, np.float64)
    done: list[_Try] = []
    order: list[LayerError] = []

    def attempt(count: int) -> _Try:
        lowered = lower(frozenset(one.layer for one in order[:count]))
        scores = score(lowered)
        found = measure(reference, scores, human, small_ok=small_ok, seed=seed)
        one = _Try(count, lowered, scores, found, (*found.reasons, *_share_faults(lowered.mac_share, least_share)))
        done.append(one)
        status(_told(name, one))
        return one

    first = attempt(0)
    ranking: list[LayerError] = []
    if not first.fidelity.passed and not float_faults(reference, small_ok=small_ok):
        there = set(first.lowered.quantized)
        usable = [layer for layer in layers if layer.name in there]
        ranking = sensitivity(lower, score, reference, usable, probe_frames=probe_frames)
        order += _candidates(ranking, first.lowered, layers, None if allow else least_share)
        if order:
            _search(attempt, first, order, ranking, tries)
    best = max(done, key=lambda one: one.merit)
    promoted = _promoted(order[: best.count], layers, min(probe_frames, len(reference)))
    fidelity = best.fidelity
    if other is not None:
        elsewhere = OtherScores(other.source, other.float_scores, other.score(best.lowered))
        fidelity = measure(reference, best.scores, human, elsewhere, small_ok=small_ok, seed=seed)
    reasons = (*fidelity.reasons, *_share_faults(best.lowered.mac_share, least_share))
    result = GateResult(
        lowered=best.lowered,
        fidelity=fidelity,
        promoted=promoted,
        tries=len(done),
        mac_share=best.lowered.mac_share,
        passed=not reasons,
        reasons=reasons,
        allowed=bool(reasons) and allow,
        first=first.lowered,
        ranking=tuple(ranking),
    )
    if reasons and not allow:
        raise GateError(_failure(name, result, order), result, fix="more and other pictures with --calib, or --allow")
    return result


def _search(
    attempt: Callable[[int], _Try], first: _Try, order: Sequence[LayerError], ranking: Sequence[LayerError], tries: int
) -> None:
    """Promote more until it passes, then fewer until it just passes, within ``tries`` in all."""
    fails, passes = 0, None
    count = _first_guess(first.fidelity, order, ranking)
    for _ in range(tries - 1):
        if attempt(count).fidelity.passed:
            passes = count
        else:
            fails = count
        if passes is None:
            if fails == len(order):
                return
            count = min(len(order), 2 * fails)
        elif passes - fails <= 1:
            return
        else:
            count = (fails + passes) // 2


def _first_guess(fidelity: Fidelity, order: Sequence[LayerError], ranking: Sequence[LayerError]) -> int:
    """The least number of layers whose promotion should leave little enough squared error; at least 1."""
    squares = [one.error**2 for one in ranking]
    allowed = _allowed_part(fidelity) * _MARGIN * sum(square for square in squares if math.isfinite(square))
    promoted: set[str] = set()
    for count, one in enumerate(order, start=1):
        promoted.add(one.layer)
        left = sum(square for other, square in zip(ranking, squares, strict=True) if other.layer not in promoted)
        if left <= allowed:
            return count
    return len(order)


def _allowed_part(fidelity: Fidelity) -> float:
    """The part of the squared error that the rules would allow, 0..1; 1 where nothing is known but that it failed."""
    parts = [1.0]
    if fidelity.spearman is not None and fidelity.spearman < LEAST_SPEARMAN:
        parts.append((1 - LEAST_SPEARMAN) / (1 - fidelity.spearman))
    if fidelity.mean_abs is not None and fidelity.mean_abs > MOST_MEAN_ABS:
        parts.append((MOST_MEAN_ABS / fidelity.mean_abs) ** 2)
    if fidelity.std_ratio is not None and not STD_RATIO[0] <= fidelity.std_ratio <= STD_RATIO[1]:
        parts.append(((STD_RATIO[1] - 1) / abs(fidelity.std_ratio - 1)) ** 2)
    if fidelity.human is not None and fidelity.human.drop > MOST_DROP:
        parts.append((MOST_DROP / fidelity.human.drop) ** 2)
    return min(parts)


def _candidates(
    ranking: Sequence[LayerError], lowered: Lowered, layers: Sequence[Layer], least_share: float | None
) -> list[LayerError]:
    """Layers that do something, worst first; those that would take the share of lowered multiply-adds below
    ``least_share`` are passed over."""
    costs = _mac_shares(layers)
    left = lowered.mac_share
    found = []
    for one in ranking:
        cost = costs.get(one.layer, 0.0)
        if one.error > 0 and (least_share is None or left - cost >= least_share - _EPS):
            found.append(one)
            left -= cost
    return found


def _mac_shares(layers: Sequence[Layer]) -> dict[str, float]:
    """Layer to its share of all convolution multiply-adds; layers of other kinds have none."""
    convolutions = {layer.name: layer.macs for layer in layers if layer.op.startswith("Conv")}
    total = sum(convolutions.values())
    return {name: macs / total for name, macs in convolutions.items()} if total else {}


def _share_faults(share: float, least_share: float | None) -> tuple[str, ...]:
    if least_share is None or share >= least_share - _EPS:
        return ()
    return (f"{100 * share:.1f} % of convolution multiply-adds are int8; expected at least {100 * least_share:g} %",)


def _promoted(chosen: Sequence[LayerError], layers: Sequence[Layer], frames: int) -> tuple[Promoted, ...]:
    costs = _mac_shares(layers)
    found = []
    for one in chosen:
        if not math.isfinite(one.error):
            reason = "lowering it alone makes scores that are not finite"
        elif one.measured:
            reason = f"lowering it alone moves scores by {one.error:.2g} (root mean square of {frames} pictures)"
        else:
            reason = f"its part of what lowering it and its neighbours does to scores is about {one.error:.2g}"
        # Scores lie in 0..1: nothing can move them by more than 1.
        gain = min(one.error, 1.0)
        found.append(Promoted(layer=one.layer, reason=reason, gain=gain, mac_share=costs.get(one.layer, 0.0)))
    return tuple(found)


def _told(name: str, one: _Try) -> str:
    found = one.fidelity
    rho = "none" if found.spearman is None else f"{found.spearman:.4f}"
    mean = "not finite" if found.mean_abs is None else f"{found.mean_abs:.4f}"
    layers = f", {one.count} layers in float" if one.count else ""
    verdict = "passed" if not one.reasons else "failed: " + "; ".join(one.reasons)
    return f"gate {name}{layers}: Spearman {rho}, mean |difference| {mean}: {verdict}"


def _failure(name: str, result: GateResult, order: Sequence[LayerError]) -> str:
    tried = f"; best of {result.tries} tries, with {len(result.promoted)} layers in float" if result.tries > 1 else ""
    worst = ""
    if result.ranking and result.ranking[0].error > 0 and result.ranking[0].layer not in {one.layer for one in order}:
        one = result.ranking[0]
        work = f"{one.macs / 1e6:.1f} M multiply-adds"
        worst = f"; the worst layer, '{one.layer}', stays int8: its {work} are too large a share"
    return f"lowering '{name}' did not pass the fidelity gate: {'; '.join(result.reasons)}{tried}{worst}"


def lowering_fidelity(
    result: GateResult, *, method: str | None = None, methods: Sequence[MethodResult] = (), speed: Speed | None = None
) -> LoweringFidelity:
    """A gate's result as it stands in ``fidelity.json``.

    Args:
        method: calibration method of the range table; ``methods``: what every method gave that was tried.
        speed: see :func:`speed_here`; none for lowerings of devices that are not here.
    """
    return LoweringFidelity(
        fidelity=result.fidelity,
        passed=result.passed,
        allowed=result.allowed,
        reasons=result.reasons,
        mac_share=min(1.0, max(0.0, result.mac_share)),
        tries=result.tries,
        promoted=result.promoted,
        floated={layer: reason for layer, reason in result.lowered.floated.items() if layer not in _names(result)},
        method=method,
        methods=tuple(methods),
        speed=speed,
    )


def _names(result: GateResult) -> set[str]:
    return {one.layer for one in result.promoted}


def method_result(method: str, fidelity: Fidelity) -> MethodResult:
    """What a calibration method gave, as it stands in ``fidelity.json``."""
    return MethodResult(
        method=method,
        spearman=fidelity.spearman,
        mean_abs=fidelity.mean_abs,
        std_ratio=fidelity.std_ratio,
        passed=fidelity.passed,
    )


def speed_here(result: GateResult, graph: bytes, tensor: NDArray[np.float32], threads: int = 0) -> Speed:
    """Median time of one inference of the float graph and the lowering on this machine, in turns, in ONNX Runtime.

    Args:
        graph: the float graph.
        tensor: float32 ``[1, C, h, w]``.

    Raises:
        ExportError: ONNX Runtime refuses a graph.
    """
    models: dict[str, Model] = {"float": FloatModel(graph), "lowered": result.lowered}
    if result.promoted:
        models["unpromoted"] = result.first
    found = median_ms(models, tensor, threads, RUNS)
    return Speed(
        machine=hardware.cpu_model(),
        engine="onnxruntime",
        threads=threads or hardware.usable_cores(),
        runs=RUNS,
        float_ms=found["float"],
        lowered_ms=found["lowered"],
        unpromoted_ms=found.get("unpromoted"),
    )


def fidelity_json(gate: GateFrames, lowerings: Mapping[str, LoweringFidelity]) -> bytes:
    """The bytes of ``fidelity.json``.

    Args:
        gate: the gate's pictures.
        lowerings: by the manifest's names: ``cpu``, ``trt-int8``, ``trt-fp16``.
    """
    return encode(FidelityFile(gate=gate, lowerings=dict(lowerings)))  # type: ignore[arg-type]
