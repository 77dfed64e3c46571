"""``memedge eval``: how well checkpoints and bundles rank pictures and videos whose scores are known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memedge.errors import UsageError

_SPLITS = ("train", "val", "test", "all", "unscored")
_SAMPLINGS = ("S7", "S28", "S4", "K3", "F1", "all")


def command(
    targets: Annotated[
        list[Path],
        typer.Argument(metavar="MODEL", help="Bundles, run folders or weights files; the first is compared with."),
    ],
    data: Annotated[
        list[str], typer.Option("--data", help="KIND:PATH of a data set; may be repeated.", metavar="KIND:PATH")
    ],
    split: Annotated[
        str, typer.Option("--split", help="train, val, test, all, or unscored: only to be predicted.")
    ] = "test",
    target: Annotated[
        str, typer.Option("--target", help="short_term, long_term ..., or all that models and sets share.")
    ] = "all",
    model: Annotated[
        str | None,
        typer.Option("--model", help="The model of a weights file that does not name its own."),
    ] = None,
    engines: Annotated[
        list[str] | None, typer.Option("--engine", help="Engine of the bundles; may be repeated.")
    ] = None,
    precisions: Annotated[
        list[str] | None, typer.Option("--precision", help="Precision of the bundles; may be repeated.")
    ] = None,
    sampling: Annotated[
        str | None,
        typer.Option(
            "--sampling",
            help="Frames of videos for frame models' checkpoints: S7, S28, S4, K3, F1 or all. Default: the set's own.",
        ),
    ] = None,
    words: Annotated[
        Path | None, typer.Option("--words", help="Word vectors for the titles of checkpoints that take them.")
    ] = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out what cannot be read, and count it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
    save: Annotated[
        Path | None, typer.Option("--save", help="The JSON object as NAME.eval.json, for `memedge table`.")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option("--predictions", help="CSV of human and predicted scores, record by record.")
    ] = None,
    run_file: Annotated[
        Path | None, typer.Option("--run-file", help="MediaEval run file: name,score[,confidence] lines.")
    ] = None,
    confidence: Annotated[
        float | None, typer.Option("--confidence", help="Third column of the run file, the same in every row.")
    ] = None,
    scatter: Annotated[
        Path | None, typer.Option("--scatter", help="PNG, SVG or PDF: human against predicted scores.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--page", help="HTML with the best and worst predictions, for your own eyes.")
    ] = None,
    page_count: Annotated[int, typer.Option("--page-count", help="Records under each heading of the page.")] = 12,
    matrix: Annotated[bool, typer.Option("--matrix", help="Also print a table of models by data sets.")] = False,
    matrix_files: Annotated[
        list[Path] | None,
        typer.Option("--matrix-file", help="That table as CSV, or as heat map (PNG, SVG, PDF); may be repeated."),
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Write the result into the checkpoint, so that bundles and cards state it.")
    ] = False,
) -> None:
    """Spearman, Pearson and mean squared error with 95 % intervals, on data sets."""
    if split not in _SPLITS:
        raise UsageError(f"--split {split}; expected {', '.join(_SPLITS)}")
    if sampling is not None and sampling not in _SAMPLINGS:
        raise UsageError(f"--sampling {sampling}; expected {', '.join(_SAMPLINGS)}")
    if record and any((path / "manifest.json").is_file() for path in targets):
        raise UsageError("--record writes into a checkpoint; a bundle cannot be changed")
    if record and (len(targets), len(data)) != (1, 1):
        raise UsageError(f"--record takes one checkpoint and one --data; found {len(targets)} and {len(data)}")
    from ..eval.outputs import Outputs
    from ..eval.session import Request, run

    run(
        Request(
            targets=tuple(targets),
            data=tuple(data),
            split=split,
            target=target,
            model=model,
            engines=tuple(engines or ()),
            precisions=tuple(precisions or ()),
            sampling=sampling or "",
            words=words,
            skip_unreadable=skip_unreadable,
            as_json=as_json,
            matrix=matrix,
            record=record,
            outputs=Outputs(
                save, predictions, run_file, confidence, scatter, page, page_count, tuple(matrix_files or ())
            ),
        )
    )
