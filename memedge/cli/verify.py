"""``memedge verify``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def command(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder. Default: the one that ships.")] = None,
    engine: Annotated[str | None, typer.Option(help="Only this engine. Default: every usable one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Rerun a bundle's golden frames on this device with every usable engine; exit 1 past the recorded tolerance."""
    from ..console import progress
    from ..loading import open_bundle
    from ..verify import verify

    opened = open_bundle(bundle)
    with progress(f"verify {opened.manifest.name}") as tracker:
        report = verify(opened, engine, tracker)
    print(json.dumps(report.to_json(), indent=2) if as_json else "\n".join(report.lines()))
    if not report.passed:
        raise typer.Exit(1)
