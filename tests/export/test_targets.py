"""Two targets from one network, and classes, through export and run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import memedge
from memedge.cli import main
from memedge.pictures import generate
from memedge_engines.manifest import Quantiles, Training
from memedge_export import export_bundle, models, untrained, weights
from memedge_export.checkpoint import CheckpointInfo, save
from memedge_export.models.frame import FrameModel
from memedge_export.quant.pipeline import QuantOptions

PRESET = models.squash_preset(32, 32)


def exported(folder: Path, network: FrameModel, *, quant: bool = False) -> Path:
    info = CheckpointInfo(
        model="resnet-s",
        preprocess=PRESET,
        width=0.25,
        targets=network.targets,
        cuts=network.cuts,
        training=Training(status="trained", datasets=("a set",)),
        more_quantiles={name: Quantiles(dataset="its val", values=(0.0, 1.0)) for name in network.targets[1:]},
        licence="none stated",
    )
    save(folder / "best.safetensors", network.state_dict(), info)
    options = QuantOptions(frames=64, gate_frames=40, small_gate=True, method="minmax") if quant else None
    wanted = ["fp32", "int8"] if quant else ["fp32"]
    weights_file = str(folder / "best.safetensors")
    return export_bundle.export("resnet-s", weights_file, folder / "bundle", precisions=wanted, quant=options).path


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FrameModel]:
    torch.set_num_threads(1)
    network = weights.build(models.entry("resnet-s"), seed=3, width=0.25, targets=("short_term", "long_term"))
    untrained.initialise(network, PRESET)
    with torch.no_grad():  # the second score falls where the first one rises, and differently
        network.head["long_term"].weight.copy_(-0.7 * network.linear.weight)
        network.head["long_term"].bias.fill_(1.1 - float(network.linear.bias) * 0.7)
    return exported(tmp_path_factory.mktemp("two"), network, quant=True), network.eval()


def test_both_targets_are_torch_scores(two: tuple[Path, FrameModel]) -> None:
    folder, network = two
    pictures = list(generate(4, 5))
    with memedge.load(folder, precision="fp32") as scorer:
        scores = scorer.score_batch(pictures)
        makers = scorer.bundle.manifest.nodes[0].inputs[0].preprocess
    assert makers == PRESET
    from memedge_export.data.pictures import to_tensor

    with torch.inference_mode():
        first, second = network(torch.stack([to_tensor(p, PRESET) for p in pictures]))[:2]
    assert [s.targets["short_term"] for s in scores] == pytest.approx(first[:, 0].tolist(), abs=1e-4)
    assert [s.targets["long_term"] for s in scores] == pytest.approx(second[:, 0].clamp(0, 1).tolist(), abs=1e-4)
    assert [s.value for s in scores] == [s.targets["short_term"] for s in scores]


def test_int8_keeps_both_and_golden_frames_prove_it(two: tuple[Path, FrameModel], capsys) -> None:
    folder, _ = two
    manifest = memedge.load(folder).bundle.manifest
    assert [(t.name, t.source, t.primary) for t in manifest.targets] == [
        ("short_term", "model.score", True),
        ("long_term", "model.score_long_term", False),
    ]
    assert manifest.targets[1].quantiles is not None
    with np.load(folder / "golden.npz", allow_pickle=False) as golden:
        assert golden["score_fp32"].shape[1] == golden["score_cpu"].shape[1] == 2
        assert np.abs(golden["score_fp32"] - golden["score_cpu"]).max() < 0.05
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(folder)])
    assert not ended.value.code
    assert "long_term" in capsys.readouterr().out


def test_a_stream_reads_both(two: tuple[Path, FrameModel], tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    arguments = ["run", "--source", "test://", "--max-seconds", "0.5", "--bundle", str(two[0]), "--quiet"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--no-tune", "--jsonl", str(out)])
    assert not ended.value.code
    *readings, last = [json.loads(line) for line in out.read_text().splitlines()]
    assert set(readings[0]["targets"]) == {"short_term", "long_term"}
    assert set(last["summary"]["video_score"]) == {"short_term", "long_term"}


def test_classes_give_their_probabilities(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    network = weights.build(models.entry("resnet-s"), seed=3, width=0.25)
    untrained.initialise(network, PRESET)
    network.set_heads(("short_term",), (0.68, 0.77, 0.85))
    folder = exported(tmp_path, network)
    with memedge.load(folder) as scorer:
        score = scorer.score(next(iter(generate(1, 8))))
    probabilities = score.outputs["model.class_probs"]
    assert probabilities.shape == (4,)
    assert float(probabilities.sum()) == pytest.approx(1, abs=1e-5)
    assert score.value == pytest.approx(float(probabilities @ np.array([0.68, 0.77, 0.85, 1.0])), abs=1e-5)
