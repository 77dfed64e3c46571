"""``memedge verify``: rerun a bundle's golden frames on this device with every usable engine and lowering."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from memedge_engines import backends, choice, golden
from memedge_engines.bundle import Bundle
from memedge_engines.choice import Candidate
from memedge_engines.golden import GoldenFrames, LevelDifference, ScoreDifference

from .console import Progress
from .errors import BackendUnavailable, EngineError, PlanMissing
from .scorer import Scorer


@dataclass(frozen=True)
class VerifyRow:
    """One engine and lowering.

    Attributes:
        candidate: the engine and the lowering.
        scores: difference of each target from the recorded scores; empty when it did not run.
        reason, fix: why it did not run, and what would mend it.
        failed: it ran past the tolerance, or should have run and did not.
    """

    candidate: Candidate
    scores: tuple[ScoreDifference, ...] = ()
    reason: str = ""
    fix: str | None = None
    failed: bool = False

    @property
    def status(self) -> str:
        """``passed``, ``FAILED`` or ``not run``."""
        return "FAILED" if self.failed else "passed" if self.scores else "not run"

    def line(self) -> str:
        """One line for people."""
        if not self.scores:
            return f"{self.candidate}: {self.status}: {self.reason}" + (f" (fix: {self.fix})" if self.fix else "")
        parts = [f"{s.target} differs by {s.largest:.2g} (tolerance {s.tolerance:g})" for s in self.scores]
        return f"{self.candidate}: {self.status}: " + ", ".join(parts)


@dataclass(frozen=True)
class VerifyReport:
    """What a bundle's golden frames gave on this device.

    ``preprocess``: difference of this device's pictures from the golden tensors in levels of 0..255, at most
    ``preprocess_tolerance``. ``files``: number of files whose hashes are right.
    """

    bundle: str
    hash: str
    frames: int
    files: int
    preprocess: LevelDifference
    preprocess_tolerance: float
    rows: tuple[VerifyRow, ...]

    @property
    def preprocess_passed(self) -> bool:
        """Whether the pictures are within the tolerance; a difference that is not a number is not."""
        return self.preprocess.largest <= self.preprocess_tolerance

    @property
    def passed(self) -> bool:
        """Whether the pictures are within the tolerance, something ran, and nothing that should have run failed."""
        ran = any(row.scores for row in self.rows)
        return self.preprocess_passed and ran and not any(row.failed for row in self.rows)

    def lines(self) -> list[str]:
        """Whole lines for people."""
        verdict = "passed" if self.preprocess_passed else "FAILED"
        return [
            f"bundle {self.bundle} ({self.hash[:12]}): {self.files} files have the hashes of the manifest",
            f"preprocessing: {verdict}: {self.frames} golden frames differ by at most {self.preprocess.largest:.3g} "
            f"levels (tolerance {self.preprocess_tolerance:g}), {self.preprocess.mean:.3g} on average",
            *(row.line() for row in self.rows),
            "verified: this device gives the recorded scores"
            if self.passed
            else "NOT verified: " + ("see above" if any(row.scores for row in self.rows) else "no engine ran"),
        ]

    def to_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "bundle": self.bundle,
            "hash": self.hash,
            "passed": self.passed,
            "files": self.files,
            "golden_frames": self.frames,
            "preprocess": {
                "passed": self.preprocess_passed,
                "max_levels": _finite(self.preprocess.largest),
                "mean_levels": _finite(self.preprocess.mean),
                "tolerance_levels": self.preprocess_tolerance,
            },
            "engines": [
                {
                    "engine": row.candidate.backend,
                    "lowering": row.candidate.lowering,
                    "precision": row.candidate.precision,
                    "status": row.status.lower(),
                    "reason": row.reason or None,
                    "fix": row.fix,
                    "targets": {
                        s.target: {"max_difference": _finite(s.largest), "tolerance": s.tolerance, "passed": s.passed}
                        for s in row.scores
                    },
                }
                for row in self.rows
            ],
        }


def verify(bundle: Bundle, engine: str | None = None, progress: Progress | None = None) -> VerifyReport:
    """Check every file's hash, then preprocess and score the golden frames with every usable engine and lowering.

    Args:
        bundle: the opened bundle.
        engine: only this engine; none takes all that there are.
        progress: advanced by one for each file and each engine with a lowering.

    Raises:
        BundleError: a file that is missing or altered, golden frames that do not fit the manifest.
        EngineError: an unknown engine, or the one asked for cannot be used here.
    """

    def step(note: str) -> None:
        if progress is not None:
            progress.advance(1, note)

    wanted = _candidates(bundle, engine)
    bundle.verify_files(step)
    frames = golden.read(bundle)
    step("preprocessing")
    difference = golden.check_preprocess(bundle, frames)
    rows = []
    for candidate in wanted:
        step(str(candidate))
        rows.append(_check(bundle, frames, candidate, explicit=engine is not None))
    return VerifyReport(
        bundle=bundle.manifest.name,
        hash=bundle.hash,
        frames=len(frames.frames),
        files=len(bundle.entries()),
        preprocess=difference,
        preprocess_tolerance=bundle.manifest.golden.preprocess_tolerance,
        rows=tuple(rows),
    )


def _finite(value: float) -> float | None:
    """JSON has no NaN: a difference that is not a number is null."""
    return value if math.isfinite(value) else None


def _candidates(bundle: Bundle, engine: str | None) -> list[Candidate]:
    names = backends.automatic() if engine is None else [engine]
    there = bundle.lowerings()
    found = [Candidate(name, low) for name in names for low in backends.get(name).lowerings if low in there]
    if not found:
        who = "no engine here" if engine is None else f"engine {engine}"
        raise EngineError(f"{who} can run a lowering of bundle '{bundle.manifest.name}'; it has {', '.join(there)}")
    return found


def _check(bundle: Bundle, frames: GoldenFrames, candidate: Candidate, *, explicit: bool) -> VerifyRow:
    if candidate.lowering not in frames.scores:
        return VerifyRow(candidate, reason=f"the bundle records no golden scores for '{candidate.lowering}'")
    try:
        with Scorer(bundle, candidate.backend, candidate.precision) as scorer:
            scores = [scorer.score(picture).targets for picture in frames.frames]
    except BackendUnavailable as error:
        if explicit:
            raise
        return VerifyRow(candidate, reason=choice.bare(candidate, error), fix=error.fix)
    except PlanMissing as error:  # who built one precision need not build the others
        return VerifyRow(candidate, reason=choice.bare(candidate, error), fix=error.fix)
    except EngineError as error:
        return VerifyRow(candidate, reason=choice.bare(candidate, error), fix=error.fix, failed=True)
    differences = tuple(golden.check_scores(bundle, frames, candidate.lowering, scores))
    return VerifyRow(candidate, differences, failed=not all(d.passed for d in differences))
