"""``memedge info``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def command(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle folder. Default: the one that ships.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the manifest's JSON Schema and leave.")] = False,
    card: Annotated[bool, typer.Option("--card", help="Print the model card and leave.")] = False,
) -> None:
    """Show what a bundle is made of."""
    from memedge_engines.manifest import json_schema

    from ..errors import BundleError
    from ..info import info_json, info_lines
    from ..loading import open_bundle

    if schema:
        print(json.dumps(json_schema(), indent=2))
        return
    opened = open_bundle(bundle)
    if card:
        entry = opened.manifest.files.get("model_card")
        if entry is None:
            raise BundleError(f"bundle '{opened.path}' has no model card")
        print(opened.read(entry).decode("utf-8"))
        return
    if as_json:
        print(json.dumps(info_json(opened), indent=2))
    else:
        print("\n".join(info_lines(opened)))
