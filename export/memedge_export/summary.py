"""What an export says at its end: files, speed here, fidelity, and the next command to type."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from memedge.fidelity import LoweringFidelity
from memedge_engines.bundle import Bundle
from memedge_engines.manifest import Manifest

from .quant.pipeline import Quantised
from .quant.system_pipeline import QuantisedSystem


def lines(bundle: Bundle, files: Mapping[str, bytes], found: Quantised | QuantisedSystem | None) -> list[str]:
    """The summary of a written bundle, line by line."""
    manifest = bundle.manifest
    mark = "UNTRAINED: its scores mean nothing" if manifest.untrained else "trained"
    megabytes = sum(len(data) for data in files.values()) / 1e6
    made = [f"wrote bundle '{bundle.path}' ({manifest.provenance.model}, {megabytes:.1f} MB, {mark})"]
    rows = [("lowering", "MB", "int8 MACs", "Spearman", "mean |diff|", "here", "gate")]
    rows.append(("fp32", _megabytes(_bytes(manifest, files, "fp32")), "-", "1", "0", _speed(found, False), "-"))
    for name, result in found.results.items() if found is not None else ():
        share = f"{100 * result.mac_share:.1f} %" if name != "trt-fp16" else "-"
        rho, mean = result.fidelity.spearman, result.fidelity.mean_abs
        rows.append(
            (
                name,
                _megabytes(_bytes(manifest, files, name)),
                share,
                "none" if rho is None else f"{rho:.4f}",
                "none" if mean is None else f"{mean:.4f}",
                _speed(found, True) if name == "cpu" else "not measured: no such device",
                _verdict(result),
            )
        )
    if found is not None:
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        made += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        if found.calibration.source.startswith("synthetic"):
            made.append("calibrated on SYNTHETIC pictures; --calib with pictures such as the model will see is better")
        made += [f"{p.node}: '{p.layer}' stays float: {p.reason}" for p in found.promoted]
        made += [f"no int8: {text}" for text in manifest.provenance.excluded]
    return made


def next_command(bundle: Bundle) -> str:
    """What to type next."""
    return f"next: memedge run --source camera0 --bundle {shlex.quote(str(bundle.path))}"


def _bytes(manifest: Manifest, files: Mapping[str, bytes], lowering: str) -> int:
    """Bytes of all nodes' files of a lowering."""
    entries = [node.files.get(lowering) for node in manifest.nodes]  # type: ignore[call-overload]
    return sum(len(files[entry.file]) for entry in entries if entry is not None)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f}"


def _speed(found: Quantised | QuantisedSystem | None, lowered: bool) -> str:
    speed = found.results["cpu"].speed if found is not None and "cpu" in found.results else None
    if speed is None:
        return "-"
    return f"{speed.lowered_ms if lowered else speed.float_ms:.2f} ms"


def _verdict(result: LoweringFidelity) -> str:
    if result.passed:
        return "passed" + (f", {len(result.promoted)} layers in float" if result.promoted else "")
    return "FAILED, written because of --allow"
