"""``memedge compare``: how the scores of two bundles, precisions or engines differ on the same pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memedge_engines.bundle import Bundle

from .compare_frames import GENERATED, Pair, Pictures
from .console import Progress
from .correlation import spearman
from .errors import SourceError, UsageError
from .loading import open_bundle
from .scorer import Scorer

_LIMIT = 100_000
_WORST = 5
_CONSTANT = 0.01
PERCENTILES = (50, 90, 95, 99)
BundleLike = Bundle | str | os.PathLike[str] | None


@dataclass(frozen=True)
class Side:
    """One of the two that are compared. ``ms``: median milliseconds a picture took, preprocessing included."""

    bundle: str
    path: str
    hash: str
    engine: str
    precision: str
    target: str
    untrained: bool
    ms: float

    def __str__(self) -> str:
        return f"{self.bundle}, {self.engine} {self.precision}"


@dataclass(frozen=True)
class CompareReport:
    """What was measured, and the scores that it was measured on.

    Attributes:
        source: label of the pictures' source.
        names: of the pictures: file, or file and time.
        a_scores, b_scores: primary target's scores, float64 ``[N]``, 0..1.
        skipped: pictures that could not be read.
    """

    a: Side
    b: Side
    source: str
    names: tuple[str, ...]
    a_scores: NDArray[np.float64]
    b_scores: NDArray[np.float64]
    skipped: int = 0

    @property
    def difference(self) -> NDArray[np.float64]:
        """b - a, float64 ``[N]``."""
        return self.b_scores - self.a_scores

    @property
    def spearman(self) -> float | None:
        """Rank correlation, average ranks for ties; none when one side is constant or there is one picture only."""
        return spearman(self.a_scores, self.b_scores)

    @property
    def mean_abs(self) -> float:
        """Mean |difference|."""
        return float(np.abs(self.difference).mean())

    @property
    def max_abs(self) -> float:
        """Largest |difference|."""
        return float(np.abs(self.difference).max())

    @property
    def std_ratio(self) -> float | None:
        """Standard deviation of b's scores over that of a's; none when a's are constant."""
        return float(self.b_scores.std() / self.a_scores.std()) if np.ptp(self.a_scores) > 0 else None

    @property
    def percentiles(self) -> dict[str, float]:
        """``p50`` ... ``p99`` of |difference|."""
        found = np.percentile(np.abs(self.difference), PERCENTILES)
        return {f"p{q}": float(value) for q, value in zip(PERCENTILES, found, strict=True)}

    def worst(self, count: int = _WORST) -> list[int]:
        """Numbers of the pictures that differ most, the worst first; equal ones in their order."""
        return [int(i) for i in np.argsort(-np.abs(self.difference), kind="stable")[:count]]

    @property
    def warnings(self) -> list[str]:
        """What makes the figures say less than they seem to."""
        found = []
        for letter, side, scores in (("A", self.a, self.a_scores), ("B", self.b, self.b_scores)):
            if side.untrained:
                found.append(f"{letter} is UNTRAINED: its scores mean nothing")
            if scores.std() <= _CONSTANT:
                found.append(
                    f"scores of {letter} are all but constant (standard deviation {scores.std():.4f}): "
                    "a rank correlation says little"
                )
        if len(self.names) < GENERATED:
            found.append(f"{len(self.names)} pictures are few; 200 make a rank correlation steady")
        if self.a.target != self.b.target:
            found.append(f"the targets differ: {self.a.target} and {self.b.target}")
        return found

    def lines(self) -> list[str]:
        """Whole lines for people."""
        rho = self.spearman
        ratio = self.std_ratio
        spread = ", ".join(f"{name} {value:.4f}" for name, value in self.percentiles.items())
        skipped = f", {self.skipped} could not be read" if self.skipped else ""
        out = [
            f"A: {self.a}: mean {self.a_scores.mean():.4f}, standard deviation {self.a_scores.std():.4f}, "
            f"{self.a.ms:.2f} ms a picture",
            f"B: {self.b}: mean {self.b_scores.mean():.4f}, standard deviation {self.b_scores.std():.4f}, "
            f"{self.b.ms:.2f} ms a picture",
            f"pictures: {len(self.names)} of {self.source}{skipped}",
            f"Spearman: {'none' if rho is None else format(rho, '.4f')}",
            f"mean |difference|: {self.mean_abs:.4f} (B - A: {self.difference.mean():+.4f})",
            f"max |difference|: {self.max_abs:.4f}",
            f"standard deviation of B over A's: {'none' if ratio is None else format(ratio, '.3f')}",
            f"percentiles of |difference|: {spread}",
        ]
        for i in self.worst():
            a, b = self.a_scores[i], self.b_scores[i]
            out.append(f"worst: {self.names[i]}: {a:.4f} and {b:.4f} ({b - a:+.4f})")
        return out + [f"WARNING {text}" for text in self.warnings]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data, scores included."""
        return {
            "a": asdict(self.a),
            "b": asdict(self.b),
            "source": self.source,
            "frames": len(self.names),
            "skipped": self.skipped,
            "spearman": self.spearman,
            "mean_abs": self.mean_abs,
            "max_abs": self.max_abs,
            "mean_difference": float(self.difference.mean()),
            "std_a": float(self.a_scores.std()),
            "std_b": float(self.b_scores.std()),
            "std_ratio": self.std_ratio,
            "percentiles": self.percentiles,
            "worst": [self._row(i) for i in self.worst()],
            "warnings": self.warnings,
            "scores": [self._row(i) for i in range(len(self.names))],
        }

    def _row(self, i: int) -> dict[str, Any]:
        return {"picture": self.names[i], "a": float(self.a_scores[i]), "b": float(self.b_scores[i])}

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw A against B, and the differences, to a PNG, SVG or PDF.

        Raises:
            UsageError: another ending.
            MemedgeError: matplotlib is absent, or the file cannot be written.
        """
        from .compare_plot import plot

        plot(self, path)


def compare(
    a: BundleLike = None,
    b: BundleLike = None,
    data: str | None = None,
    *,
    engine_a: str = "auto",
    engine_b: str = "auto",
    precision_a: str = "auto",
    precision_b: str = "auto",
    frames: int | None = None,
    progress: Progress | None = None,
) -> CompareReport:
    """Score the same pictures with two bundles, precisions or engines.

    Args:
        a: a bundle or its folder; none: the default bundle.
        b: the other one; none: the same bundle as ``a`` with another precision or engine.
        data: a file, picture, folder, glob, camera, stream or ``test://``; none: 200 generated pictures. Of a video
            that is longer than ``frames``, frames spread over it, or its first ones where a bundle needs them all.
        frames: at most this many pictures; none: 200 generated ones, 1,000 of anything else.
        progress: advanced by one for each picture.

    Raises:
        UsageError: nothing differs, or a number of frames out of range.
        BundleError, EngineError, SourceError: as everywhere; pictures that cannot be read among others are skipped.
    """
    if frames is not None and not 1 <= frames <= _LIMIT:
        raise UsageError(f"--frames {frames}; expected 1 to {_LIMIT}")
    if b is None and (engine_a, precision_a) == (engine_b, precision_b):
        raise UsageError(
            "nothing to compare: one bundle, the same engine and precision on both sides",
            fix="name a second bundle, or give --precision-a and --precision-b, or --engine-a and --engine-b",
        )
    first = a if isinstance(a, Bundle) else open_bundle(a)
    second = first if b is None else b if isinstance(b, Bundle) else open_bundle(b)
    pictures = Pictures(data, frames)
    with ExitStack() as stack:
        left = stack.enter_context(Scorer(first, engine_a, precision_a))
        right = stack.enter_context(Scorer(second, engine_b, precision_b))
        if first.hash == second.hash and (left.engine, left.precision) == (right.engine, right.precision):
            raise UsageError(
                f"both sides are '{left.manifest.name}' on {left.engine} {left.precision}: there is nothing to compare",
                fix=f"another --precision-b; the bundle has {', '.join(first.lowerings())}",
            )
        pair = Pair(left, right)
        if progress is not None:
            progress.total = pictures.most
        for name, scores in pictures.scores(pair):
            pair.add(name, scores)
            if progress is not None:
                progress.advance(1, name)
        if not pair.names:
            raise SourceError(f"{pictures.label}: no picture gave a score with both; expected at least one")
        return CompareReport(
            _side(left, pair.seconds[0]),
            _side(right, pair.seconds[1]),
            pictures.label,
            tuple(pair.names),
            np.array(pair.found[0]),
            np.array(pair.found[1]),
            pictures.skipped,
        )


def _side(scorer: Scorer, seconds: Sequence[float]) -> Side:
    bundle = scorer.bundle
    return Side(
        bundle=bundle.manifest.name,
        path=str(bundle.path),
        hash=bundle.hash,
        engine=scorer.engine,
        precision=scorer.precision,
        target=bundle.manifest.primary.name,
        untrained=bundle.manifest.untrained,
        ms=float(np.median(seconds)) * 1e3,
    )
