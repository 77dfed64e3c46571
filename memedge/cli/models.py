"""``memedge models``."""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
import typer


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print the cards as JSON.")] = False,
) -> None:
    """List the models, with input, size and published correlation."""
    from ..console import status
    from ..models import Card, cards, note

    found = cards()
    if as_json:
        print(msgspec.json.format(msgspec.json.encode({"note": note(), "cards": found}), indent=2).decode())
        return

    def row(card: Card) -> tuple[str, ...]:
        return (
            card.id,
            card.status + (" (ours)" if card.ours else ""),
            card.input,
            "-" if card.parameters is None else f"{card.parameters / 1e6:.2f} M",
            "-" if card.macs is None else f"{card.macs / 1e9:.2f} G",
            card.published or "none",
        )

    head = ("model", "status", "input", "parameters", "MACs", "published Spearman")
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(*head, box=None, header_style="bold")
        for card in found:
            table.add_row(*row(card), style="" if card.status == "available" else "dim")
        Console(highlight=False).print(table)
    else:
        print("\t".join(head))
        for card in found:
            print("\t".join(row(card)))
    status(note())
