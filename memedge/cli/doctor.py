"""``memedge doctor``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    tune: Annotated[bool, typer.Option("--tune", help="Time every usable engine here and remember the best.")] = False,
    bundle: Annotated[Path | None, typer.Option(help="Bundle to tune. Default: the one that ships.")] = None,
) -> None:
    """Show devices and engines, and what keeps an engine from being used."""
    from ..console import progress
    from ..doctor import doctor_report
    from ..errors import UsageError
    from ..loading import open_bundle

    if bundle is not None and not tune:
        raise UsageError("--bundle belongs to --tune")
    timings = []
    if tune:
        from memedge_engines import choice

        opened = open_bundle(bundle)
        with progress(f"tune {opened.manifest.name}") as tracker:
            timings = choice.tune(opened, progress=lambda text: tracker.advance(0, text))
    report = doctor_report()  # after the timing, so that it tells what is remembered now
    if as_json:
        tuned = [
            {
                "engine": timing.candidate.backend,
                "lowering": timing.candidate.lowering,
                "precision": timing.candidate.precision,
                "median_ms": timing.median_ms,
                "p90_ms": timing.p90_ms,
                "runs": timing.runs,
                "reason": timing.reason or None,
                "fix": timing.fix,
            }
            for timing in timings
        ]
        print(json.dumps({**report.to_json(), **({"tuned": tuned} if tune else {})}, indent=2))
        return
    print("\n".join([*report.lines(), *(f"timed {timing.line()}" for timing in timings)]))
