"""``memedge table``: our own results beside the published ones.

A command of its own, not an option of ``memedge eval``: it reads what was recorded and needs neither data nor a model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memedge.console import status
from memedge.errors import UsageError


def command(
    places: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RESULT",
            help="*.eval.json files, checkpoints, bundles, or folders of them. Default: ./benchmarks/results, ./runs "
            "and the default bundle, as far as they are there.",
        ),
    ] = None,
    metric: Annotated[str, typer.Option("--metric", help="spearman or pearson.")] = "spearman",
    model: Annotated[str, typer.Option("--model", help="Only this model.")] = "",
    data: Annotated[str, typer.Option("--data", help="Only this data set, such as videomem.")] = "",
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV instead of Markdown.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write to this file instead of stdout.")] = None,
) -> None:
    """Our recorded results beside the published figures, with data set, split and source."""
    if metric not in ("spearman", "pearson"):
        raise UsageError(f"--metric {metric}; expected spearman or pearson")
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise UsageError(f"--out '{out}'; expected a file to write in an existing folder")
    from memedge.loading import DEFAULT_BUNDLE
    from memedge.sinks.files import replace_file

    from ..eval.recorded import Metric, collect
    from ..eval.table import rows, to_csv, to_markdown

    usual = (Path("benchmarks") / "results", Path("runs"), DEFAULT_BUNDLE)
    chosen: Metric = "pearson" if metric == "pearson" else "spearman"
    found = rows(collect(places or [p for p in usual if p.is_dir()], chosen), chosen, model=model, data=data)
    if not found:
        raise UsageError(f"nothing was published or measured of {' on '.join(filter(None, (model, data)))}")
    text = to_csv(found) if as_csv else to_markdown(found)
    if out is None:
        print(text, end="")
    else:
        replace_file(out, text.encode())
        status(f"wrote {out}")
