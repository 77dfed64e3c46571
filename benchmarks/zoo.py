"""One row for each published system: built, counted, exported, quantised, built by TensorRT, timed; and what the tests
say of training, imports and streaming.

    python benchmarks/zoo.py full [ID ...]     every system at full size: counts, graphs equal to torch, time a frame
    python benchmarks/zoo.py narrow [ID ...]   an eighth as wide: int8 / fp16 fidelity, TensorRT-RTX
    python benchmarks/zoo.py tests             the tests that zoo_tests names for a column of the table
    python benchmarks/zoo.py table             the table, from what the others found
    python benchmarks/zoo.py readme            the README's table of systems

Each system runs in a process of its own; a run that was interrupted goes on where it stopped (``--again`` starts over).
Weights are random: the figures say what a system costs, not what it knows.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FRAME_IDS = ("resnet18", "resnet101")
# Combinations of M3-S's modules, whose networks are those of m3s, m3s-low, m3s-mid, m3s-high and m3s-sim.
MIXED = tuple(f"m3s-{letters}" for letters in ["lmh", "lms", "lhs", "mhs", "lm", "lh", "ls", "mh", "ms", "hs"])
NARROW = 0.125
_SLOWEST_S = 1800


def ids() -> list[str]:
    """All systems of the zoo, and the frame models that are published."""
    from memedge_export.models.system import system_names

    return sorted([*FRAME_IDS, *system_names()])


def system(name: str, width: float) -> Any:
    """A published system with seeded weights; frame models as a system of one node."""
    from memedge_export.models.system import build_system, system_entry

    entry = system_entry(name)
    return None if entry is None else build_system(entry, width=width)


def full(name: str) -> dict[str, Any]:
    """Counts, parity and times at full size."""
    import numpy as np

    from memedge_export import golden, system_untrained
    from memedge_export.models import count
    from memedge_export.system_graphs import export_nodes, fed, session_runner, shown

    if name in FRAME_IDS:
        return _full_frame(name)
    # A few pictures settle activations of ordinary size; 64 of them would take hours on the large systems.
    system_untrained.CLIPS, system_untrained.PICTURES = 2, 4
    network = system(name, 1.0)
    found: dict[str, Any] = {"parameters": count.parameters(network)}
    system_untrained.initialise(network)
    frames = shown(network.dataflow, golden.rendered()[:1])
    graphs = export_nodes(network, frames, tell=lambda text: None)
    manifest = network.dataflow
    nodes = {name: graph.exported.data for name, graph in graphs.items()}
    macs = {key: graph.macs for key, graph in graphs.items()}
    found["macs"] = sum(macs.values())
    found["worst"] = {key: float(graph.worst) for key, graph in graphs.items()}
    periods = {node.name: node.period_s for node in manifest.nodes}
    followed = {node.name: node.after or _first_source(node) for node in manifest.nodes}
    del network, graphs
    gc.collect()
    run = session_runner(nodes)
    inputs = fed(manifest, frames, 0, run)
    found["nodes"] = {}
    for node in manifest.nodes:
        if node.kind != "graph":
            continue
        times = []
        for _ in range(4):
            begin = time.perf_counter()
            run(node, inputs[node.name])
            times.append(time.perf_counter() - begin)
        median = float(np.median(times[1:]))
        found["nodes"][node.name] = {
            "ms": median * 1e3,
            "macs": macs[node.name],
            "period_s": _period(node.name, periods, followed),
        }
    found["seconds_per_second"] = sum(n["ms"] / 1e3 / n["period_s"] for n in found["nodes"].values() if n["period_s"])
    return found


def combined(name: str, whole: dict[str, Any]) -> dict[str, Any]:
    """A combination of M3-S's modules: its own head at full size; HRNet and CSN, which are those of ``m3s``, give
    random features here, and their parity and times are those found for ``m3s``."""
    import dataclasses

    import numpy as np
    import torch

    from memedge_export import golden
    from memedge_export.models import count
    from memedge_export.system_graphs import export_nodes, fed, session_runner, shown

    class Features(torch.nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.direction = torch.nn.Parameter(torch.randn(1, size))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
            return (x.flatten(1).mean(1, keepdim=True) * self.direction,)

    torch.manual_seed(0)
    network = system(name, 1.0).eval()
    found: dict[str, Any] = {"parameters": count.parameters(network)}
    for node in ("mid", "high"):
        if node in network.graphs:
            trunk = network.graphs[node].module
            while not hasattr(trunk, "features"):  # wrapped for its outputs
                trunk = next(trunk.children())
            stub = Features(trunk.features)
            network.graphs[node] = dataclasses.replace(network.graphs[node], module=stub, form=None)
    frames = shown(network.dataflow, golden.rendered()[:1])
    graphs = export_nodes(network, frames, tell=lambda text: None)
    run = session_runner({node: graph.exported.data for node, graph in graphs.items()})
    inputs = fed(network.dataflow, frames, 0, run)["head"]
    times = []
    for _ in range(4):
        begin = time.perf_counter()
        run(network.node("head"), inputs)
        times.append(time.perf_counter() - begin)
    head = {**whole["nodes"]["head"], "ms": float(np.median(times[1:])) * 1e3, "macs": graphs["head"].macs}
    theirs = [node for node in ("pca", "mid", "high") if node in network.graphs]
    found["nodes"] = {**{node: whole["nodes"][node] for node in theirs}, "head": head}
    found["worst"] = {**{node: whole["worst"][node] for node in theirs}, "head": float(graphs["head"].worst)}
    found["macs"] = sum(one["macs"] for one in found["nodes"].values())
    found["seconds_per_second"] = sum(n["ms"] / 1e3 / n["period_s"] for n in found["nodes"].values() if n["period_s"])
    found["of_m3s"] = theirs
    return found


def _first_source(node: Any) -> str:
    return next((item.source.partition(".")[0] for item in node.inputs if "." in item.source), "")


def _period(node: str, periods: dict[str, float], followed: dict[str, str]) -> float:
    """Seconds between two runs of a node; of one that follows others, theirs."""
    while node and not periods[node]:
        node = followed[node]
    return periods[node] if node else 0.0


def _full_frame(name: str) -> dict[str, Any]:
    import numpy as np

    from memedge_export import golden, models, untrained, weights
    from memedge_export.models import count
    from memedge_export.onnx_export import check_parity, export_graph, open_session

    entry = models.entry(name)
    network = weights.build(entry, seed=0)
    untrained.PICTURES = 8
    untrained.initialise(network, entry.preprocess)
    size = models.input_size(entry.preprocess)
    graph = export_graph(network, size)
    tensors = np.concatenate([golden.rounded_tensor(f, entry.preprocess) for f in golden.rendered()[:3]])
    worst = float(check_parity(network, graph, tensors))
    session = open_session(graph)
    times = []
    for _ in range(4):
        begin = time.perf_counter()
        session.run(["score"], {"frames": tensors[:1]})
        times.append(time.perf_counter() - begin)
    ms = float(np.median(times[1:])) * 1e3
    return {
        "parameters": count.parameters(network),
        "macs": count.macs(network, size),
        "worst": {"model": worst},
        "nodes": {"model": {"ms": ms, "macs": count.macs(network, size), "period_s": 1.0}},
        "seconds_per_second": ms / 1e3,
    }


def tests() -> dict[str, dict[str, str]]:
    """Id to column to ``passed``, ``failed``, ``skipped`` or ``not run``, of the tests that ``zoo_tests`` names."""
    from zoo_tests import NO_PUBLIC_FILES, TESTS

    wanted = sorted({node for column in TESTS.values() for node in column})
    files = sorted({node.partition("::")[0] for node in wanted})
    outcomes: dict[str, str] = {}
    for begin in range(0, len(files), _FILES_A_PROCESS):
        some = files[begin : begin + _FILES_A_PROCESS]
        outcomes |= _ran([node for node in wanted if node.partition("::")[0] in some])
    found: dict[str, dict[str, str]] = {name: {"imported": "none public"} for name in NO_PUBLIC_FILES}
    for column, nodes in TESTS.items():
        for node, names in nodes.items():
            # Without brackets a node is the test with all its parameters.
            own = [outcomes[case] for case in outcomes if node in (case, case.partition("[")[0])]
            for name in names:
                row = found.setdefault(name, {})
                row[column] = min([*own, row.get(column, "passed")] if own else ["not run"], key=_WORST.index)
    return found


_FILES_A_PROCESS = 8
_WORST = ("failed", "not run", "skipped", "passed")


def _ran(nodes: list[str]) -> dict[str, str]:
    """Node id to outcome, of tests that ran in one process."""
    report = HERE.parent / "out" / "zoo-tests.xml"
    report.parent.mkdir(exist_ok=True)
    report.unlink(missing_ok=True)
    # Of the two forms of the report only the older one names files.
    options = ["-q", "-p", "no:cacheprovider", "-m", "slow or not slow", "-o", "junit_family=xunit1"]
    command = [sys.executable, "-m", "pytest", *options, f"--junitxml={report}", *nodes]
    subprocess.run(command, cwd=HERE.parent, check=False)
    if not report.is_file():
        return {}
    outcomes = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        outcomes[f"{case.get('file')}::{case.get('name')}"] = outcome
    return outcomes


def child(stage: str, name: str) -> dict[str, Any]:
    """One system in a process of its own; what went wrong is part of the result."""
    command = [sys.executable, str(Path(__file__).resolve()), "--child", stage, name]
    begin = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SLOWEST_S, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"took more than {_SLOWEST_S} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    found: dict[str, Any] = json.loads(lines[-1]) if lines else {"error": done.stderr.strip().splitlines()[-1:]}
    return {**found, "took_s": round(time.monotonic() - begin, 1), "load": round(os.getloadavg()[0], 1)}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("full", "narrow", "tests", "table", "readme"))
    parser.add_argument("ids", nargs="*")
    parser.add_argument("--again", action="store_true", help="do not keep what an earlier run found")
    parser.add_argument("--result", type=Path, default=HERE / "results" / "zoo.json")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        if chosen.stage == "full" and chosen.ids[0] in MIXED:
            whole = json.loads(chosen.result.read_text()).get("m3s", {}).get("full", {})
            print(json.dumps(combined(chosen.ids[0], whole) if whole else {"error": "m3s goes first"}))
        elif chosen.stage == "full":
            print(json.dumps(full(chosen.ids[0])))
        else:
            import zoo_narrow

            print(json.dumps(zoo_narrow.narrow(chosen.ids[0])))
        return
    result: dict[str, Any] = json.loads(chosen.result.read_text()) if chosen.result.is_file() else {}
    if chosen.stage in ("full", "narrow"):
        for name in chosen.ids or ids():
            kept = result.setdefault(name, {}).get(chosen.stage)
            if kept and "error" not in kept and not chosen.again:
                continue
            result[name][chosen.stage] = child(chosen.stage, name)
            print(name, json.dumps(result[name][chosen.stage])[:300], flush=True)
            _write(chosen.result, result)
    elif chosen.stage == "tests":
        for name, row in tests().items():
            result.setdefault(name, {})["tests"] = row
        _write(chosen.result, result)
    elif chosen.stage == "readme":
        import zoo_table

        page = HERE.parent / "README.md"
        page.write_text(zoo_table.readme(page.read_text(), result))
    else:
        import zoo_table

        text = zoo_table.markdown(result)
        chosen.result.with_suffix(".md").write_text(text)
        print(text)


def _write(path: Path, result: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(dict(sorted(result.items())), indent=1) + "\n")
    os.replace(partial, path)


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    main()
