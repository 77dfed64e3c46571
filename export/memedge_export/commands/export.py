"""``memedge export``: a model and its weights become a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memedge.console import status
from memedge.errors import UsageError


def command(
    model: Annotated[str, typer.Option("--model", help="Which model: see `memedge models`.")],
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            metavar="[PART=]FILE",
            help="A .safetensors or .pth file, or `imagenet` (torchvision's own download); PART=FILE for a part of a "
            "system, repeatable. Default: the newest run, else untrained.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="An option of a system, repeatable."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder to write. Default: ./<model>-<precisions>."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is there.")] = False,
    precision: Annotated[str, typer.Option("--precision", help="fp32, or several joined by commas.")] = "",
    fp32: Annotated[bool, typer.Option("--fp32", help="The float graph (the default; every bundle holds it).")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Half precision for TensorRT: lowering trt-fp16.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="8-bit integers: lowerings cpu and trt-int8.")] = False,
    golden: Annotated[
        Path | None,
        typer.Option("--golden", help="Folder of pictures to use as golden frames. They travel with the bundle."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="Name of the bundle, as readings show it. Default: the model's."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of an untrained network, and of choices of pictures.")] = 0,
    calib: Annotated[
        str | None,
        typer.Option(
            "--calib",
            help="Calibration pictures: lamem:DIR, videomem:DIR, lnsim:DIR, a folder, a video, camera0. "
            "Default: $MEMEDGE_CALIB, ./calib, else generated pictures.",
        ),
    ] = None,
    calib_frames: Annotated[
        int, typer.Option("--calib-frames", help="Pictures that calibrate; a quarter as many clips.")
    ] = 512,
    gate_frames: Annotated[int, typer.Option("--gate-frames", help="Pictures held out for the fidelity gate.")] = 200,
    calib_method: Annotated[
        str, typer.Option("--calib-method", help="auto (each is measured), minmax, percentile or entropy.")
    ] = "auto",
    ranges: Annotated[
        Path | None, typer.Option("--ranges", help="Range table (ranges.json or a bundle) to use again.")
    ] = None,
    trt_body: Annotated[
        str, typer.Option("--trt-body", help="What stays float in trt-int8: fp16, or fp32 (Orin's fallback).")
    ] = "fp16",
    allow_small_gate: Annotated[
        bool, typer.Option("--allow-small-gate", help="A gate of fewer than 200 pictures is good enough.")
    ] = False,
    allow: Annotated[bool, typer.Option("--allow", help="Write lowerings that fail the gate, marked.")] = False,
    words: Annotated[
        Path | None,
        typer.Option("--words", help="Word vectors that travel in a bundle that takes titles (ic-image-text)."),
    ] = None,
    threads: Annotated[int, typer.Option("--threads", help="CPU threads; 0: all cores.")] = 0,
) -> None:
    """Turn a model and its weights into a bundle that runs on any device."""
    flags = [key for key, on in (("fp32", fp32), ("fp16", fp16), ("int8", int8)) if on]
    named = [part.strip() for part in precision.split(",") if part.strip()]
    if flags and named and set(flags) != set(named):
        raise UsageError(f"--precision {precision} contradicts {' '.join('--' + flag for flag in flags)}")
    if seed < 0:
        raise UsageError(f"--seed {seed}; expected 0 or more")
    if threads < 0:
        raise UsageError(f"--threads {threads}; expected 0 or more")
    from ..export_bundle import check_precisions, export
    from ..models.system import read_options, system_entry
    from ..quant.pipeline import QuantOptions
    from ..summary import next_command
    from ..system_bundle import export_system

    wanted = check_precisions(named or flags or ["fp32"])
    quant = QuantOptions(
        calib=calib,
        frames=calib_frames,
        gate_frames=gate_frames,
        method=calib_method,
        ranges=ranges,
        small_gate=allow_small_gate,
        allow=allow,
        trt_body=trt_body,  # type: ignore[arg-type]  # QuantOptions says what it takes
        seed=seed,
        threads=threads,
    )
    only_float = wanted == ["fp32"]
    if only_float and (calib or ranges or allow or allow_small_gate):
        raise UsageError("--calib, --ranges, --allow and --allow-small-gate belong to --int8 or --fp16")
    entry = system_entry(model)
    if entry is not None:
        bundle = export_system(
            entry,
            weights or (),
            out,
            options=read_options(option or ()),
            force=force,
            precisions=wanted,
            golden_dir=golden,
            seed=seed,
            name=name,
            quant=quant,
            words=words,
        )
    else:
        if option:
            raise UsageError(f"--option {option[0]}: {model} has no options")
        if words is not None:
            raise UsageError(f"--words {words}: {model} takes no title", fix="--model ic-image-text")
        if weights is not None and len(weights) > 1:
            raise UsageError(f"--weights is given {len(weights)} times; {model} has no parts")
        first = weights[0] if weights else None
        bundle = export(
            model, first, out, force=force, precisions=wanted, golden_dir=golden, seed=seed, name=name, quant=quant
        )
    print(bundle.path, flush=True)
    status(next_command(bundle))
