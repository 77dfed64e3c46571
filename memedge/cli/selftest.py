"""``memedge selftest``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def command(
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Test the GPU too: driver, kernel, TensorRT. About two minutes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    bundle: Annotated[Path | None, typer.Option(help="Bundle to test with. Default: the one that ships.")] = None,
) -> None:
    """Test memedge on this machine; a report to paste into an issue, exit 1 when something failed."""
    from ..console import progress
    from ..loading import open_bundle
    from ..selftest import selftest

    opened = open_bundle(bundle)
    with progress("selftest") as tracker:
        report = selftest(opened, gpu, tracker)
    print(json.dumps(report.to_json(), indent=2) if as_json else "\n".join(report.lines()))
    if not report.passed:
        raise typer.Exit(1)
