"""``memedge build``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

Opt = typer.Option


def command(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder. Default: the one that ships.")] = None,
    precision: Annotated[str, Opt(help="auto, int8, fp16 or fp32.", metavar="NAME")] = "auto",
    batch: Annotated[int, Opt(help="Frames that one inference may take together.", min=1, max=1024, metavar="N")] = 1,
    workspace: Annotated[
        int | None, Opt(help="Scratch memory of kernels. Default: 1024 on a Jetson.", min=1, metavar="MIB")
    ] = None,
    level: Annotated[
        int, Opt(help="0 builds fast, 5 searches longest for fast kernels.", min=0, max=5, metavar="0..5")
    ] = 3,
    force: Annotated[bool, Opt("--force", help="Build again even where a fitting plan is kept.")] = False,
    as_json: Annotated[bool, Opt("--json", help="Print as JSON, with the plan's record.")] = False,
) -> None:
    """Build a bundle's TensorRT plan on this device and keep it in the user's cache."""
    from memedge_engines.plans.profile import Profile

    from ..building import PERCENT, build
    from ..console import progress
    from ..loading import open_bundle

    opened = open_bundle(bundle)
    profile = Profile(max_batch=batch, opt_batch=batch, workspace_mib=workspace, level=level)
    with progress(f"build {opened.manifest.name}", PERCENT) as tracker:
        report = build(opened, precision, profile, tracker, force=force)
    print(json.dumps(report.to_json(), indent=2) if as_json else "\n".join(report.lines()))
