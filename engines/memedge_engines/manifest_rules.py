"""What a manifest must satisfy beyond its types: names, references, order, sizes. One function, one message each."""

from __future__ import annotations

import math
import re

from .errors import BundleError
from .manifest import FileEntry, Manifest, Node, NodeInput, Preprocess

_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")
_FILE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
_SHA = re.compile(r"^[0-9a-f]{64}$")
MAX_WINDOW = 4096


def check(manifest: Manifest) -> None:
    """Raise BundleError for the first rule that the manifest breaks."""
    if not manifest.nodes:
        raise BundleError("manifest has no nodes; expected at least one")
    if not manifest.targets:
        raise BundleError("manifest has no targets; expected at least one")
    outputs: set[str] = set()
    names: set[str] = set()
    for node in manifest.nodes:
        _check_node(node, names, outputs)
        names.add(node.name)
        outputs.update(f"{node.name}.{output.name}" for output in node.outputs)
    _check_targets(manifest, outputs)
    if manifest.domain is not None:
        if manifest.domain.source not in outputs:
            raise BundleError(f"domain: no output '{manifest.domain.source}'; there are {_list(outputs)}")
        if len(manifest.domain.mean) != len(manifest.domain.std):
            raise BundleError("domain: mean and std differ in length")
    for entry in [manifest.golden.file, *manifest.files.values()]:
        _check_file(entry, "manifest")
    if "fp32" not in manifest.golden.tolerance:
        raise BundleError("golden.tolerance has no entry for fp32")
    if manifest.golden.frames < 1:
        raise BundleError(f"golden.frames is {manifest.golden.frames}; expected at least 1")
    for name, value in [*manifest.golden.tolerance.items(), ("preprocess", manifest.golden.preprocess_tolerance)]:
        if not (math.isfinite(value) and value >= 0):
            raise BundleError(f"golden: tolerance {value} of {name}; expected 0 or more")


def _check_node(node: Node, names: set[str], outputs: set[str]) -> None:
    where = f"node '{node.name}'"
    if not _NAME.match(node.name) or node.name in ("source", "caller"):
        raise BundleError(f"{where}: a node's name has letters, digits, _ and - and is not source or caller")
    if node.name in names:
        raise BundleError(f"{where} stands twice")
    if not (math.isfinite(node.period_s) and node.period_s >= 0):
        raise BundleError(f"{where}: period_s {node.period_s}; expected 0 or more seconds")
    if node.anchor == "start":
        spans = {(item.last, item.stride_s) for item in node.inputs if item.source == "source"}
        if node.period_s <= 0 or len(spans) != 1 or min(last for last, _ in spans) < 2:
            raise BundleError(
                f"{where}: anchor start needs period_s > 0 and picture windows of one length and stride, 2 or more long"
            )
    if node.after is not None and (
        node.after not in names or node.period_s > 0 or any(item.source == "source" for item in node.inputs)
    ):
        raise BundleError(f"{where}: after '{node.after}'; expected an earlier node, no period_s and no pictures")
    if not node.inputs or not node.outputs:
        raise BundleError(f"{where}: expected at least one input and one output")
    if node.kind == "graph":
        if "fp32" not in node.files:
            raise BundleError(f"{where}: files has no fp32; every graph node holds its float graph")
    elif node.extractor is None or node.files:
        raise BundleError(f"{where}: a node of kind {node.kind} names an extractor and has no files")
    for entry in node.files.values():
        _check_file(entry, where)
    for output in node.outputs:
        if output.decay is not None and not (
            output.role == "decay" and math.isfinite(output.decay.lag) and 0 < output.decay.item_s < math.inf
        ):
            raise BundleError(
                f"{where} output '{output.name}': a decay of {output.decay.lag:g} items of {output.decay.item_s:g} s "
                f"with role {output.role}; expected role decay and items that last"
            )
    for group in ([i.name for i in node.inputs], [o.name for o in node.outputs]):
        if len(set(group)) != len(group):
            raise BundleError(f"{where}: a tensor name stands twice among {group}")
    for item in node.inputs:
        _check_input(node, item, outputs)


def _check_input(node: Node, item: NodeInput, outputs: set[str]) -> None:
    where = f"node '{node.name}' input '{item.name}'"
    if item.source not in ("source", "caller") and item.source not in outputs:
        raise BundleError(
            f"{where}: from '{item.source}'; expected source, caller or an earlier output: {_list(outputs)}"
        )
    if (item.preprocess is not None) != (item.source == "source"):
        raise BundleError(f"{where}: a preprocess contract belongs to inputs from source, and to each of them")
    if not 1 <= item.last <= MAX_WINDOW:
        raise BundleError(f"{where}: last {item.last}; expected 1..{MAX_WINDOW}")
    if not (math.isfinite(item.stride_s) and item.stride_s >= 0):
        raise BundleError(f"{where}: stride_s {item.stride_s}; expected 0 or more seconds")
    if item.shape is not None:
        if item.source != "caller" or not item.shape or min(item.shape) < 1:
            raise BundleError(f"{where}: shape {list(item.shape)}; expected positive sizes, of an input from caller")
        if item.default is not None and len(item.default) not in (1, math.prod(item.shape)):
            raise BundleError(
                f"{where}: default of {len(item.default)} numbers; expected 1 or {math.prod(item.shape)} for its shape"
            )
    if item.preprocess is not None:
        _check_preprocess(item.preprocess, where)
        if item.last > 1 and item.preprocess.layout == "nchw":
            raise BundleError(f"{where}: a window of {item.last} pictures needs layout ncthw or ntchw")
        if item.preprocess.resize.rule != "exact" and item.preprocess.crop.rule == "none" and item.last > 1:
            raise BundleError(f"{where}: a window needs pictures of one size: resize exact, or crop center")


def _check_preprocess(contract: Preprocess, where: str) -> None:
    resize, crop = contract.resize, contract.crop
    if resize.rule == "short_side" and not (isinstance(resize.size, int) and resize.size > 0):
        raise BundleError(f"{where}: resize short_side takes one positive size, found {resize.size}")
    if resize.rule == "exact" and not (isinstance(resize.size, tuple) and min(resize.size) > 0):
        raise BundleError(f"{where}: resize exact takes [height, width], found {resize.size}")
    if resize.rule == "none" and resize.size is not None:
        raise BundleError(f"{where}: resize none takes no size, found {resize.size}")
    if (crop.rule == "center") != (crop.size is not None) or (crop.size is not None and min(crop.size) < 1):
        raise BundleError(f"{where}: crop {crop.rule} with size {crop.size}")
    if crop.size is not None and resize.size is not None:
        small = (resize.size, resize.size) if isinstance(resize.size, int) else resize.size
        if crop.size[0] > small[0] or crop.size[1] > small[1]:
            raise BundleError(f"{where}: crop {list(crop.size)} is larger than the resized picture {list(small)}")
    if len(contract.mean) != contract.channels or len(contract.std) != contract.channels:
        raise BundleError(f"{where}: mean and std need {contract.channels} values for {contract.color}")
    if not all(math.isfinite(v) for v in (*contract.mean, contract.scale)) or not all(
        math.isfinite(v) and v > 0 for v in contract.std
    ):
        raise BundleError(f"{where}: mean and scale must be finite, std positive")


def _check_targets(manifest: Manifest, outputs: set[str]) -> None:
    names = [target.name for target in manifest.targets]
    if len(set(names)) != len(names):
        raise BundleError(f"a target stands twice among {names}")
    if sum(target.primary for target in manifest.targets) != 1:
        raise BundleError("exactly one target is primary")
    for target in manifest.targets:
        if target.source not in outputs:
            raise BundleError(f"target '{target.name}': no output '{target.source}'; there are {_list(outputs)}")
        if not (math.isfinite(target.window_s) and target.window_s > 0):
            raise BundleError(f"target '{target.name}': window_s {target.window_s}; expected more than 0 seconds")
        quantiles = target.quantiles
        if quantiles is not None:
            pairs = zip(quantiles.values, quantiles.values[1:], strict=False)
            if len(quantiles.values) < 2 or any(b < a for a, b in pairs):
                raise BundleError(f"target '{target.name}': quantiles must be at least two rising values")


def _check_file(entry: FileEntry, where: str) -> None:
    if not _FILE.match(entry.file):
        raise BundleError(f"{where}: file name '{entry.file}'; expected a plain name inside the bundle's folder")
    if not _SHA.match(entry.sha256):
        raise BundleError(f"{where}: sha256 of '{entry.file}' is not 64 lower-case hex digits")


def _list(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
