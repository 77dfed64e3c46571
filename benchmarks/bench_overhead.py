"""What queues, rolling scores and sinks cost for each frame: the whole loop on the synthetic engine.

The synthetic engine takes next to no time, and does not keep the cores from the rest of the loop.
The figure is the sum of the three stages, frame by frame; `queue` is what no other stage accounts for.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec
from common import Budget, finish, median, parser, say

from memedge.bench.blocks import Measurer, Samples
from memedge.bench.feeds import prepare
from memedge.bench.report import Spread
from memedge.loading import open_bundle
from memedge.scorer import FixedScorer
from memedge_engines.bundle import Bundle
from memedge_engines.choice import Candidate

_OWN = ("queue", "rolling", "sinks")


def measure(
    path: Path | None = None, rounds: int = 5, frames: int = 300, pattern: str = "test://?size=1920x1080&seconds=1"
) -> tuple[dict[str, Any], list[Budget]]:
    """Milliseconds of queue, rolling and sinks for a 1080p frame, frame by frame, and the budget on their sum.

    Args:
        path: bundle; none: the default one. Its lowering fp32 names inputs and outputs; no weights are used.
    """
    say("queues, rolling and sinks on the synthetic engine")
    bundle: Bundle = open_bundle(path)
    source = prepare(pattern, 12)
    rounds_ms: list[float] = []
    samples = Samples()
    with tempfile.TemporaryDirectory() as folder, FixedScorer(bundle, Candidate("synthetic", "fp32")) as scorer:
        measurer = Measurer(scorer, bundle.manifest.name, Path(folder))
        for _ in range(rounds):
            one = Samples()
            measurer.frame_by_frame(source, frames // rounds, 5, one)
            rounds_ms.append(sum(median(one.stages[name]) for name in _OWN))
            for name, values in one.stages.items():
                samples.stages.setdefault(name, values[:0]).extend(values)
    stages = {name: Spread.of(values) for name, values in samples.stages.items()}
    figures = {
        "bundle": bundle.manifest.name,
        "stages_ms": {name: msgspec.to_builtins(spread) for name, spread in stages.items()},
        "rounds_ms": [round(value, 4) for value in rounds_ms],
        "own_ms": round(median(rounds_ms), 4),
    }
    budget = Budget.at_most(
        "queues, rolling and sinks for a frame", median(rounds_ms), 0.3, "ms", "1080p frames, JSON Lines, medians"
    )
    return figures, [budget]


def main() -> None:
    """Measure, print figures and budgets."""
    arguments = parser(__doc__ or "").parse_args()
    figures, budgets = measure(arguments.bundle[0] if arguments.bundle else None)
    finish("overhead", figures, budgets, arguments.json)


if __name__ == "__main__":
    main()
