"""``memedge info``: what a bundle is made of, in whole lines or as JSON."""

from __future__ import annotations

from typing import Any

import msgspec

from memedge_engines import backends
from memedge_engines.bundle import Bundle
from memedge_engines.manifest import PRECISION_OF, FileEntry, Manifest, Node, NodeInput, Preprocess, Target

from . import fidelity

UNTRAINED = "UNTRAINED: the weights were never trained, so scores mean nothing"


def info_lines(bundle: Bundle) -> list[str]:
    """Everything that the manifest says, a fact a line."""
    manifest = bundle.manifest
    lines = [
        f"bundle: {manifest.name}",
        f"path: {bundle.path}",
        f"hash: {bundle.hash}",
        f"size: {_megabytes(bundle_bytes(bundle))}, {len(bundle.entries()) + 1} files",
        f"lowerings: {_lowerings(bundle)}",
    ]
    if manifest.untrained:
        lines.insert(0, UNTRAINED)
    for target in manifest.targets:
        lines.append(_target_line(target))
    for node in manifest.nodes:
        lines += _node_lines(bundle, node)
    if manifest.domain is not None:
        domain = manifest.domain
        lines.append(f"domain: {len(domain.mean)} values of {domain.source}, flagged beyond {domain.threshold:g}")
    tolerances = ", ".join(f"{key} {value:g}" for key, value in manifest.golden.tolerance.items())
    lines.append(
        f"golden frames: {manifest.golden.frames}, score tolerance {tolerances}, "
        f"preprocessing {manifest.golden.preprocess_tolerance:g} levels"
    )
    for role, entry in manifest.files.items():
        lines.append(f"file {role}: {_file_text(bundle, entry)}")
    measured = fidelity.read(bundle)
    if measured is not None:
        lines += fidelity.lines(measured)
    return lines + _provenance_lines(manifest)


def info_json(bundle: Bundle) -> dict[str, Any]:
    """The manifest as plain data, with what is known of the folder."""
    manifest = bundle.manifest
    return {
        "name": manifest.name,
        "path": str(bundle.path),
        "hash": bundle.hash,
        "size_bytes": bundle_bytes(bundle),
        "untrained": manifest.untrained,
        "lowerings": list(bundle.lowerings()),
        "engines": _engines(bundle),
        "primary_target": manifest.primary.name,
        "fidelity": msgspec.to_builtins(fidelity.read(bundle)),
        "manifest": msgspec.to_builtins(manifest),
    }


def bundle_bytes(bundle: Bundle) -> int:
    """Size of all files of the bundle in bytes, the manifest included; what is missing counts as nothing."""
    names = {"manifest.json", *(entry.file for entry in bundle.entries())}
    return sum(_size(bundle, name) for name in names)


def _size(bundle: Bundle, name: str) -> int:
    try:
        return (bundle.path / name).stat().st_size
    except OSError:
        return 0


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 10_000 else f"{count} bytes"


def _engines(bundle: Bundle) -> dict[str, list[str]]:
    """Lowering to the back ends that run it, whether or not they are installed here."""
    known = {name: backends.get(name).lowerings for name in backends.names()}
    return {low: [name for name, runs in known.items() if low in runs] for low in bundle.lowerings()}


def _lowerings(bundle: Bundle) -> str:
    found = _engines(bundle)
    return "; ".join(f"{low} ({PRECISION_OF[low]}: {', '.join(found[low]) or 'no engine'})" for low in found)


def _target_line(target: Target) -> str:
    reference = f", percentiles on {target.quantiles.dataset}" if target.quantiles else ", no percentiles"
    primary = " (primary)" if target.primary else ""
    return (
        f"target {target.name}{primary}: from {target.source}, {target.aggregate} over {target.window_s:g} s, "
        f"sampling {target.sampling}{reference}"
    )


def _node_lines(bundle: Bundle, node: Node) -> list[str]:
    period = f"every {node.period_s:g} s" if node.period_s else "every frame that is offered"
    if not node.period_s and not any(item.source == "source" for item in node.inputs):
        period = "whenever an input is new"
    host = f" {node.extractor}" if node.extractor else ""
    lines = [f"node {node.name}: {node.kind}{host}, {period}, state cleared at {node.reset} reset"]
    lines += [f"node {node.name} input {item.name}: {_input_text(item)}" for item in node.inputs]
    lines += [f"node {node.name} output {output.name}: {output.role}" for output in node.outputs]
    for lowering, entry in node.files.items():
        storage = ", ".join(
            f"{name} {kept.dtype}" + (f" * {kept.scale:g}" if kept.scale is not None else "")
            for name, kept in entry.inputs.items()
        )
        lines.append(
            f"node {node.name} file {lowering}: {_file_text(bundle, entry)}" + (f", {storage}" if storage else "")
        )
    return lines


def _input_text(item: NodeInput) -> str:
    parts = [f"from {item.source}"]
    if item.last > 1:
        stride = f"{item.stride_s:g} s apart" if item.stride_s else "consecutive"
        parts.append(f"last {item.last}, {stride}, short window: {item.padding}")
    if item.default is not None:
        parts.append(f"default {item.default}")
    if item.preprocess is not None:
        parts.append(preprocess_text(item.preprocess))
    return ", ".join(parts)


def preprocess_text(contract: Preprocess) -> str:
    """A preprocess contract in one line."""
    resize, crop = contract.resize, contract.crop
    sides = resize.size if isinstance(resize.size, int) else "x".join(map(str, resize.size or ()))
    parts = [
        contract.color,
        "resize none" if resize.rule == "none" else f"resize {resize.rule} {sides} ({resize.filter})",
        "crop none" if crop.size is None else f"crop {crop.rule} {crop.size[0]}x{crop.size[1]}",
        f"scale {contract.scale:.8g}",
        f"mean {_numbers(contract.mean)}",
        f"std {_numbers(contract.std)}",
        contract.layout,
    ]
    return ", ".join(parts)


def _numbers(values: tuple[float, ...]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in values) + "]"


def _file_text(bundle: Bundle, entry: FileEntry) -> str:
    return f"{entry.file}, {_megabytes(_size(bundle, entry.file))}, sha256 {entry.sha256}"


def _provenance_lines(manifest: Manifest) -> list[str]:
    origin = manifest.provenance
    training = origin.training
    lines = [f"model: {origin.model}", f"precision: {', '.join(origin.precision)}", f"training: {training.status}"]
    lines += [f"option {name}: {value}" for name, value in sorted(origin.options.items())]
    lines += [f"extractor {name}: {version}" for name, version in sorted(origin.extractors.items())]
    if training.datasets:
        lines.append(f"trained on: {', '.join(training.datasets)}")
    if training.spearman is not None:
        interval = training.spearman_interval
        around = f" (95 % interval {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
        lines.append(f"held-out Spearman: {training.spearman:.3f}{around} on {training.held_out or 'an unnamed split'}")
    if training.notes:
        lines.append(f"training notes: {' '.join(training.notes.split())}")
    if origin.parameters is not None:
        lines.append(f"parameters: {origin.parameters / 1e6:.2f} M")
    if origin.macs is not None:
        lines.append(f"multiply-accumulates: {origin.macs / 1e9:.3f} G")
    if origin.calibration is not None:
        calibration = origin.calibration
        lines.append(f"calibration: {calibration.method}, {calibration.frames} frames of {calibration.source}")
        lines += [f"calibration {method}: {value:g}" for method, value in calibration.per_method.items()]
    if origin.excluded:
        lines += [f"excluded from int8: {text}" for text in origin.excluded]
    lines += [f"promoted: {p.node} {p.layer}: {p.reason}" for p in origin.promoted]
    lines.append(f"licence: {' '.join(origin.licence.split())}")
    lines.append(f"created: {origin.created}")
    lines.append("made with: " + ", ".join(f"{name} {version}" for name, version in sorted(origin.tools.items())))
    return lines
