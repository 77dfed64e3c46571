"""A report for people: a table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .report import STAGES, BenchReport, Result, Spread

if TYPE_CHECKING:
    from rich.table import Table

_COLUMNS = ("stage", "p50", "p90", "p99", "max", "mean", "samples")


def head(report: BenchReport) -> list[str]:
    """What was measured, where and how."""
    settings, machine = report.settings, report.environment
    packages = ", ".join(f"{name} {found}" for name, found in machine.packages.items())
    size = f" {settings.width}x{settings.height}" if settings.width else ""
    what = {
        "prepared": "frames rendered beforehand, decoding not included",
        "file": "decoded from the file, which is looped",
        "paced": "a live source at its own pace",
    }[settings.kind]
    clocks = machine.clocks
    mhz = f", {sum(clocks.mhz) / len(clocks.mhz):.0f} MHz now" if clocks.mhz else ""
    flags = f", {' '.join(machine.flags)}" if machine.flags else ""
    where = [machine.board, machine.cpu, f"{machine.usable_cores} of {machine.cores} cores{mhz}", machine.system]
    lines = [
        f"machine   {', '.join(w for w in where if w)}{' (virtual)' if machine.virtual else ''}",
        f"          {machine.machine}{flags}; governor {machine.governor or 'unknown'}; "
        f"load {'unknown' if clocks.load is None else format(clocks.load, '.2f')}",
    ]
    lines += [f"          power mode {machine.power_mode}"] if machine.power_mode else []
    lines += [f"          {gpu}" for gpu in machine.gpus]
    heat = [f"{name} {value:.0f} C" for name, value in clocks.celsius.items()]
    power = [f"{name} {value:.2f} W" for name, value in clocks.watts.items()]
    lines += [f"          {', '.join(heat + power)}"] if heat or power else []
    threads = settings.threads or "all cores"
    how = f"{settings.rounds} rounds in rotating order, {settings.warmup} warm-up frames a run; threads: {threads}"
    return [
        *lines,
        f"software  {machine.python}; {packages}",
        f"source    {settings.source}{size} ({what})",
        f"method    {how}",
    ]


def lines(report: BenchReport) -> list[str]:
    """The whole report, plain and untruncated."""
    out = head(report)
    out += decoding(report)
    for result in report.results:
        out += ["", title(result)]
        out.append("  " + f"{_COLUMNS[0]:<12}" + "".join(f"{name:>10}" for name in _COLUMNS[1:]))
        for name, cells in _rows(result):
            out.append("  " + f"{name:<12}" + "".join(f"{cell:>10}" for cell in cells))
        out += [f"  {text}" for text in figures(result)]
    return [*out, *_closing(report)]


def decoding(report: BenchReport) -> list[str]:
    """What decoding costs when nothing else goes on, where there is a file to decode."""
    if report.decoding is None:
        return []
    alone = report.decoding
    return [f"decoding  alone {alone.wall_ms:.2f} ms a frame, {alone.cpu_ms:.2f} ms of processor time"]


def _closing(report: BenchReport) -> list[str]:
    out = [""] if report.sentences or report.warnings else []
    out += report.sentences
    return out + [f"WARNING {text}" for text in report.warnings]


def title(result: Result) -> str:
    """``bundle, engine precision`` and what is unusual about it."""
    return f"{result.label}{'  UNTRAINED' if result.untrained else ''}"


def figures(result: Result) -> list[str]:
    """Everything about a result that is not a stage."""
    lines = [
        f"throughput {result.throughput_fps:.1f} frames a second, {result.cpu_ms:.2f} ms of processor time a frame, "
        f"{result.cores_busy:.2f} cores busy",
        f"engine opened in {result.open_ms:.0f} ms, {result.engine_cpu_ms:.2f} ms of processor time an inference",
    ]
    for node, spent in result.node_ms.items():
        period = result.node_period_s.get(node, 0.0)
        often = f"every {period:g} s: {100 * spent / 1e3 / period:.1f} % of the time" if period else "at each new input"
        lines.append(f"node {node}: {spent:.2f} ms a run, {often}")
    if result.added_share is not None:
        share = 100 * result.added_share
        lines.append(f"memedge adds {share:.1f} % to the processor time of decoding and engine alone")
    if result.start is not None:
        peak = result.start.peak_memory_mb
        memory = "" if peak is None else f"; peak memory of that process {peak:.0f} MiB"
        lines.append(f"start of a process to its first score {result.start.first_score_ms:.0f} ms{memory}")
    if result.paced is not None:
        age = result.paced.age
        lines.append(
            f"source {result.paced.source_fps:.1f} frames a second, {result.paced.dropped} dropped; "
            f"frame age p50 {age.p50:.1f}, p90 {age.p90:.1f}, p99 {age.p99:.1f}, max {age.max:.1f} ms; "
            f"bound {result.paced.bound_ms:.1f} ms, kept by {100 * result.paced.within_bound:.1f} %"
        )
    if result.repeated:
        lines.append(f"{result.repeated} frames of the throughput runs repeated the one before and took its score")
    lines.append(f"{result.samples} samples, {result.warmup} warm-up frames")
    return lines


def _rows(result: Result) -> list[tuple[str, list[str]]]:
    named: list[tuple[str, Spread]] = [(name, result.stages[name]) for name in STAGES if name in result.stages]
    return [(name, _cells(spread)) for name, spread in [*named, ("end to end", result.end_to_end)]]


def _cells(spread: Spread) -> list[str]:
    values = [f"{value:.3f}" for value in (spread.p50, spread.p90, spread.p99, spread.max, spread.mean)]
    return [*values, str(spread.count)]


def show(report: BenchReport) -> None:
    """Print to stdout: tables on a terminal, plain lines elsewhere."""
    if not sys.stdout.isatty():
        print("\n".join(lines(report)))
        return
    from rich.console import Console

    console = Console(highlight=False)
    for line in head(report) + decoding(report):
        console.print(line, markup=False, style="dim")
    if report.results:
        console.print(_overview(report))
    for result in report.results:
        console.print(_stage_table(result))
        for text in figures(result):
            console.print(f"  {text}", markup=False)
    for line in report.sentences:
        console.print(line, markup=False)
    for line in report.warnings:
        console.print(f"WARNING {line}", markup=False, style="yellow")


def _overview(report: BenchReport) -> Table:
    from rich.table import Table

    table = Table(title="side by side (ms, p50)", title_justify="left")
    table.add_column("bundle, engine")
    stages = [name for name in STAGES if any(name in r.stages for r in report.results)]
    for name in [*stages, "end to end", "p99", "fps", "CPU ms", "MiB"]:
        table.add_column(name, justify="right")
    for result in report.results:
        cells = [f"{result.stages[s].p50:.2f}" if s in result.stages else "" for s in stages]
        peak = result.start.peak_memory_mb if result.start is not None else None
        table.add_row(
            title(result),
            *cells,
            f"{result.end_to_end.p50:.2f}",
            f"{result.end_to_end.p99:.2f}",
            f"{result.throughput_fps:.1f}",
            f"{result.cpu_ms:.2f}",
            "" if peak is None else f"{peak:.0f}",
        )
    return table


def _stage_table(result: Result) -> Table:
    from rich.table import Table

    table = Table(title=f"{title(result)} (ms)", title_justify="left")
    for number, name in enumerate(_COLUMNS):
        table.add_column(name, justify="right" if number else "left")
    for name, cells in _rows(result):
        table.add_row(name, *cells)
    return table
