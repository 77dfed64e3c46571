"""Which layers of a lowering move the scores: one layer lowered at a time, everything else in float.

The other way round, everything lowered but one layer, is cheaper a run (resnet101, 32 pictures, 2 cores: 2.3 s instead
of 4.4 s), but ranks badly when two layers each ruin the scores alone: taking either one out changes nothing. So layers
are lowered alone. To stay as cheap, neighbours are lowered together first, and only the groups that matter are taken
apart, at most half of them: for resnet101 21 to 61 runs instead of 104.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memedge.console import Progress, progress

from .graph import Layer
from .lower_types import Lowered

PROBE_FRAMES = 32
# Fewer layers than this are lowered one by one at once.
_UNGROUPED = 12
# Groups are taken apart, worst first, until they hold this share of the squared error, half of them at most.
_SHARE = 0.98


# Layers to leave in float -> the lowering.
Lower = Callable[[frozenset[str]], Lowered]


class Score(Protocol):
    """Scores of the gate's pictures, or of the rows given, float64 ``[N]``; ``FrameScores`` is one."""

    def __call__(self, lowered: Lowered, rows: NDArray[np.intp] | None = None) -> NDArray[np.float64]:
        """Scores of all pictures, or of those with the numbers ``rows``."""
        ...


@dataclass(frozen=True)
class LayerError:
    """What lowering one layer does to the scores.

    Attributes:
        error: root mean square of the difference from the float scores; infinite when scores are not finite.
        measured: whether the layer was lowered alone; else the figure is its part of its group's.
    """

    layer: str
    error: float
    macs: int
    measured: bool = True


def sensitivity(
    lower: Lower,
    score: Score,
    float_scores: ArrayLike,
    layers: Sequence[Layer],
    *,
    probe_frames: int = PROBE_FRAMES,
) -> list[LayerError]:
    """The layers with what each does to the scores, worst first; shows its progress.

    Args:
        lower: makes the lowering with some layers left in float.
        score: scores pictures.
        float_scores: of all pictures, ``[N]``, finite.
        layers: those that can be lowered, in the order of the graph.
        probe_frames: pictures to look at, spread over the range of float scores.
    """
    reference = np.asarray(float_scores, np.float64)
    rows = spread(reference, probe_frames)
    names = frozenset(layer.name for layer in layers)

    def error_of(group: Sequence[Layer]) -> float:
        lowered = lower(names - {layer.name for layer in group})
        difference = score(lowered, rows) - reference[rows]
        return float(np.sqrt(np.mean(difference**2))) if np.isfinite(difference).all() else math.inf

    groups = _groups(layers)
    with progress("sensitivity of layers", len(groups)) as bar:
        if len(groups) == len(layers):
            found = [_alone(layer, error_of, bar) for layer in layers]
        else:
            found = _by_groups(groups, error_of, bar)
    return sorted(found, key=lambda one: -one.error)


def spread(float_scores: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Numbers of ``count`` pictures (or all) spread evenly over the ranking by float score, in rising order."""
    order = np.argsort(float_scores, kind="stable")
    if count >= len(order):
        return np.arange(len(order))
    places = np.linspace(0, len(order) - 1, count).round().astype(np.intp)
    return np.sort(order[places])


def _groups(layers: Sequence[Layer]) -> list[Sequence[Layer]]:
    size = 1 if len(layers) <= _UNGROUPED else math.isqrt(len(layers))
    return [layers[begin : begin + size] for begin in range(0, len(layers), size)]


def _alone(layer: Layer, error_of: Callable[[Sequence[Layer]], float], bar: Progress) -> LayerError:
    found = LayerError(layer.name, error_of([layer]), layer.macs)
    bar.advance(1, layer.name)
    return found


def _by_groups(
    groups: Sequence[Sequence[Layer]], error_of: Callable[[Sequence[Layer]], float], bar: Progress
) -> list[LayerError]:
    errors = []
    for group in groups:
        errors.append(error_of(group))
        bar.advance(1, f"{group[0].name} ... {group[-1].name}")
    order = sorted(range(len(groups)), key=lambda i: -errors[i])
    squares = [error**2 for error in errors]
    opened: list[int] = []
    held = 0.0
    for i in order[: max(1, len(groups) // 2)]:
        # An infinite group is opened whatever the share, which infinity would make meaningless.
        if opened and math.isfinite(errors[i]) and (not math.isfinite(held) or held >= _SHARE * sum(squares)):
            break
        opened.append(i)
        held += squares[i]
    bar.total = len(groups) + sum(len(groups[i]) for i in opened)
    found: list[LayerError] = []
    for i, group in enumerate(groups):
        if i in opened:
            found += [_alone(layer, error_of, bar) for layer in group]
        else:
            part = errors[i] / math.sqrt(len(group))
            found += [LayerError(layer.name, part, layer.macs, measured=False) for layer in group]
    return found
