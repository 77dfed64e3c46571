"""Sinks: where readings go. Each is found by name and imported on use; other packages add theirs through the
entry-point group ``memedge.sinks`` (name = "package.module:SinkClass").
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ..errors import SinkError, UsageError

if TYPE_CHECKING:
    from .base import Sink

GROUP = "memedge.sinks"
_OWN = {
    "jsonl": "jsonl:JsonlSink",
    "csv": "csv:CsvSink",
    "summary-csv": "summary_csv:SummaryCsvSink",
    "video": "video:VideoSink",
    "moments": "moments:MomentsSink",
    "terminal": "terminal:TerminalSink",
    "show": "show:ShowSink",
    "synthetic": "synthetic:SyntheticSink",
}


def sink_names() -> list[str]:
    """Names of all sinks, the project's own and those of other packages, sorted."""
    from importlib.metadata import entry_points

    return sorted({*_OWN, *(point.name for point in entry_points(group=GROUP))})


def sink_class(name: str) -> type[Sink]:
    """The class of a sink by name.

    Raises:
        UsageError: no sink has this name.
        SinkError: another package's sink cannot be imported.
    """
    if name in _OWN:
        module, attribute = _OWN[name].split(":")
        found: type[Sink] = getattr(import_module(f".{module}", __name__), attribute)
        return found
    from importlib.metadata import entry_points

    for point in entry_points(group=GROUP):
        if point.name == name:
            try:
                loaded: type[Sink] = point.load()
            except Exception as error:
                raise SinkError(f"sink '{name}' ({point.value}) cannot be imported: {error}") from error
            return loaded
    from difflib import get_close_matches

    near = get_close_matches(name, sink_names(), n=1)
    hint = f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(sink_names())}"
    raise UsageError(f"unknown sink '{name}'{hint}")
