"""``memedge info``: every fact of the manifest, in whole lines and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers_bundle import VARIANTS, edit_manifest, make_frame_bundle
from memedge.info import bundle_bytes, info_json, info_lines
from memedge_engines.bundle import Bundle


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_everything_is_named(tmp_path: Path, variant: str) -> None:
    bundle = VARIANTS[variant](tmp_path / "b")
    lines = info_lines(bundle)
    text = "\n".join(lines)
    assert all("\n" not in line and line == line.strip() for line in lines)
    for node in bundle.manifest.nodes:
        for item in node.inputs:
            assert f"node {node.name} input {item.name}: from {item.source}" in text
        for output in node.outputs:
            assert f"node {node.name} output {output.name}: {output.role}" in text
    for target in bundle.manifest.targets:
        assert f"target {target.name}" in text
    for entry in bundle.entries():
        assert entry.file in text or entry is bundle.manifest.golden.file
    assert bundle.hash in text
    assert str(bundle.path) in text
    assert not any("UNTRAINED" in line for line in lines)


def test_untrained_is_said_first(tmp_path: Path) -> None:
    bundle = make_frame_bundle(tmp_path / "b", untrained=True)
    assert info_lines(bundle)[0].startswith("UNTRAINED")
    assert info_json(bundle)["untrained"] is True


def test_sizes_are_those_on_disk(tmp_path: Path) -> None:
    bundle = make_frame_bundle(tmp_path / "b", lowerings=("fp32", "cpu"))
    total = sum(path.stat().st_size for path in bundle.path.iterdir())
    assert bundle_bytes(bundle) == total
    assert info_json(bundle)["size_bytes"] == total


def test_json_holds_the_manifest_as_it_was_written(tmp_path: Path) -> None:
    bundle = make_frame_bundle(tmp_path / "b", lowerings=("fp32", "cpu"))
    data = json.loads(json.dumps(info_json(bundle), allow_nan=False))
    assert data["manifest"] == json.loads((bundle.path / "manifest.json").read_bytes())
    assert data["lowerings"] == ["fp32", "cpu"]
    assert data["primary_target"] == "short_term"
    assert "onnxruntime" in data["engines"]["cpu"]
    assert "onnxruntime-cuda" not in data["engines"]["cpu"]


def test_optional_facts(tmp_path: Path) -> None:
    path = make_frame_bundle(tmp_path / "b").path

    def extend(manifest: dict[str, Any]) -> None:
        origin = manifest["provenance"]
        origin.update(parameters=2_980_000, macs=450_000_000, excluded=["head.fc"], licence="Apache-2.0\n(weights too)")
        origin["promoted"] = [{"node": "model", "layer": "conv1", "reason": "moved scores by 0.03"}]
        origin["calibration"] = {
            "method": "percentile", "frames": 64, "source": "clips", "per_method": {"minmax": 0.97}, "sha256": None,
        }  # fmt: skip
        origin["training"].update(
            spearman=0.41, spearman_interval=[0.3, 0.5], held_out="test split", notes="first line\nsecond line"
        )
        manifest["domain"] = {"from": "model.embedding", "mean": [0.0] * 8, "std": [1.0] * 8, "threshold": 3.5}
        manifest["files"] = {"model_card": manifest["golden"]["file"]}
        manifest["nodes"].append({
            "name": "smooth", "kind": "aggregate", "extractor": "mean", "reset": "cut", "period_s": 0.5,
            "inputs": [
                {"name": "x", "from": "model.score", "last": 3, "stride_s": 0.5, "padding": "wait"},
                {"name": "k", "from": "caller", "default": [1.0]},
            ],
            "outputs": [{"name": "score", "role": "score"}],
        })  # fmt: skip

    edit_manifest(path, extend)
    text = "\n".join(info_lines(Bundle.open(path)))
    for fact in (
        "parameters: 2.98 M",
        "multiply-accumulates: 0.450 G",
        "excluded from int8: head.fc",
        "promoted: model conv1: moved scores by 0.03",
        "calibration: percentile, 64 frames of clips",
        "calibration minmax: 0.97",
        "held-out Spearman: 0.410 (95 % interval 0.300 to 0.500) on test split",
        "training notes: first line second line",
        "licence: Apache-2.0 (weights too)",
        "domain: 8 values of model.embedding, flagged beyond 3.5",
        "file model_card: golden.npz",
        "node smooth: aggregate mean, every 0.5 s, state cleared at cut reset",
        "node smooth input x: from model.score, last 3, 0.5 s apart, short window: wait",
        "node smooth input k: from caller, default [1.0]",
        "resize short_side 40 (triangle), crop center 32x32",
    ):
        assert fact in text, fact
