"""Engine against engine: what ``auto`` picks, each memedge engine, and the libraries themselves with their defaults.

Inference alone, batch 1, on one preprocessed golden frame; interleaved rounds in one process. The libraries run the
very files of the bundle: ONNX Runtime with default session options, OpenVINO with LATENCY and f32.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import Budget, bundles, finish, interleaved, median, parser, say

from memedge.environment import environment
from memedge_engines import backends, choice, golden
from memedge_engines.bundle import Bundle
from memedge_engines.choice import Candidate
from memedge_engines.errors import EngineError

Run = Callable[[], Any]


def measure(bundle: Bundle, rounds: int = 7, share_s: float = 0.4) -> tuple[dict[str, Any], list[Budget]]:
    """Median inference in milliseconds of everything that runs here, and the budgets on it.

    Args:
        rounds: how often each has its turn.
        share_s: seconds of a turn, at least three inferences.
    """
    name = bundle.manifest.name
    graphs = [node for node in bundle.manifest.nodes if node.kind == "graph"]
    if len(graphs) != 1:
        say(f"{name}: {len(graphs)} graph nodes; only bundles of one are compared with the libraries themselves")
        return {}, []
    timings = choice.tune(bundle)
    auto = next(t.candidate for t in timings if t.median_ms is not None)
    runs: dict[str, Run] = {}
    closers: list[Callable[[], None]] = []
    try:
        for engine in backends.names():
            backend = backends.get(engine)
            for lowering in backend.lowerings if backend.availability().usable else ():
                if lowering in bundle.lowerings():
                    _add_memedge(runs, closers, bundle, Candidate(engine, lowering))
        for lowering in bundle.lowerings():
            if not lowering.startswith("trt"):
                _add_raw(runs, bundle, lowering)
        say(f"{name}: {', '.join(runs)}")
        found = interleaved({key: _turn(run, share_s) for key, run in runs.items()}, rounds)
    finally:
        for close in closers:
            close()
    ms = {key: round(median(values), 4) for key, values in found.items()}
    figures = {
        "bundle": name,
        "auto": str(auto),
        "median_ms": ms,
        "rounds_ms": {key: [round(v, 4) for v in values] for key, values in found.items()},
    }
    return figures, _budgets(name, ms, f"memedge {auto.backend} {auto.lowering}", auto)


def _budgets(name: str, ms: dict[str, float], auto: str, candidate: Candidate) -> list[Budget]:
    fp32 = ms.get("ONNX Runtime fp32")
    same = {key: value for key, value in ms.items() if key.endswith(f" {candidate.lowering}")}
    made = []
    if auto in same:
        fastest = min(same, key=lambda key: same[key])
        note = f"auto is {candidate}; fastest is {fastest}"
        ratio = same[auto] / same[fastest]
        made.append(Budget.at_most(f"{name}: engine of auto over the fastest of all", ratio, 1.05, "x", note))
    vnni = environment().vnni
    note = "" if vnni else "this processor has no VNNI: reported only"
    if "ONNX Runtime cpu" in ms and fp32 is not None:
        best = min(value for key, value in ms.items() if key.startswith("memedge") and key.endswith(" cpu"))
        own = ms["memedge onnxruntime cpu"]
        for what, ratio, limit in (("auto", fp32 / best, 2.3), ("ONNX Runtime", fp32 / own, 2.0)):
            title = f"{name}: int8 of {what} over ONNX Runtime fp32"
            made.append(Budget.at_least(title, ratio, limit, "x", note, not vnni))
    return made


def _turn(run: Run, share_s: float) -> Callable[[], float]:
    """Run for a while; the median in milliseconds of all but the first two."""

    def turn() -> float:
        for _ in range(2):
            run()
        spent: list[float] = []
        end = time.perf_counter() + share_s
        while len(spent) < 3 or time.perf_counter() < end:
            begin = time.perf_counter()
            run()
            spent.append(time.perf_counter() - begin)
        return median(spent) * 1e3

    return turn


def _inputs(bundle: Bundle, lowering: str) -> dict[str, np.ndarray]:
    """The tensors of the first golden frame, as the lowering takes them."""
    frames = golden.read(bundle)

    def never(node: Any, inputs: Any) -> Any:
        return {output.name: np.zeros((1, 1), np.float32) for output in node.outputs}

    return next(iter(golden.inputs_of(bundle, frames, 0, lowering, never).values()))


def _add_memedge(runs: dict[str, Run], closers: list[Callable[[], None]], bundle: Bundle, candidate: Candidate) -> None:
    try:
        engine = next(iter(choice.open_engines(bundle, candidate).values()))
    except EngineError as error:
        say(f"{candidate}: {error}")
        return
    tensors = _inputs(bundle, candidate.lowering)
    closers.append(engine.close)
    runs[f"memedge {candidate.backend} {candidate.lowering}"] = lambda: engine.run(tensors)


def _add_raw(runs: dict[str, Run], bundle: Bundle, lowering: str) -> None:
    node = next(node for node in bundle.manifest.nodes if node.kind == "graph")
    data = bundle.read(node.files[lowering])
    tensors = _inputs(bundle, lowering)
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    runs[f"ONNX Runtime {lowering}"] = lambda: session.run(None, tensors)
    try:
        import openvino
    except ImportError:
        return
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    request = core.compile_model(core.read_model(data), "CPU", hints).create_infer_request()
    runs[f"OpenVINO {lowering}"] = lambda: request.infer(tensors)


def main() -> None:
    """Measure the bundles named, print figures and budgets."""
    made = parser(__doc__ or "")
    made.add_argument("--rounds", type=int, default=7)
    arguments = made.parse_args()
    figures, budgets = [], []
    for bundle in bundles(arguments.bundle):
        found, kept = measure(bundle, arguments.rounds)
        figures.append(found)
        budgets += kept
    finish("engines", {"bundles": figures}, budgets, arguments.json)


if __name__ == "__main__":
    main()
