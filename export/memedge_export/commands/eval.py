"""``memedge eval``: how well a checkpoint or a bundle ranks pictures whose scores are known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memedge.errors import UsageError


def command(
    target: Annotated[Path, typer.Argument(help="A bundle's folder, or a weights file.")],
    data: Annotated[str, typer.Option("--data", help="lnsim:DIR or folder:FILE.csv.")],
    split: Annotated[str, typer.Option("--split", help="train, val, test or all.")] = "test",
    model: Annotated[
        str | None,
        typer.Option("--model", help="The model of a weights file that does not name its own."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
    record: Annotated[
        bool, typer.Option("--record", help="Write the result into the checkpoint, so that bundles and cards state it.")
    ] = False,
) -> None:
    """Spearman correlation with its 95 % interval, Pearson and mean squared error on a data set."""
    if split not in ("train", "val", "test", "all"):
        raise UsageError(f"--split {split}; expected train, val, test or all")
    if record and target.is_dir():
        raise UsageError("--record writes into a checkpoint; a bundle cannot be changed")
    from ..data import open_data
    from ..eval.evaluate import evaluate, predictions, record_result

    found = open_data(data)
    records = found.split(split)
    result = evaluate(predictions(target, records, model), [r.score for r in records])
    if record:
        record_result(target, found, split, result)
    if as_json:
        import msgspec

        print(msgspec.json.encode({"target": str(target), "data": found.name, "split": split, **vars(result)}).decode())
        return
    between = result.spearman_interval
    interval = f"  (95 % interval {between[0]:.3f} to {between[1]:.3f})" if between else ""
    print(f"{target} on {found.name} {split}, {result.count} pictures")
    print(f"Spearman {_text(result.spearman)}{interval}")
    print(f"Pearson  {_text(result.pearson)}")
    print(f"MSE      {result.mse:.5f}")


def _text(value: float | None) -> str:
    return "none (constant scores)" if value is None else f"{value:.3f}"
