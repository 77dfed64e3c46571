"""Whether a lowering's scores rank pictures as the float graph's do: figures and rules.

The rules, on at least 200 pictures that calibration did not see: every score finite; float scores not constant
(standard deviation above .01); Spearman at least .99; mean |difference| at most .01; ratio of the standard deviations
within .9 to 1.1; and for a trained model, the rank correlation with human scores drops by at most .005. The gated drop
is the one measured on the pictures themselves; a paired bootstrap (each resample draws the same pictures for both)
gives its 95 % interval, and an interval that reaches beyond .005 warns: 200 pictures say no more than that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memedge.fidelity import Fidelity, Human, Other

from ..errors import ExportError
from ..eval.bootstrap import draws, interval
from ..eval.metrics import spearman

LEAST_FRAMES = 200
LEAST_STD = 0.01
LEAST_SPEARMAN = 0.99
MOST_MEAN_ABS = 0.01
STD_RATIO = (0.9, 1.1)
MOST_DROP = 0.005
LEAST_OTHER = 0.97
# Sums of floats: a difference of exactly .01 must not fail for its last bit.
_EPS = 1e-9
_FEWEST_HUMAN = 3


@dataclass(frozen=True)
class OtherScores:
    """Float scores and the lowering's on pictures of another kind, both ``[N]``; ``source`` names them."""

    source: str
    float_scores: ArrayLike
    scores: ArrayLike


def measure(
    float_scores: ArrayLike,
    scores: ArrayLike,
    human: ArrayLike | None = None,
    other: OtherScores | None = None,
    small_ok: bool = False,
    seed: int = 0,
) -> Fidelity:
    """Measure a lowering against float and judge it by the rules of this module.

    Args:
        float_scores, scores: of the same pictures in the same order, ``[N]``.
        human: human scores of the pictures, ``[N]``, NaN where there is none; none for an untrained model.
        small_ok: fewer than 200 pictures warn instead of failing.
        seed: of the bootstrap.

    Raises:
        ExportError: arrays of different lengths, or no scores at all.
    """
    a, b = _vector(float_scores, "float scores"), _vector(scores, "scores")
    if len(a) != len(b) or not len(a):
        raise ExportError(f"the fidelity gate got {len(a)} float scores and {len(b)} scores; expected as many")
    reasons = float_faults(a, small_ok=small_ok)
    warnings = []
    if small_ok and len(a) < LEAST_FRAMES:
        warnings.append(f"measured on {len(a)} pictures only; expected at least {LEAST_FRAMES}")
    finite = bool(np.isfinite(a).all() and np.isfinite(b).all())
    if not np.isfinite(b).all():
        reasons.append(f"{np.count_nonzero(~np.isfinite(b))} of {len(b)} scores are not finite; expected none")
    if not finite:
        return Fidelity(
            frames=len(a), finite=False, float_std=None, spearman=None, mean_abs=None, max_abs=None, std_ratio=None,
            passed=False, reasons=tuple(reasons), warnings=tuple(warnings),
        )  # fmt: skip
    difference = np.abs(b - a)
    std = float(a.std())
    rho = spearman(a, b)
    mean_abs = float(difference.mean())
    ratio = float(b.std() / std) if np.ptp(a) > 0 else None
    reasons += _score_faults(rho, mean_abs, ratio)
    compared = None if human is None else _human(a, b, _vector(human, "human scores"), seed, reasons, warnings)
    elsewhere = None if other is None else _other(other, reasons, warnings)
    return Fidelity(
        frames=len(a),
        finite=True,
        float_std=std,
        spearman=rho,
        mean_abs=mean_abs,
        max_abs=float(difference.max()),
        std_ratio=ratio,
        human=compared,
        other=elsewhere,
        passed=not reasons,
        reasons=tuple(reasons),
        warnings=tuple(warnings),
    )


def float_faults(float_scores: ArrayLike, *, small_ok: bool = False) -> list[str]:
    """What is wrong with the gate itself, so that no lowering could pass: too few pictures, float scores that are not
    finite or all but constant."""
    a = _vector(float_scores, "float scores")
    faults = []
    if len(a) < LEAST_FRAMES and not small_ok:
        faults.append(f"the gate has {len(a)} pictures; expected at least {LEAST_FRAMES} that calibration did not see")
    bad = int(np.count_nonzero(~np.isfinite(a)))
    if bad:
        faults.append(f"{bad} of {len(a)} float scores are not finite; expected none")
    elif len(a) and float(a.std()) <= LEAST_STD + _EPS:
        faults.append(
            f"float scores are all but constant (standard deviation {a.std():.4f}); expected more than {LEAST_STD:g}"
        )
    return faults


def _score_faults(rho: float | None, mean_abs: float, ratio: float | None) -> list[str]:
    faults = []
    if rho is None:
        faults.append(f"no rank correlation with float scores, one side is constant; expected >= {LEAST_SPEARMAN:g}")
    elif rho < LEAST_SPEARMAN - _EPS:
        faults.append(f"Spearman with float scores {rho:.4f}; expected at least {LEAST_SPEARMAN:g}")
    if mean_abs > MOST_MEAN_ABS + _EPS:
        faults.append(f"mean |difference| from float scores {mean_abs:.4f}; expected at most {MOST_MEAN_ABS:g}")
    low, high = STD_RATIO
    if ratio is not None and not low - _EPS <= ratio <= high + _EPS:
        faults.append(f"standard deviation {ratio:.3f} of float's; expected {low:g} to {high:g}")
    return faults


def _human(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    human: NDArray[np.float64],
    seed: int,
    reasons: list[str],
    warnings: list[str],
) -> Human | None:
    if len(human) != len(a):
        raise ExportError(f"the fidelity gate got {len(human)} human scores for {len(a)} pictures")
    known = np.isfinite(human)
    count = int(known.sum())
    a, b, y = a[known], b[known], human[known]
    before, after = spearman(a, y), spearman(b, y)
    if count < _FEWEST_HUMAN or before is None or after is None:
        warnings.append(f"no rank correlation with human scores: {count} pictures have one, or all are alike")
        return None
    drop = before - after
    low, high = drop_interval(a, b, y, seed)
    if drop > MOST_DROP + _EPS:
        reasons.append(
            f"rank correlation with human scores drops by {drop:.4f} ({before:.4f} to {after:.4f}); "
            f"expected at most {MOST_DROP:g}"
        )
    elif high > MOST_DROP:
        warnings.append(
            f"rank correlation with human scores drops by {drop:.4f}, but {count} pictures do not exclude {high:.4f} "
            f"(95 % interval {low:.4f} to {high:.4f})"
        )
    return Human(frames=count, float_rho=before, rho=after, drop=drop, interval=(low, high))


def drop_interval(
    float_scores: NDArray[np.float64], scores: NDArray[np.float64], human: NDArray[np.float64], seed: int = 0
) -> tuple[float, float]:
    """95 % paired bootstrap interval of how much Spearman with ``human`` drops from ``float_scores`` to ``scores``,
    all ``[N]``: 1,000 resamples of the pictures, the same for both. Resamples without a correlation are left out."""
    found = interval((draws(float_scores, human, seed) - draws(scores, human, seed)).spearman)
    return (0.0, 0.0) if found is None else found


def _other(other: OtherScores, reasons: list[str], warnings: list[str]) -> Other:
    a, b = _vector(other.float_scores, "float scores"), _vector(other.scores, "scores")
    if len(a) != len(b):
        raise ExportError(f"{other.source}: {len(a)} float scores and {len(b)} scores; expected as many")
    bad = int(np.count_nonzero(~np.isfinite(a) | ~np.isfinite(b)))
    if bad:
        reasons.append(f"{bad} of {len(a)} scores of {other.source} are not finite; expected none")
        return Other(source=other.source, frames=len(a), spearman=None)
    rho = spearman(a, b)
    if len(a) < LEAST_FRAMES:
        warnings.append(f"{other.source}: {len(a)} pictures; expected at least {LEAST_FRAMES}")
    if rho is None:
        warnings.append(f"{other.source}: no rank correlation, scores are constant; expected >= {LEAST_OTHER:g}")
    elif rho < LEAST_OTHER - _EPS:
        warnings.append(f"{other.source}: Spearman with float scores {rho:.4f}; expected at least {LEAST_OTHER:g}")
    return Other(source=other.source, frames=len(a), spearman=rho)


def _vector(values: ArrayLike, what: str) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise ExportError(f"the fidelity gate got {what} of shape {list(array.shape)}; expected one axis")
    return array
