"""From weights to a bundle with every lowering: what is written, what is refused, and that nothing half-made stays."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr

import memedge
from memedge.errors import MemedgeError
from memedge.fidelity import decode
from memedge.pictures import generate
from memedge.verify import verify
from memedge_engines.bundle import Bundle
from memedge_engines.manifest import Training
from memedge_export import export_bundle, models, untrained, weights
from memedge_export.checkpoint import CheckpointInfo, save
from memedge_export.errors import DataError, ExportError
from memedge_export.quant import pipeline
from memedge_export.quant.gate import GateError
from memedge_export.quant.pipeline import QuantOptions

PRESET = models.frame_preset(56, 48)
INFO = CheckpointInfo(
    model="resnet-s", preprocess=PRESET, width=0.5, training=Training(status="untrained", notes="a test")
)


def save_narrow(path: Path, seed: int) -> Path:
    """A narrow resnet-s as memedge makes untrained networks: its scores spread, so that the gate has work."""
    network = weights.build(models.entry("resnet-s"), seed=seed, width=0.5)
    untrained.initialise(network, PRESET)
    save(path, network.state_dict(), INFO)
    return path


@pytest.fixture(scope="module", autouse=True)
def _each_picture_once() -> Iterator[None]:
    """The gate renders 200 pictures of its own: always the same ones."""
    rendered = functools.cache(lambda *arguments: list(generate(*arguments)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "generate", rendered)
        yield


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
    return save_narrow(tmp_path_factory.mktemp("run") / "best.safetensors", seed=3)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number, picture in enumerate(generate(110, 5, (96, 72))):
        Image.fromarray(picture).save(folder / f"{number:03d}.png")
    return folder


def options(pictures: Path | None, **changes: object) -> QuantOptions:
    given = {
        "calib": None if pictures is None else str(pictures),
        "frames": 40,
        "gate_frames": 60,
        "small_gate": True,
        "threads": 1,
    }
    return QuantOptions(**{**given, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("out") / "b"
    return export_bundle.export(
        "resnet-s", str(checkpoint), out, precisions=["int8", "fp16"], quant=options(pictures), name="q"
    )


def test_bundle_holds_every_lowering_and_the_proof(bundle: Bundle) -> None:
    bundle.verify_files()
    manifest = bundle.manifest
    assert bundle.lowerings() == ("fp32", "cpu", "trt-int8", "trt-fp16")
    assert manifest.provenance.precision == ("fp32", "fp16", "int8")
    assert set(manifest.golden.tolerance) == {"fp32", "cpu", "trt-int8", "trt-fp16"}
    found = decode(bundle.read(manifest.files["fidelity"]))
    assert set(found.lowerings) == {"cpu", "trt-int8", "trt-fp16"}
    assert found.gate.frames == 60
    for lowering in found.lowerings.values():
        assert lowering.passed
        assert lowering.fidelity.spearman is not None
        assert lowering.fidelity.spearman >= 0.99
        assert lowering.fidelity.other is not None
        assert lowering.fidelity.other.frames == 200
    assert {one.method for one in found.lowerings["cpu"].methods} == {"minmax", "percentile", "entropy"}
    calibration = manifest.provenance.calibration
    assert calibration is not None
    assert calibration.frames == 40
    assert calibration.sha256 == manifest.files["ranges"].sha256
    assert str(bundle.path.parent) not in (bundle.path / "manifest.json").read_text()
    sizes = {node: len(bundle.read(bundle.manifest.nodes[0].files[node])) for node in bundle.lowerings()}  # type: ignore[index]
    assert sizes["cpu"] < 0.4 * sizes["fp32"]
    assert sizes["trt-int8"] < 0.4 * sizes["fp32"]


def test_the_proof_is_what_a_user_measures(bundle: Bundle) -> None:
    """The runtime's own int8 and float scores of other pictures, by SciPy."""
    shown = list(generate(60, 991, (120, 90)))
    with (
        memedge.load(bundle.path, "onnxruntime", "int8") as narrow,
        memedge.load(bundle.path, precision="fp32") as wide,
    ):
        assert narrow.precision == "int8"
        a, b = ([s.value for s in scorer.score_batch(shown)] for scorer in (narrow, wide))
    assert spearmanr(a, b).statistic >= 0.99
    assert np.abs(np.subtract(a, b)).mean() <= 0.01
    assert a != b
    with memedge.load(bundle.path) as scorer:
        assert scorer.precision == "int8", "auto takes the int8 lowering that passed the gate"


def test_verify_agrees_and_golden_scores_are_those_of_the_lowerings(bundle: Bundle) -> None:
    report = verify(bundle)
    assert report.passed
    assert any("int8" in line and "passed" in line for line in report.lines())
    with np.load(bundle.path / "golden.npz", allow_pickle=False) as data:
        archive = {name: data[name] for name in data.files}
    file = bundle.path / bundle.manifest.nodes[0].files["trt-fp16"].file
    options_ = onnxruntime.SessionOptions()
    options_.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(file), options_, providers=["CPUExecutionProvider"])
    for number in range(bundle.manifest.golden.frames):
        tensor = archive[f"tensor_model_frames_{number}"]
        score = float(session.run(["score"], {"frames": tensor})[0][0, 0])
        assert score == pytest.approx(float(archive["score_trt-fp16"][number, 0]), abs=5e-3)


def test_ranges_are_used_again_and_refused_for_another_graph(
    bundle: Bundle, checkpoint: Path, pictures: Path, tmp_path: Path
) -> None:
    again = export_bundle.export(
        "resnet-s", str(checkpoint), tmp_path / "again", precisions=["int8"],
        quant=options(pictures, ranges=bundle.path / "ranges.json"), name="q",
    )  # fmt: skip
    for lowering in ("cpu", "trt-int8"):
        entries = [b.manifest.nodes[0].files[lowering] for b in (bundle, again)]  # type: ignore[index]
        assert entries[0].sha256 == entries[1].sha256
    save_narrow(tmp_path / "o.safetensors", seed=4)
    with pytest.raises(ExportError, match="other weights or another export"):
        export_bundle.export(
            "resnet-s", str(tmp_path / "o.safetensors"), tmp_path / "refused", precisions=["int8"],
            quant=options(pictures, ranges=bundle.path / "ranges.json"),
        )  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "o.safetensors"]


def test_what_fails_the_gate_leaves_nothing_unless_allowed(
    bundle: Bundle, checkpoint: Path, pictures: Path, tmp_path: Path
) -> None:
    table = json.loads((bundle.path / "ranges.json").read_text())
    table["tensors"] = {name: [low / 40, high / 40] for name, (low, high) in table["tensors"].items()}
    (tmp_path / "ranges.json").write_text(json.dumps(table))
    narrow = options(pictures, ranges=tmp_path / "ranges.json", gate_frames=16)
    with pytest.raises(GateError, match="did not pass the fidelity gate"):
        export_bundle.export("resnet-s", str(checkpoint), tmp_path / "b", precisions=["int8"], quant=narrow, name="q")
    assert [p.name for p in tmp_path.iterdir()] == ["ranges.json"]
    allowed = options(pictures, ranges=tmp_path / "ranges.json", gate_frames=16, allow=True)
    made = export_bundle.export(
        "resnet-s", str(checkpoint), tmp_path / "b", precisions=["int8"], quant=allowed, name="q"
    )
    found = decode(made.read(made.manifest.files["fidelity"]))
    assert any(one.allowed and not one.passed for one in found.lowerings.values())
    failed = [name for name, one in found.lowerings.items() if not one.passed]
    assert not set(failed) & set(made.manifest.golden.tolerance), "auto must not take what failed"
    if "cpu" in failed:
        with memedge.load(made.path) as scorer:
            assert scorer.precision == "fp32"


def test_calibration_pictures_that_say_nothing_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    few, plain = tmp_path / "few", tmp_path / "plain"
    few.mkdir()
    plain.mkdir()
    for number in range(3):
        Image.fromarray(next(generate(1, number, (64, 48)))).save(few / f"{number}.png")
    for number in range(60):
        Image.new("RGB", (64, 48), (number, 10, 200)).save(plain / f"{number}.png")
    for folder in (few, plain):
        with pytest.raises((DataError, MemedgeError)) as failure:
            export_bundle.export(
                "resnet-s", str(checkpoint), tmp_path / "b", precisions=["int8"], quant=options(folder)
            )
        assert "expected" in str(failure.value)
        assert not (tmp_path / "b").exists()
