"""``memedge train``: train a model on pictures with scores, or pretrain a trunk on labelled ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memedge.console import status
from memedge.errors import UsageError


def command(
    model: Annotated[str, typer.Option("--model", help="Which model: see `memedge models`.")],
    data: Annotated[
        list[str],
        typer.Option(
            "--data", help="lnsim:DIR, folder:FILE.csv (may be repeated), or tiny32:DIR to pretrain the trunk."
        ),
    ],
    init: Annotated[
        str | None,
        typer.Option("--init", help="Weights to start from: a file (such as a pretrained trunk) or `imagenet`."),
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
) -> None:
    """Train a model: two phases, best checkpoint by validation Spearman, resumable."""
    if threads < 0 or seed < 0:
        raise UsageError(f"--threads {threads} --seed {seed}; expected 0 or more")
    from ..data.readers import PRETRAINING, parse

    kinds = [parse(spec)[0] for spec in data]
    if PRETRAINING in kinds and len(data) > 1:
        raise UsageError(f"--data {PRETRAINING} pretrains and stands alone; found {', '.join(data)}")
    from ..train import start

    folder = out or Path("runs") / model / f"{'-'.join(_names(data))}-seed{seed}"
    try:
        if kinds == [PRETRAINING]:
            path = start.pretraining(
                model,
                data[0],
                folder,
                init=init,
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
                init=init,
                epochs=epochs,
                batch=batch,
                seed=seed,
                resume=resume,
                bf16=bf16,
                threads=threads,
            )
    except KeyboardInterrupt:
        status(f"interrupted; the last whole epoch is kept in '{folder}': go on with --resume")
        raise
    print(path)


def _names(data: list[str]) -> list[str]:
    names = []
    for spec in data:
        kind, _, path = spec.partition(":")
        names.append(Path(path).stem if kind == "folder" else kind)
    return names
