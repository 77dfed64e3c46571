"""Terminal view on stderr: a live panel per bundle on a terminal, plain lines about once a second elsewhere.

Nothing is ever written to stdout, so ``--jsonl -`` stays clean.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

from ..reading import Reading
from ..shown import NewestOutputs
from .base import Picture, Sink, SinkContext, Summary
from .overlay import History, value_range

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

LIVE_S = 0.125
PLAIN_S = 1.0
# A log that grows for months: after the first minute a plain line every ten seconds is enough.
PLAIN_LATER_S = 10.0
_PLAIN_LINES = 60
_BARS = "▁▂▃▄▅▆▇█"
_DIGITS = {
    "0": ("┏━┓", "┃ ┃", "┗━┛"), "1": (" ╻ ", " ┃ ", " ╹ "), "2": ("╺━┓", "┏━┛", "┗━╸"), "3": ("╺━┓", " ━┫", "╺━┛"),
    "4": ("╻ ╻", "┗━┫", "  ╹"), "5": ("┏━╸", "┗━┓", "╺━┛"), "6": ("┏━╸", "┣━┓", "┗━┛"), "7": ("╺━┓", "  ┃", "  ╹"),
    "8": ("┏━┓", "┣━┫", "┗━┛"), "9": ("┏━┓", "┗━┫", "╺━┛"), ".": (" ", " ", "•"), "-": ("   ", "╺━╸", "   "),
}  # fmt: skip
_STAGES = ("decode", "preprocess", "infer", "rolling", "sinks", "total")


class TerminalSink(Sink):
    """Shows rolling score, percentile, the last window as a sparkline, frames per second, stage latencies and drops.

    ``stats`` as the loop passes it: ``fps`` (frames per second), ``stages`` (name to something with
    ``percentile(50)`` or ``p50``, milliseconds), ``drops`` (reason to count). All are optional.

    Args:
        stream: where to write; none is stderr.
        live: draw a live view; none does so when the stream is a terminal.
    """

    def __init__(self, stream: TextIO | None = None, live: bool | None = None) -> None:
        self._stream = stream
        self._wanted = live
        self._context: SinkContext | None = None
        self._console: Console | None = None
        self._live: Live | None = None
        self._newest: dict[str, Reading] = {}
        self._histories: dict[str, History] = {}
        self._outputs: dict[str, NewestOutputs] = {}
        self._stats: dict[str, dict[str, Any]] = {}
        self._shown = -1e9
        self._plain = 0
        self._quiet = False

    def start(self, context: SinkContext) -> None:
        """A new view for this source."""
        self._stop()
        self._context = context
        self._newest, self._histories, self._stats = {}, {}, {}
        self._outputs = {bundle: NewestOutputs(shown) for bundle, shown in context.shown.items()}
        self._shown = -1e9
        stream = self._stream or sys.stderr
        if self._wanted is False or not (self._wanted or _is_terminal(stream)):
            return
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=stream, highlight=False, force_terminal=True if self._wanted else None)
        if not (self._console.encoding or "").lower().startswith("utf"):
            self._console = None  # the digits and bars would not show
            return
        self._live = Live(
            console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=self._stream is None
        )
        self._live.start()

    def write(self, reading: Reading, picture: Picture | None, stats: dict[str, Any]) -> None:
        """Remember the reading; draw when it is time."""
        if self._context is None:
            return
        self._newest[reading.bundle] = reading
        self._stats[reading.bundle] = stats
        history = self._histories.setdefault(reading.bundle, History(self._context.window_s))
        history.add(reading.time_s, reading.rolling, reading.score)
        if reading.bundle in self._outputs:
            self._outputs[reading.bundle].update(reading)
        if self._context.bundles and reading.bundle != self._context.bundles[-1]:
            return
        now = time.monotonic()
        plain_s = PLAIN_S if self._plain < _PLAIN_LINES else PLAIN_LATER_S
        if now - self._shown >= (LIVE_S if self._live is not None else plain_s):
            self._shown = now
            self._plain += 1
            self._show()

    def finish(self, summary: Summary) -> None:
        """Show the last state once more; the view stays on the screen."""
        if self._context is None or (self._context.bundles and summary.bundle != self._context.bundles[-1]):
            return
        if self._live is not None and self._newest:
            self._show()
        self._stop()

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._stop()

    def _stop(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            with contextlib.suppress(OSError, ValueError):
                live.stop()

    def _show(self) -> None:
        if self._quiet:
            return
        try:
            if self._live is not None:
                self._live.update(self._view(), refresh=True)
            else:
                for reading in self._newest.values():
                    print(self._line(reading), file=self._stream or sys.stderr, flush=True)
        except (OSError, ValueError):
            # The terminal went away: the view is a convenience, scoring goes on.
            self._quiet = True

    def _line(self, reading: Reading) -> str:
        """One plain line: time, rolling score, percentile, frame score, rate, drops, marks."""
        assert self._context is not None
        stats = self._stats.get(reading.bundle, {})
        parts = [self._context.source.label, self._clock(reading)]
        if len(self._context.bundles) > 1:
            parts.insert(1, f"[{reading.bundle}]")
        rank = "" if reading.percentile is None else f" (percentile {reading.percentile:.0f})"
        parts.append(f"rolling {_number(reading.rolling)}{rank}{'' if reading.complete else ' filling'}")
        parts.append(f"frame {_number(reading.score)}")
        further = self._further(reading.bundle)
        if further:
            parts.append(further)
        if stats.get("fps"):
            parts.append(f"{stats['fps']:.1f} fps")
        drops = _drops(stats)
        if drops:
            parts.append(f"dropped {drops}")
        parts += [flag for flag in reading.flags if flag in ("black", "frozen", "corrupt")]
        if reading.bundle in self._context.untrained:
            parts.append("UNTRAINED")
        return "  ".join(parts)

    def _further(self, bundle: str) -> str:
        """Class probabilities, contributions and decay in words; empty where a bundle gives none."""
        return self._outputs[bundle].text() if bundle in self._outputs else ""

    def _clock(self, reading: Reading) -> str:
        assert self._context is not None
        duration = self._context.source.duration_s
        if not duration or self._context.source.live:
            return f"{reading.time_s:.1f} s"
        return f"{reading.time_s:.1f}/{duration:.1f} s {min(100.0, 100 * reading.time_s / duration):.0f} %"

    def _view(self) -> RenderableType:
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        assert self._context is not None
        assert self._console is not None
        width = max(40, min(self._console.width, 110))
        panels: list[RenderableType] = []
        for bundle, reading in self._newest.items():
            untrained = bundle in self._context.untrained
            lines = [self._scores(reading, width - 4)]
            further = self._further(bundle)
            if further:
                text = Text(further, "dim", no_wrap=True, overflow="ellipsis")
                text.truncate(width - 4)
                lines.append(text)
            if untrained:
                lines.append(Text(" UNTRAINED: scores mean nothing ", style="bold black on yellow"))
            target = self._context.primary.get(bundle, "")
            title = Text(f" {bundle} · {target} " if target else f" {bundle} ", style="bold")
            border = "yellow" if untrained else "cyan"
            panels.append(Panel(Group(*lines), title=title, title_align="left", border_style=border, width=width))
        panels.append(self._status(width))
        return Group(*panels)

    def _scores(self, reading: Reading, width: int) -> RenderableType:
        """Large rolling score, facts beside it, sparkline to the right."""
        from rich.table import Table
        from rich.text import Text

        assert self._context is not None
        digits = [_DIGITS.get(c, ("   ",) * 3) for c in _number(reading.rolling)]
        style = "bold cyan" if reading.complete else "cyan"
        large = Text("\n".join("".join(d[row] for d in digits) for row in range(3)), style=style, no_wrap=True)
        rank = "-" if reading.percentile is None else f"{reading.percentile:.0f}"
        filling = "" if reading.complete else f"  {100 * reading.coverage:.0f} % full"
        facts = Text.assemble(
            ("percentile ", "dim"), (f"{rank:<5}", "bold"), "\n",
            ("this frame ", "dim"), f"{_number(reading.score):<5}", "\n",
            ("rolling ", "dim"), (f"{self._context.window_s:g} s{filling}", "dim"), no_wrap=True,
        )  # fmt: skip
        grid = Table.grid(padding=(0, 2))
        grid.add_column(width=13, no_wrap=True)
        grid.add_column(width=24, no_wrap=True)
        room = width - 13 - 24 - 6
        cells: list[RenderableType] = [large, facts]
        if room >= 14:
            grid.add_column(no_wrap=True)
            cells.append(self._spark(reading, room))
        grid.add_row(*cells)
        return grid

    def _spark(self, reading: Reading, room: int) -> RenderableType:
        """Two rows of bars over the last window, newest on the right, and the range they show."""
        from rich.text import Text

        history = self._histories[reading.bundle]
        columns = min(room - 6, 60)
        values: list[float | None] = [None] * columns
        for time_s, rolling, _ in history.points:
            place = int((1 - (reading.time_s - time_s) / history.window_s) * (columns - 1) + 0.5)
            if rolling is not None:
                values[max(0, min(columns - 1, place))] = rolling
        # A slow source leaves columns between its readings: the value holds until the next one.
        for i in range(1, columns):
            if values[i] is None:
                values[i] = values[i - 1]
        low, high = value_range([v for v in values if v is not None])
        rows = ["", ""]
        for value in values:
            level = -1 if value is None else round((value - low) / (high - low) * 15)
            rows[0] += " " if level < 8 else _BARS[level - 8]
            rows[1] += " " if level < 0 else _BARS[min(level, 7)]
        text = Text(no_wrap=True)
        text.append(rows[0], "cyan")
        text.append(f" {high:.1f}\n", "dim")
        text.append(rows[1], "cyan")
        text.append(f" {low:.1f}\n", "dim")
        text.append(f"{'-' + format(history.window_s, 'g') + ' s':<{columns - 3}}now", "dim")
        return text

    def _status(self, width: int) -> RenderableType:
        """Source, time, rate, stage latencies, drops, flags."""
        from rich.text import Text

        assert self._context is not None
        reading = next(reversed(self._newest.values()))
        stats = self._stats.get(reading.bundle, {})
        first = Text(no_wrap=True, overflow="ellipsis")
        first.append(f" {self._context.source.label}", "bold")
        first.append(f"  {self._clock(reading)}")
        if stats.get("fps"):
            first.append(f"  {stats['fps']:.1f} fps", "green")
        drops = _drops(stats)
        first.append(f"  dropped {drops}" if drops else "  no drops", "yellow" if drops else "dim")
        first.append(f"  {reading.engine} {reading.precision}".rstrip(), "dim")
        for flag in reading.flags:
            if flag not in ("untrained", "not_due"):
                first.append(f"  {flag}", "magenta")
        second = Text(" ms ", "dim", no_wrap=True, overflow="ellipsis")
        for name, value in _stages(stats):
            second.append(f" {name} ", "dim")
            second.append(f"{value:.1f}")
        rows = [first, second] if _stages(stats) else [first]
        for row in rows:
            row.truncate(width)
        return Text("\n").join(rows)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:
        return False


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _drops(stats: Mapping[str, Any]) -> str:
    """``3 busy, 1 corrupt``, or nothing."""
    return ", ".join(f"{count} {reason}" for reason, count in (stats.get("drops") or {}).items() if count)


def _stages(stats: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Median milliseconds of each stage that has any, in the order of the pipeline."""
    found: list[tuple[str, float]] = []
    stages: Mapping[str, Any] = stats.get("stages") or {}
    for name in (*_STAGES, *(n for n in stages if n not in _STAGES)):
        entry = stages.get(name)
        if entry is None or getattr(entry, "count", 1) == 0:
            continue
        found.append((name, float(entry.p50 if hasattr(entry, "p50") else entry.percentile(50))))
    return found
