"""``memedge compare``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

Opt = typer.Option


def command(
    a: Annotated[Path | None, typer.Argument(help="Bundle folder. Default: the one that ships.", metavar="A")] = None,
    b: Annotated[
        Path | None, typer.Argument(help="The other bundle. Default: A with another precision or engine.", metavar="B")
    ] = None,
    data: Annotated[
        str | None,
        Opt(help="File, picture, folder, camera, stream or test://. Default: 200 generated pictures.", metavar="SRC"),
    ] = None,
    engine_a: Annotated[str, Opt(help="Engine of A.", metavar="NAME")] = "auto",
    engine_b: Annotated[str, Opt(help="Engine of B.", metavar="NAME")] = "auto",
    precision_a: Annotated[str, Opt(help="Precision of A: auto, fp32, fp16 or int8.", metavar="NAME")] = "auto",
    precision_b: Annotated[str, Opt(help="Precision of B.", metavar="NAME")] = "auto",
    frames: Annotated[int | None, Opt(help="At most this many pictures. Default: 1000.", metavar="N")] = None,
    as_json: Annotated[bool, Opt("--json", help="Print as JSON, with every score.")] = False,
    plot: Annotated[Path | None, Opt(help="Also draw A against B to this PNG (needs the extra plot).")] = None,
) -> None:
    """Measure how the scores of two bundles, precisions or engines differ on the same pictures."""
    from ..bench.plot import check_name
    from ..compare import compare
    from ..console import progress

    if plot is not None:
        check_name(plot)
    with progress("compare") as tracker:
        report = compare(
            a, b, data,
            engine_a=engine_a, engine_b=engine_b, precision_a=precision_a, precision_b=precision_b,
            frames=frames, progress=tracker,
        )  # fmt: skip
    print(json.dumps(report.to_json(), indent=2) if as_json else "\n".join(report.lines()))
    if plot is not None:
        report.plot(plot)
