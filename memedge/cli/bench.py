"""``memedge bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Opt = typer.Option


def command(
    bundles: Annotated[list[Path] | None, typer.Argument(help="Bundle folders. Default: the one that ships.")] = None,
    source: Annotated[str | None, Opt(help="A file, camera, stream or test://. Default: frames in memory.")] = None,
    all_engines: Annotated[bool, Opt("--all", help="Every usable engine and lowering, side by side.")] = False,
    engine: Annotated[list[str] | None, Opt(help="Only this engine; may be given several times.")] = None,
    precision: Annotated[list[str] | None, Opt(help="Only this precision; may be given several times.")] = None,
    frames: Annotated[int | None, Opt(help="Frames counted for each combination.")] = None,
    seconds: Annotated[float | None, Opt(help="Seconds measured for each combination. Default: 10.")] = None,
    warmup: Annotated[int, Opt(help="Frames left out at the start of every stretch.")] = 5,
    threads: Annotated[int, Opt(help="CPU threads of the engines; 0: all cores.")] = 0,
    bf16: Annotated[bool, Opt("--bf16", help="Let OpenVINO compute in bfloat16: faster, another number.")] = False,
    start: Annotated[bool, Opt(help="Also measure start-up and peak memory in a process of its own.")] = True,
    as_json: Annotated[bool, Opt("--json", help="Print the report as JSON.")] = False,
    out: Annotated[Path | None, Opt(help="Also write the report as JSON to this file.")] = None,
    plot: Annotated[Path | None, Opt(help="Also draw the stages to this PNG (needs the extra plot).")] = None,
) -> None:
    """Measure a bundle on this device, stage by stage."""
    from ..bench import bench
    from ..bench.plot import check_name
    from ..console import progress
    from ..errors import UsageError

    if all_engines and (engine or precision):
        raise UsageError("--all means every engine and precision; it cannot go with --engine or --precision")
    if plot is not None:
        check_name(plot)
    with progress("bench") as tracker:

        def told(done: int, total: int, what: str) -> None:
            tracker.total = total
            tracker.advance(done - tracker.done, what)

        report = bench(
            bundles or (),
            source,
            "all" if all_engines else engine or "auto",
            "all" if all_engines else precision or "auto",
            frames=frames,
            seconds=seconds,
            warmup=warmup,
            threads=threads,
            bf16=bf16,
            start=start,
            progress=told,
        )
    if as_json:
        print(report.to_json())
    else:
        report.print()
    if out is not None:
        report.save(out)
    if plot is not None:
        report.plot(plot)
