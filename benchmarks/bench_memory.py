"""Resident memory over thousands of frames, in a process of its own, and its slope."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import Budget, bundles, child_environment, finish, parser, say

from memedge_engines.bundle import Bundle

_SAMPLES = 60
# Allocators give and take: below this growth over the second half of a run, memory counts as flat.
FLAT_MB = 2.0


def measure(
    bundle: Bundle, frames: int, engine: str = "auto", precision: str = "auto"
) -> tuple[dict[str, Any], list[Budget]]:
    """Memory of a process that scores frames of the test pattern into a JSON Lines file, and the budgets on it."""
    name = bundle.manifest.name
    say(f"{name}: memory over {frames} frames")
    request = json.dumps([str(bundle.path), frames, engine, precision])
    command = [sys.executable, __file__, "--child", request]
    found = subprocess.run(command, capture_output=True, text=True, env=child_environment(), timeout=3600)
    if found.returncode:
        raise RuntimeError(found.stderr)
    figures = json.loads(found.stdout.splitlines()[-1])
    int8 = figures["precision"] == "int8"
    limited = name.startswith("resnet101") and int8
    budgets = [
        Budget.at_most(
            f"{name}: peak resident memory ({figures['precision']})", figures["peak_mb"], 300, "MB",
            "" if limited else "the limit is for resnet101 int8: reported only", report=not limited,
        ),
        Budget.at_most(
            f"{name}: growth over the second half of {frames} frames", figures["growth_mb"], FLAT_MB, "MB",
            f"slope {figures['mb_per_1000_frames']:.3f} MB per 1000 frames",
        ),
    ]  # fmt: skip
    return figures, budgets


def child(path: str, frames: int, engine: str, precision: str) -> dict[str, Any]:
    """Score and sample in this process."""
    from memedge.bench.feeds import PREPARED_URI, end, prepare
    from memedge.environment import peak_memory_mb, resident_mb
    from memedge.loop import Loop
    from memedge.scorer import Scorer
    from memedge.sinks.jsonl import JsonlSink

    scorer = Scorer(Bundle.open(path), engine, precision)
    step = max(1, frames // _SAMPLES)
    indices, sizes = [], []
    with tempfile.TemporaryDirectory() as folder, scorer:
        sink = JsonlSink(str(Path(folder) / "readings.jsonl"), rotate_mb=4)
        readings = Loop(prepare(PREPARED_URI), {"bundle": scorer}, [sink]).readings()
        for number in range(frames):
            next(readings)
            if number % step == 0:
                indices.append(number)
                sizes.append(resident_mb() or 0.0)
        end(readings)  # type: ignore[arg-type]
        sink.close()
        half = len(sizes) // 2
        part = half // 3 + 1
        growth = float(np.median(sizes[-part:]) - np.median(sizes[half : half + part]))
        slope = float(np.polyfit(indices[half:], sizes[half:], 1)[0]) if len(sizes) - half > 2 else 0.0
        return {
            "bundle": scorer.manifest.name,
            "engine": scorer.engine,
            "precision": scorer.precision,
            "frames": frames,
            "peak_mb": peak_memory_mb(),
            "resident_mb": [round(size, 2) for size in sizes],
            "mb_per_1000_frames": round(slope * 1000, 4),
            "growth_mb": round(growth, 3),
        }


def main() -> None:
    """Measure the bundles named, print figures and budgets."""
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(child(*json.loads(sys.argv[2]))))
        return
    made = parser(__doc__ or "")
    made.add_argument("--frames", type=int, default=5000)
    arguments = made.parse_args()
    figures, budgets = [], []
    for bundle in bundles(arguments.bundle):
        found, kept = measure(bundle, arguments.frames)
        figures.append(found)
        budgets += kept
    finish("memory", {"bundles": figures}, budgets, arguments.json)


if __name__ == "__main__":
    main()
