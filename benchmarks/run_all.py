"""Every benchmark in one run on one machine, some seven minutes: `python benchmarks/run_all.py [--out DIR]`.

Writes `<date>-<machine>.json` (everything) and `.md` (for people). Run it on a machine that does nothing else: the
report says how busy others kept it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import bench_engines
import bench_memory
import bench_overhead
import bench_start
import bench_user_loop
from common import ROOT, Budget, bundles, say, slug
from markdown import page
from media import clip

from memedge.bench import BenchReport, bench
from memedge.environment import clocks, environment
from memedge.errors import MemedgeError
from memedge_engines.bundle import Bundle
from memedge_engines.preprocess import preprocessing

SCHEMA = 1
_LIVE = "test://?size=1280x720&fps=30"


class Suite:
    """Runs the parts one after the other; one that fails is named and the others go on."""

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.record: dict[str, Any] = {}
        self.reports: dict[str, BenchReport] = {}
        self.budgets: list[Budget] = []
        self.failed: dict[str, str] = {}

    def part(self, name: str, work: Callable[[], Any]) -> None:
        """Run one part and keep what it returns under its name."""
        begin = time.perf_counter()
        try:
            self.record[name] = work()
        except (MemedgeError, LookupError, RuntimeError, OSError) as error:
            self.failed[name] = f"{type(error).__name__}: {error}"
            say(f"{name} failed: {error}")
        say(f"{name}: {time.perf_counter() - begin:.0f} s")

    def keep(self, found: tuple[Any, list[Budget]]) -> Any:
        """The figures of a script; its budgets are added to the list."""
        self.budgets += found[1]
        return found[0]

    def bench(self, name: str, opened: list[Bundle], source: str | None, seconds: float, **options: Any) -> Any:
        """One ``memedge bench``."""
        say(f"bench: {name}")
        report = bench(opened, source, seconds=max(0.5, seconds * self.scale), rounds=5, **options)
        self.reports[name] = report
        return json.loads(report.to_json())


def run(opened: list[Bundle], video: Path, scale: float = 1.0) -> dict[str, Any]:
    """All parts; ``scale`` shortens or lengthens all of them alike. The record that is written as JSON."""
    suite = Suite(scale)
    rounds = 5 if scale >= 0.5 else 2
    before = environment()
    begin = time.perf_counter()
    everything = {"engines": "all", "precisions": "all"}
    suite.part("start", lambda: suite.keep(bench_start.measure(video, runs=rounds)))
    suite.part("file", lambda: suite.bench("file", opened, str(video), 10.0, **everything))
    suite.part("prepared", lambda: suite.bench("prepared", opened, None, 5.0, start=False, **everything))
    suite.part("live", lambda: suite.bench("live", opened, _LIVE, 8.0, start=False))
    suite.part(
        "engines", lambda: [suite.keep(bench_engines.measure(b, rounds + 2, max(0.05, 0.4 * scale))) for b in opened]
    )
    frames = max(rounds * 2, round(100 * scale))
    suite.part("user_loop", lambda: [suite.keep(bench_user_loop.measure(b, video, rounds, frames)) for b in opened])
    suite.part("overhead", lambda: suite.keep(bench_overhead.measure(frames=max(20, round(300 * scale)))))
    suite.part("memory", lambda: [suite.keep(bench_memory.measure(b, _memory_frames(b, scale))) for b in opened])
    for name, report in suite.reports.items():
        suite.budgets += _bench_budgets(name, report)
    return {
        "schema": SCHEMA,
        "date": date.today().isoformat(),
        "machine": slug(before),
        "environment": _plain(before),
        "clocks_after": _plain(clocks()),
        "seconds": round(time.perf_counter() - begin, 1),
        "budgets": [asdict(budget) for budget in suite.budgets],
        "failed": suite.failed,
        **suite.record,
    }


def _memory_frames(bundle: Bundle, scale: float) -> int:
    """Thousands of frames of a small network, hundreds of a large one: about half a minute."""
    macs = bundle.manifest.provenance.macs or 0
    return max(120, round((6000 if macs < 1_000_000_000 else 700) * scale))


def _bench_budgets(name: str, report: BenchReport) -> list[Budget]:
    """Budgets that a report of ``memedge bench`` can answer."""
    made = []
    for result in report.results:
        without = preprocessing()[1] is not None
        note = "the limit is for the compiled fast path: reported only" if without else ""
        if name == "file" and result.added_share is not None and result.bundle.startswith("resnet101"):
            made.append(
                Budget.at_most(
                    f"{result.label}: what memedge adds to the processor time of decoding and engine, 1080p",
                    100 * result.added_share, 15, "%", note, report=without,
                )
            )  # fmt: skip
        if result.paced is not None:
            made.append(
                Budget.at_least(
                    f"{result.label}: readings of a live source no older than one inference and one frame interval",
                    100 * result.paced.within_bound, 99, "%", f"bound {result.paced.bound_ms:.1f} ms",
                )
            )  # fmt: skip
    return made


def _plain(value: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(value)


def main() -> int:
    """Run everything and write both files; 1 when a part failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the results")
    parser.add_argument("--bundle", type=Path, action="append", default=[], help="default: ours and resnet101")
    parser.add_argument("--source", type=Path, help="video file; default: the rendered 1080p clip")
    parser.add_argument("--scale", type=float, default=1.0, help="length of all measurements")
    arguments = parser.parse_args()
    record = run(bundles(arguments.bundle), arguments.source or clip(), arguments.scale)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"{record['date']}-{record['machine']}.json"
    # Where the project lies on this machine is nobody's business.
    path.write_text(json.dumps(record, indent=1).replace(f"{ROOT}/", "") + "\n", encoding="utf-8")
    text = page(record)
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)
    say(f"wrote {path} and {path.with_suffix('.md').name} after {record['seconds']:.0f} s")
    for name, reason in record["failed"].items():
        say(f"FAILED {name}: {reason}")
    return 1 if record["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
