"""``memedge export``: a model and its weights become a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memedge.errors import UsageError


def command(
    model: Annotated[str, typer.Option("--model", help="Which model: see `memedge models`.")],
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            help="A .safetensors or .pth file, or `imagenet` (torchvision's own download). "
            "Default: the newest run, else untrained.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder to write. Default: ./<model>-<precisions>."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is there.")] = False,
    precision: Annotated[str, typer.Option("--precision", help="fp32, or several joined by commas.")] = "",
    fp32: Annotated[bool, typer.Option("--fp32", help="The float graph (the default; every bundle holds it).")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Not in this version yet.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Not in this version yet.")] = False,
    golden: Annotated[
        Path | None,
        typer.Option("--golden", help="Folder of pictures to use as golden frames. They travel with the bundle."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="Name of the bundle, as readings show it. Default: the model's."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of an untrained network.")] = 0,
) -> None:
    """Turn a model and its weights into a bundle that runs on any device."""
    flags = [key for key, on in (("fp32", fp32), ("fp16", fp16), ("int8", int8)) if on]
    named = [part.strip() for part in precision.split(",") if part.strip()]
    if flags and named and set(flags) != set(named):
        raise UsageError(f"--precision {precision} contradicts {' '.join('--' + flag for flag in flags)}")
    if seed < 0:
        raise UsageError(f"--seed {seed}; expected 0 or more")
    from ..export_bundle import check_precisions, export

    wanted = check_precisions(named or flags or ["fp32"])
    bundle = export(model, weights, out, force=force, precisions=wanted, golden_dir=golden, seed=seed, name=name)
    print(bundle.path)
