"""A system an eighth as wide: its int8 and fp16 lowerings at the fidelity gate, and what TensorRT-RTX says of them.

Full-size calibration of the large systems takes hours on two cores; layers and operators are the same here.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NARROW = 0.125
CALIBRATE, GATE = 32, 48


def narrow(name: str) -> dict[str, Any]:
    """Lowerings with Spearman and mean difference, what stays float and why, TensorRT-RTX node by node."""
    import msgspec

    from memedge_export import system_untrained
    from memedge_export.errors import ExportError
    from memedge_export.models.system import system_entry
    from memedge_export.quant.gate import GateError
    from memedge_export.quant.options import QuantOptions
    from memedge_export.system_bundle import export_system

    entry = system_entry(name)
    if entry is None:
        return _frame(name)
    system_untrained.CLIPS, system_untrained.PICTURES = 4, 16
    thin = dataclasses.replace(entry, build=lambda width=1.0, **options: entry.build(NARROW, **options))
    quant = QuantOptions(frames=CALIBRATE, gate_frames=GATE, small_gate=True, method="percentile")
    cards = entry.build(NARROW).graphs
    lowest = {graph.lowest for graph in cards.values()}
    wanted = ["fp32", *(["int8"] if "int8" in lowest else []), *(["fp16"] if lowest & {"int8", "fp16"} else [])]
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, Any] = {}
        given: dict[str, Any] = {"precisions": wanted, "runs": Path(folder), "name": name}
        try:
            try:
                bundle = export_system(thin, out=Path(folder) / name, quant=quant, **given)
            except GateError:  # once more, to see all figures
                allowed = dataclasses.replace(quant, allow=True)
                bundle = export_system(thin, out=Path(folder) / name, quant=allowed, **given)
        except ExportError as error:
            return {"error": error.message}
        manifest = bundle.manifest
        found["excluded"] = list(manifest.provenance.excluded) or [
            f"{node} ({graph.lowest}): {graph.reason}" for node, graph in cards.items() if graph.lowest != "int8"
        ]
        if "fidelity" in manifest.files:
            told = msgspec.json.decode(bundle.read(manifest.files["fidelity"]))
            found["fidelity"] = _figures(told)
        graphs = [node for node in manifest.nodes if node.kind == "graph"]
        found["rtx"] = {node.name: _rtx(bundle, node) for node in graphs}
        return found


def _figures(told: dict[str, Any]) -> dict[str, Any]:
    """What the table shows of ``fidelity.json``."""
    return {
        key: {
            "passed": one["passed"],
            "share": one["mac_share"],
            "spearman": one["fidelity"]["spearman"],
            "mean_abs": one["fidelity"]["mean_abs"],
            "promoted": len(one.get("promoted", ())),
            "reasons": list(one.get("reasons", ())),
        }
        for key, one in told["lowerings"].items()
    }


def _rtx(bundle: Any, node: Any) -> dict[str, str]:
    """Lowering to ``built``, or to what the parser or builder has against it."""
    sys.path.insert(0, str(ROOT / "tests"))
    from helpers_lowering import build_rtx

    found = {}
    for lowering in ("trt-int8", "trt-fp16", "fp32"):
        entry = node.files.get(lowering)
        if entry is None or (lowering == "fp32" and found):
            continue
        said, plan = build_rtx(bundle.read(entry))
        found[lowering] = "built" if plan else " ".join(said)[:300]
    return found


def _frame(name: str) -> dict[str, Any]:
    import msgspec

    from memedge_export import export_bundle, models, weights
    from memedge_export.quant.options import QuantOptions

    build = weights.build
    weights.build = lambda entry, **given: build(entry, **{**given, "width": NARROW})
    assert models.entry(name)
    quant = QuantOptions(frames=CALIBRATE, gate_frames=GATE, small_gate=True, allow=True, method="percentile")
    with tempfile.TemporaryDirectory() as folder:
        bundle = export_bundle.export(
            name, out=Path(folder) / name, precisions=["int8", "fp16"], quant=quant, runs=Path(folder)
        )
        told = msgspec.json.decode(bundle.read(bundle.manifest.files["fidelity"]))
        return {"excluded": [], "fidelity": _figures(told), "rtx": {"model": _rtx(bundle, bundle.manifest.nodes[0])}}
