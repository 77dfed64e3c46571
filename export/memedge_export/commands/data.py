"""``memedge data``: the kinds of data sets, and a check of a copy against the published figures."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from memedge.console import status
from memedge.errors import UsageError

_ACTIONS = ("list", "check", "unpack")


def command(
    action: Annotated[
        str, typer.Argument(help="list (the kinds), check (a copy), or unpack (the pictures of sun:DIR).")
    ] = "list",
    spec: Annotated[str | None, typer.Argument(help="KIND:PATH, for check and unpack.", metavar="[KIND:PATH]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the kinds of data sets, or check a copy of one against the published figures."""
    if action not in _ACTIONS:
        raise UsageError(f"memedge data {action}; expected {', '.join(_ACTIONS)}")
    if (action == "list") != (spec is None):
        wanted = "nothing more" if action == "list" else "KIND:PATH, for example lamem:DIR"
        raise UsageError(f"memedge data {action} {spec or ''}".rstrip() + f"; expected {wanted}")
    if spec is None:
        _list(as_json)
    elif action == "unpack":
        _unpack(spec)
    else:
        _check(spec, as_json)


def _list(as_json: bool) -> None:
    from ..data.readers import KINDS

    if as_json:
        print(json.dumps({name: {"form": kind.form, "text": kind.text} for name, kind in KINDS.items()}, indent=2))
        return
    width = max(len(kind.form) for kind in KINDS.values())
    for kind in KINDS.values():
        print(f"{kind.form:<{width}}  {kind.text}")


def _check(spec: str, as_json: bool) -> None:
    from ..data.check import check

    report = check(spec)
    print(json.dumps(report.to_json(), indent=2) if as_json else "\n".join(report.lines()))
    if not report.passed:
        raise typer.Exit(1)


def _unpack(spec: str) -> None:
    from ..data.readers import parse
    from ..data.sun import unpack

    found = parse(spec, "memedge data unpack")
    if found.kind != "sun":
        raise UsageError(f"memedge data unpack {spec}; only sun:DIR keeps its pictures in a matrix")
    count = unpack(found.path)
    status(f"{count} pictures were written; next: memedge data check {spec}")
