"""Memory decay: the score at a delay of one's own choice, for bundles whose network gives a slope besides its score.

SemanticMemNet's line: the share of people who recognise a clip after t items of the memory game is m(t) = m + alpha *
(t - T), where m is the network's score, alpha its slope for each item (mostly negative), and T the lag that the score
is of. An item of Memento10k is a clip of 3 s, so a delay in seconds is t = seconds / 3; T is 180 items, nine minutes.
The bundle's manifest says both numbers. The line was fitted to lags of half a minute to ten minutes: beyond them it is
an extrapolation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memedge_engines.manifest import Decay, Manifest

from .errors import UsageError


def delayed_output(delay_s: float) -> str:
    """Name of the score at a delay among a reading's outputs: ``score_at_600s``."""
    return f"score_at_{delay_s:g}s"


def score_at(score: float, slope: float, decay: Decay, delay_s: float) -> float:
    """The score after ``delay_s`` seconds, 0..1, from the score after ``decay.lag`` items and the slope an item."""
    return min(1.0, max(0.0, score + slope * (delay_s / decay.item_s - decay.lag)))


def check_delay(manifests: Sequence[Manifest], delay_s: float | None) -> None:
    """Raise UsageError for a delay that is no time, or that no bundle can give a score of."""
    if delay_s is None:
        return
    if not 0 <= delay_s < math.inf:
        raise UsageError(f"--delay {delay_s:g}; expected 0 or more seconds")
    if not any(_line(manifest) for manifest in manifests):
        raise UsageError(
            f"--delay {delay_s:g}: no bundle has a slope of decay; expected one of semantic-memnet",
            fix="memedge info DIR lists a bundle's outputs",
        )


class DelayedScore:
    """The score of one bundle at a delay; of a bundle without a slope, nothing."""

    def __init__(self, manifest: Manifest, delay_s: float | None) -> None:
        self._delay_s = delay_s
        self._line = None if delay_s is None else _line(manifest)

    def values(self, values: Mapping[str, NDArray[Any]]) -> dict[str, float]:
        """The score under :func:`delayed_output`'s name where a frame's outputs hold a new score and slope."""
        if self._line is None or self._delay_s is None:
            return {}
        score, slope, decay = self._line
        if score not in values or slope not in values:
            return {}
        both = [float(np.asarray(values[name], np.float64).mean()) for name in (score, slope)]
        return {delayed_output(self._delay_s): round(score_at(both[0], both[1], decay, self._delay_s), 6)}


def _line(manifest: Manifest) -> tuple[str, str, Decay] | None:
    """Names of the outputs that hold score and slope, and what they are of."""
    sources = {target.source for target in manifest.targets}
    for node in manifest.nodes:
        scores = [f"{node.name}.{o.name}" for o in node.outputs if f"{node.name}.{o.name}" in sources]
        for output in node.outputs:
            if output.decay is not None and scores:
                return scores[0], f"{node.name}.{output.name}", output.decay
    return None
