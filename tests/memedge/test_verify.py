"""``memedge verify``: right bundles pass, and each way of being wrong is found and told."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers_bundle import VARIANTS, edit_manifest, frame_graph, make_frame_bundle, picture, pillow_tensor
from helpers_gpu import add_half_and_int8, desktop, fake_gpu
from memedge import scorer
from memedge.console import Progress
from memedge.errors import BackendUnavailable, BundleError, EngineError
from memedge.verify import verify
from memedge_engines import backends
from memedge_engines.bundle import Bundle, file_entry


def rehash(path: Path, name: str, data: bytes, *keys: Any) -> Bundle:
    """Replace a file and its hash in the manifest: damage that hashes do not find."""
    (path / name).write_bytes(data)

    def edit(manifest: dict[str, Any]) -> None:
        entry: Any = manifest
        for key in keys:
            entry = entry[key]
        entry["sha256"] = file_entry(name, data).sha256

    edit_manifest(path, edit)
    return Bundle.open(path)


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_every_dataflow_verifies(tmp_path: Path, variant: str) -> None:
    make = VARIANTS[variant]
    bundle = make(tmp_path / "b", lowerings=("fp32", "cpu")) if variant == "frame" else make(tmp_path / "b")
    report = verify(bundle)
    assert report.passed
    assert report.preprocess.largest <= 1.0
    ran = {(row.candidate.backend, row.candidate.lowering): row for row in report.rows if row.scores}
    assert ("onnxruntime", "fp32") in ran
    assert (("onnxruntime", "cpu") in ran) == (variant == "frame")
    for row in ran.values():
        assert [s.target for s in row.scores] == [t.name for t in bundle.manifest.targets]
        assert all(s.passed for s in row.scores)
    assert report.lines()[-1] == "verified: this device gives the recorded scores"


def test_plans_that_nobody_built_fail_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMEDGE_CACHE", str(tmp_path / "cache"))
    bundle = add_half_and_int8(make_frame_bundle(tmp_path / "b"))
    with fake_gpu(devices=[desktop()]) as gpu:
        nothing = verify(bundle, "tensorrt")
        assert [row.status for row in nothing.rows] == ["not run"] * 3
        assert all((row.fix or "").startswith("memedge build ") for row in nothing.rows)
        assert not nothing.passed
        assert nothing.lines()[-1] == "NOT verified: no engine ran"
        assert verify(bundle).passed
        gpu.build(bundle, "trt-int8", 1)
        report = verify(bundle, "tensorrt")
        statuses = {row.candidate.lowering: row.status for row in report.rows}
        assert statuses == {"trt-int8": "passed", "trt-fp16": "not run", "fp32": "not run"}
        assert report.passed


def test_json_and_lines_say_the_same(tmp_path: Path) -> None:
    report = verify(make_frame_bundle(tmp_path / "b", lowerings=("fp32", "cpu")))
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert data["passed"] is True
    assert data["golden_frames"] == 3
    assert data["preprocess"]["tolerance_levels"] == 1.0
    statuses = {(e["engine"], e["lowering"]): e["status"] for e in data["engines"]}
    assert statuses["onnxruntime", "cpu"] == "passed"
    for engine, row in zip(data["engines"], report.rows, strict=True):
        assert row.line() in report.lines()
        assert f"{engine['engine']} {engine['precision']}: " in row.line()
        if engine["status"] == "not run":
            assert engine["reason"]


def test_progress_counts_files_and_engines(tmp_path: Path) -> None:
    bundle = make_frame_bundle(tmp_path / "b")
    tracker = Progress("verify", None)
    report = verify(bundle, "onnxruntime", tracker)
    assert tracker.done == len(bundle.entries()) + 1 + len(report.rows)


def test_another_graph_under_the_right_hash_is_found(tmp_path: Path) -> None:
    """What hashes cannot find: somebody exported other weights into the same manifest."""
    path = make_frame_bundle(tmp_path / "b").path
    samples = np.concatenate([pillow_tensor(picture(i), Bundle.open(path).manifest.nodes[0].inputs[0].preprocess)
                              for i in range(4)])  # fmt: skip
    other = frame_graph((32, 32), samples, seed=99)
    report = verify(rehash(path, "model.onnx", other, "nodes", 0, "files", "fp32"), "onnxruntime")
    assert not report.passed
    [row] = report.rows
    assert row.failed
    assert row.status == "FAILED"
    assert row.scores[0].largest > row.scores[0].tolerance
    assert report.lines()[-1].startswith("NOT verified")


def test_golden_pictures_that_are_preprocessed_differently_are_found(tmp_path: Path) -> None:
    path = make_frame_bundle(tmp_path / "b").path
    with np.load(path / "golden.npz") as file:
        arrays = dict(file)
    arrays["tensor_model_frames_2"] = arrays["tensor_model_frames_2"][:, :, ::-1].copy()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    report = verify(rehash(path, "golden.npz", buffer.getvalue(), "golden", "file"), "onnxruntime")
    assert not report.preprocess_passed
    assert not report.passed
    assert report.preprocess.largest > 10
    assert not any(row.failed for row in report.rows), "the scores themselves are right"
    assert any(line.startswith("preprocessing: FAILED") for line in report.lines())


def test_damaged_files_end_it_before_anything_runs(tmp_path: Path) -> None:
    bundle = make_frame_bundle(tmp_path / "b", lowerings=("fp32", "cpu"))
    data = bytearray((bundle.path / "model.cpu.onnx").read_bytes())
    data[100] ^= 0xFF
    (bundle.path / "model.cpu.onnx").write_bytes(bytes(data))
    with pytest.raises(BundleError, match=r"model\.cpu\.onnx' was altered or cut short"):
        verify(bundle, "onnxruntime")


def test_engine_asked_for_that_is_not_usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_frame_bundle(tmp_path / "b")
    backend = backends.get("openvino")
    gone = backends.Availability(False, "openvino is not installed", 'pip install "memedge[openvino]"')
    monkeypatch.setattr(type(backend), "availability", lambda self: gone)
    with pytest.raises(BackendUnavailable, match="openvino is not installed"):
        verify(bundle, "openvino")
    report = verify(bundle)
    assert report.passed, "an engine that is not there does not fail the others"
    [row] = [row for row in report.rows if row.candidate.backend == "openvino"]
    assert (row.status, row.reason) == ("not run", "openvino is not installed")


def test_unknown_engine(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no engine 'onnx'"):
        verify(make_frame_bundle(tmp_path / "b"), "onnx")


def test_lowering_without_golden_scores_is_not_counted(tmp_path: Path) -> None:
    path = make_frame_bundle(tmp_path / "b", lowerings=("fp32", "cpu")).path
    edit_manifest(path, lambda manifest: manifest["golden"]["tolerance"].pop("cpu"))
    report = verify(Bundle.open(path), "onnxruntime")
    assert report.passed
    [row] = [row for row in report.rows if row.candidate.lowering == "cpu"]
    assert row.reason == "the bundle records no golden scores for 'cpu'"


def test_an_engine_that_fails_while_scoring_fails_the_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_frame_bundle(tmp_path / "b")

    def fail(self: object, picture: object) -> None:
        raise EngineError("engine onnxruntime: failed while running: illegal instruction")

    monkeypatch.setattr(scorer.Scorer, "score", fail)
    report = verify(bundle, "onnxruntime")
    assert not report.passed
    assert report.rows[0].failed
    assert "illegal instruction" in report.rows[0].line()


def test_scores_that_are_not_numbers_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_frame_bundle(tmp_path / "b")
    nan = scorer.Score(float("nan"), None, {"short_term": float("nan")})
    monkeypatch.setattr(scorer.Scorer, "score", lambda self, picture: nan)
    report = verify(bundle, "onnxruntime")
    assert not report.passed
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["passed"] is False
