"""Measuring a bundle on this machine: stage by stage, end to end, engines and precisions side by side.

    from memedge.bench import bench

    report = bench(["./resnet101-fp32"], engines="all", precisions="all")
    report.print()
    report.save("report.json")
    report.plot("report.png")
"""

from __future__ import annotations

from .report import BenchReport, Result, Spread, from_json
from .runner import bench

__all__ = ["BenchReport", "Result", "Spread", "bench", "from_json"]
