"""``memedge train``: train a model on pictures with scores, pretrain a trunk on labelled ones, or train SoDeep's
sorter."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from memedge.console import status
from memedge.errors import UsageError

from ..train.processes import first_speaks

_TWO_STEPS = "memedge train --model MODEL --data tiny32:DIR, then --init trunk.safetensors"


@first_speaks()
def command(
    model: Annotated[str | None, typer.Option("--model", help="Which model: see `memedge models`.")] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            help="KIND:PATH of a data set (may be repeated; `memedge data` lists kinds), or tiny32:DIR to pretrain.",
        ),
    ] = None,
    init: Annotated[
        list[str] | None,
        typer.Option(
            "--init",
            help="Weights to start from: a file (such as a pretrained trunk) or `imagenet`; of a system several, as "
            "PART=FILE.",
            metavar="[PART=]FILE",
        ),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", help="An option of a system, repeatable.", metavar="KEY=VALUE")
    ] = None,
    words: Annotated[
        Path | None, typer.Option("--words", help="Word vectors for the titles of a system that takes them.")
    ] = None,
    pretrain: Annotated[
        str | None,
        typer.Option("--pretrain", help="tiny32:DIR: pretrain first, in the same run (memedge-s)."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="Name of a recipe, or a TOML file. Default: the model's published one."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="One value of the recipe, such as phases.all.rates.head=1e-4.", metavar="KEY=VALUE"),
    ] = None,
    targets: Annotated[
        list[str] | None,
        typer.Option(
            "--target", help="Score to learn (short_term, long_term); may be repeated: a head each.", metavar="NAME"
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", help="Epochs of the last phase (of the whole pretraining, with tiny32)."),
    ] = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Pictures a step.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of every random choice.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the run. Default: ./runs/<model>/<data>-seed<seed>."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    bf16: Annotated[
        bool | None,
        typer.Option(
            "--bf16/--no-bf16", help="bfloat16 arithmetic, faster on CPUs that have it. Default: the recipe's."
        ),
    ] = None,
    threads: Annotated[int, typer.Option("--threads", help="CPU threads; 0: torch's own choice.")] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or gpu.")] = "auto",
    devices: Annotated[int, typer.Option("--devices", help="GPUs, or processes on the CPU; one each.")] = 1,
    fold: Annotated[
        str | None,
        typer.Option("--fold", help="Cross-validation: fold I of K of train and val validates.", metavar="I/K"),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out records whose picture or video is not there.")
    ] = False,
    sorter: Annotated[
        Path | None,
        typer.Option(
            "--sorter",
            help="Instead of a model, train SoDeep's sorter for batches of --batch scores, into this .safetensors "
            "file. It wants a GPU; --set phases.NAME.loss.sorter=FILE uses it.",
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """Train a model by its recipe; resumable after a kill at any moment."""
    if threads < 0 or seed < 0:
        raise UsageError(f"--threads {threads} --seed {seed}; expected 0 or more")
    if device not in ("auto", "cpu", "gpu") or devices < 1:
        raise UsageError(f"--device {device} --devices {devices}; expected auto, cpu or gpu, and 1 or more")
    if sorter is not None:
        others = (model, data, init, option, words, pretrain, recipe, overrides, targets, epochs, out, bf16, fold)
        if any(other is not None for other in others) or resume or allow_missing or devices > 1:
            raise UsageError("--sorter trains no model: of the options only --batch, --seed, --threads, --device apply")
        from ..train.start import sorting

        print(sorting(sorter, batch=batch, seed=seed, threads=threads, device=device))
        return
    if model is None or not data:
        raise UsageError("--model and --data are needed, for example --model resnet-s --data lnsim:DIR")
    from ..data.readers import PRETRAINING, parse

    specs = [parse(spec) for spec in data]
    kinds = [spec.kind for spec in specs]
    part = _fold(fold)
    if PRETRAINING in kinds and len(data) > 1:
        raise UsageError(f"--data {PRETRAINING} pretrains and stands alone; found {', '.join(data)}")
    from ..models.system import read_options
    from ..train import start
    from ..train.devices import Devices
    from ..train.start_scene import MODEL

    name = "-".join([spec.short for spec in specs] + ([f"fold{part[0]}of{part[1]}"] if part else []))
    folder = out or Path("runs") / model / f"{name}-seed{seed}"
    try:
        if model == MODEL:
            if (
                recipe
                or overrides
                or targets
                or part
                or batch
                or bf16
                or option
                or words
                or len(init or ()) > 1
                or devices > 1
                or device == "gpu"
                or len(data) > 1
            ):
                raise UsageError(
                    f"{MODEL} has a recipe of its own, for one data set on the CPU: of the options only --init, "
                    "--pretrain, --epochs, --seed, --out, --resume and --threads apply"
                )
            start_from = next(iter(init or ()), None)
            path = _own(data[0], folder, kinds == [PRETRAINING], start_from, pretrain, epochs, seed, resume, threads)
        elif pretrain is not None:
            raise UsageError(f"--pretrain goes with --model {MODEL}; others are pretrained first", fix=_TWO_STEPS)
        elif kinds == [PRETRAINING]:
            if recipe or overrides or targets or part or devices > 1 or option or words or len(init or ()) > 1:
                raise UsageError(
                    "--recipe, --set, --target, --fold, --option, --words and --devices belong to scored data, not to "
                    "pretraining"
                )
            path = start.pretraining(
                model,
                data[0],
                folder,
                init=next(iter(init or ()), None),
                epochs=epochs,
                batch=batch,
                seed=seed,
                resume=resume,
                bf16=bf16,
                threads=threads,
            )
        else:
            path = start.training(
                model,
                data,
                folder,
                init=init or (),
                options=read_options(option or ()),
                words=words,
                recipe=recipe,
                overrides=overrides or (),
                targets=targets or (),
                epochs=epochs,
                batch=batch,
                seed=seed,
                resume=resume,
                bf16=bf16,
                threads=threads,
                devices=Devices(device, devices),
                fold=part,
                missing="drop" if allow_missing else "refuse",
            )
    except KeyboardInterrupt:
        status(f"interrupted; what was saved last is kept in '{folder}': go on with --resume")
        raise
    if kinds != [PRETRAINING]:
        titles = ["--words", str(words)] if words is not None else []
        lowered = ["--int8", "--calib", data[0]] if _suits_int8(model, read_options(option or ())) else []
        status(f"next: memedge export --model {model} {shlex.join(['--weights', str(path), *titles, *lowered])}")
    print(path)


def _suits_int8(model: str, options: Mapping[str, str]) -> bool:
    """Whether a node of a model may be int8; asked of a narrow copy."""
    from ..models.system import build_system, system_entry

    entry = system_entry(model)
    if entry is None:
        return True
    return any(graph.lowest == "int8" for graph in build_system(entry, width=0.0625, options=options).graphs.values())


def _own(
    data: str,
    folder: Path,
    alone: bool,
    init: str | None,
    pretrain: str | None,
    epochs: int | None,
    seed: int,
    resume: bool,
    threads: int,
) -> Path:
    """``memedge-s``: its pretraining alone, or all of its training."""
    from ..train import start_scene

    start_scene.set_threads(threads)
    if alone:
        if init or pretrain:
            raise UsageError("--init and --pretrain go with scored data; pretraining starts from nothing")
        return start_scene.pretraining(data, folder, epochs=epochs, seed=seed, resume=resume)
    return start_scene.training(data, folder, init=init, pretrain=pretrain, epochs=epochs, seed=seed, resume=resume)


def _fold(text: str | None) -> tuple[int, int] | None:
    """(2, 5) of ``2/5``."""
    if text is None:
        return None
    number, slash, count = text.partition("/")
    if slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count) and int(count) >= 2:
        return int(number), int(count)
    raise UsageError(f"--fold {text}; expected I/K, such as 1/5: the first of five folds")
