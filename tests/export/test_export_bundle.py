from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from memedge.errors import BundleError, UsageError
from memedge_engines.bundle import Bundle
from memedge_engines.manifest import Quantiles, Training
from memedge_export import export_bundle, golden, models, onnx_export, weights
from memedge_export.checkpoint import CheckpointInfo, save
from memedge_export.errors import DataError, ExportError


@pytest.fixture(scope="module", autouse=True)
def _each_graph_once() -> Iterator[None]:
    """torch's exporter takes seconds: the graph of the same weights and size is made once."""
    real, made = export_bundle.export_graph, {}

    def remembered(network: torch.nn.Module, size: tuple[int, int]) -> bytes:
        key = (size, *(float(p.detach().double().sum()) for p in network.parameters()))
        if key not in made:
            made[key] = real(network, size)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_bundle, "export_graph", remembered)
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small resnet-s with a preset of its own, a centre crop."""
    network = weights.build(models.entry("resnet-s"), seed=1, width=0.25)
    info = CheckpointInfo(
        model="resnet-s",
        preprocess=models.frame_preset(72, 64),
        width=0.25,
        training=Training(
            status="trained", datasets=("a set",), held_out="a set test", spearman=0.4, spearman_interval=(0.3, 0.5)
        ),
        quantiles=Quantiles(dataset="a set val", values=(0.1, 0.5, 0.9)),
        licence="no licence stated",
    )
    path = tmp_path_factory.mktemp("run") / "best.safetensors"
    save(path, network.state_dict(), info)
    return path


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_bundle.export("resnet-s", str(checkpoint), tmp_path_factory.mktemp("out") / "b", name="tiny")


def test_manifest_says_what_the_checkpoint_said(bundle: Bundle) -> None:
    manifest = bundle.manifest
    bundle.verify_files()
    assert manifest.name == "tiny"
    assert not manifest.untrained
    assert manifest.nodes[0].inputs[0].preprocess == models.frame_preset(72, 64)
    target = manifest.primary
    assert (target.name, target.source, target.aggregate, target.window_s, target.sampling) == (
        "short_term", "model.score", "mean", 7.0, "S7",
    )  # fmt: skip
    assert target.quantiles is not None
    assert target.quantiles.values == (0.1, 0.5, 0.9)
    assert [(o.name, o.role) for o in manifest.nodes[0].outputs] == [("score", "score"), ("embedding", "embedding")]
    assert (manifest.provenance.training.spearman, manifest.provenance.licence) == (0.4, "no licence stated")
    card = bundle.read(manifest.files["model_card"]).decode()
    for words in ("0.400", "0.300 to 0.500", "a set test", "no licence stated", "What it is not for"):
        assert words in card


def test_golden_archive_is_what_its_page_says(bundle: Bundle) -> None:
    with np.load(bundle.path / "golden.npz", allow_pickle=False) as data:
        archive = {name: data[name] for name in data.files}
    contract = bundle.manifest.nodes[0].inputs[0].preprocess
    session = onnxruntime.InferenceSession(str(bundle.path / "model.onnx"), providers=["CPUExecutionProvider"])
    assert bundle.manifest.golden.frames == 6
    sizes = set()
    for number in range(6):
        frame = archive[f"frame_{number}"]
        sizes.add(frame.shape[:2])
        tensor = archive[f"tensor_model_frames_{number}"]
        assert (frame.dtype, tensor.dtype, tensor.shape) == (np.uint8, np.float32, (1, 3, 64, 64))
        # Pillow is the independent reference: exact tensor within its rounding, score within the recorded tolerance.
        std, mean = (np.reshape(v, (3, 1, 1)) for v in (contract.std, contract.mean))
        levels = np.round((tensor * std + mean) * 255)
        picture = pillow(frame, 72, 64)
        assert np.abs(levels[0].transpose(1, 2, 0) - picture).max() <= 1
        pillow_tensor = (picture / 255 - contract.mean) / contract.std
        score = session.run(["score"], {"frames": pillow_tensor.transpose(2, 0, 1)[None].astype(np.float32)})[0]
        expected = float(archive["score_fp32"][number, 0])
        assert min(max(float(score[0, 0]), 0), 1) == pytest.approx(
            expected, abs=bundle.manifest.golden.tolerance["fp32"]
        )
    assert len(sizes) == 6
    assert any(h % 2 and w % 2 for h, w in sizes)
    assert archive["score_fp32"].dtype == np.float64


def pillow(frame: np.ndarray, short: int, crop: int) -> np.ndarray:
    height, width = frame.shape[:2]
    size = (short, int(short * height / width)) if width < height else (int(short * width / height), short)
    resized = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR))
    top, left = round((resized.shape[0] - crop) / 2), round((resized.shape[1] - crop) / 2)
    return resized[top : top + crop, left : left + crop]


def test_existing_bundles_are_kept_unless_forced(bundle: Bundle, checkpoint: Path) -> None:
    before = bundle.hash
    with pytest.raises(BundleError, match=r"exists already.*--force"):
        export_bundle.export("resnet-s", str(checkpoint), bundle.path)
    again = export_bundle.export("resnet-s", str(checkpoint), bundle.path, force=True, name="tiny")
    assert msgspec.structs.replace(again.manifest.provenance, created="") == msgspec.structs.replace(
        bundle.manifest.provenance, created=""
    )
    assert again.manifest.nodes == bundle.manifest.nodes
    assert before


def test_interrupted_export_leaves_nothing(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_bundle.export("resnet-s", str(checkpoint), tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_scores_that_differ_from_torch_stop_the_export(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "PARITY", -1.0)
    with pytest.raises(ExportError, match="differ from torch's"):
        export_bundle.export("resnet-s", str(checkpoint), tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_own_golden_frames(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "g").mkdir()
    rng = np.random.default_rng(0)
    for number in range(2):
        Image.fromarray(rng.integers(0, 256, (90 + number, 100, 3), np.uint8)).save(tmp_path / "g" / f"{number}.png")
    made = export_bundle.export("resnet-s", str(checkpoint), tmp_path / "b", golden_dir=tmp_path / "g")
    with np.load(made.path / "golden.npz", allow_pickle=False) as data:
        archive = {name: data[name] for name in data.files}
    assert made.manifest.golden.frames == 2
    assert archive["frame_1"].shape == (91, 100, 3)
    assert archive["score_fp32"].shape == (2, 1)
    with pytest.raises(DataError, match="no such folder"):
        golden.from_folder(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures"):
        golden.from_folder(tmp_path / "empty")


def test_precisions_are_named_once_and_in_order() -> None:
    assert export_bundle.check_precisions(["fp32", "fp32"]) == ["fp32"]
    assert export_bundle.check_precisions(["int8", "fp16", "int8"]) == ["fp16", "int8"]
    for wrong in (["int4"], ["fp32", "int4"], []):
        with pytest.raises(UsageError, match="expected some of fp32, fp16, int8"):
            export_bundle.check_precisions(wrong)


def test_untrained_bundle_says_so_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = models.entry("resnet-s")
    small = models.ModelEntry(entry.id, lambda width: entry.build(0.25), models.squash_preset(32, 32))
    monkeypatch.setitem(models._entries, "resnet-s", small)
    monkeypatch.chdir(tmp_path)
    made = export_bundle.export("resnet-s", seed=3)
    assert made.path == Path("resnet-s-fp32")
    assert made.manifest.untrained
    assert made.manifest.primary.quantiles is None
    assert "UNTRAINED" in (made.path / "model_card.md").read_text()
    assert capsys.readouterr().err.count("UNTRAINED") == 2
