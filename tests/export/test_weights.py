from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from memedge.pictures import generate
from memedge_engines.manifest import Training
from memedge_export import checkpoint, models, untrained, weights
from memedge_export.data.pictures import to_tensor
from memedge_export.errors import WeightsError

TINY = models.frame_preset(32, 32)
ENTRY = models.ModelEntry("resnet18", models.entry("resnet18").build, TINY, "resnet18")


@pytest.fixture(autouse=True)
def _tiny_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registered models at an eighth of their width and 32 pixels: files of this size are written in no time."""
    for name, entry in list(models._entries.items()):
        small = models.ModelEntry(name, lambda width, build=entry.build: build(width / 8), TINY, entry.torchvision)
        monkeypatch.setitem(models._entries, name, small)


def network(seed: int = 3) -> torch.nn.Module:
    torch.manual_seed(seed)
    return models.entry("resnet18").build(1.0).eval()


def torchvision_state(seed: int = 3, classes: int = 1000) -> dict[str, torch.Tensor]:
    state = {k.removeprefix("trunk."): v for k, v in network(seed).state_dict().items() if k.startswith("trunk.")}
    return {**state, "fc.weight": torch.randn(classes, 64), "fc.bias": torch.zeros(classes)}


def same_trunk(loaded: weights.Loaded, seed: int = 3) -> bool:
    want = network(seed).trunk.state_dict()
    return all(torch.equal(v, want[k]) for k, v in loaded.model.trunk.state_dict().items() if "num_batches" not in k)


def test_torchvision_classifier_is_dropped_and_the_head_said_to_be_untrained(tmp_path: Path) -> None:
    torch.save(torchvision_state(), tmp_path / "tv.pth")
    loaded = weights.load("resnet18", str(tmp_path / "tv.pth"))
    assert same_trunk(loaded)
    assert loaded.training.status == "untrained"
    assert any("1000 values" in note for note in loaded.notes)
    assert any("mean nothing" in note for note in loaded.notes)


def test_torchvision_names_with_a_fitting_head_and_module_prefixes(tmp_path: Path) -> None:
    state = torchvision_state(classes=1)
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "tv.pth")
    loaded = weights.load("resnet18", str(tmp_path / "tv.pth"))
    assert same_trunk(loaded)
    assert torch.equal(loaded.model.linear.weight, state["fc.weight"])
    assert loaded.training.status == "trained"


def test_checkpoint_of_ours_brings_its_preset_and_training(tmp_path: Path) -> None:
    info = checkpoint.CheckpointInfo(
        model="resnet18", preprocess=models.frame_preset(48, 40), training=Training(status="trained", datasets=("d",))
    )
    checkpoint.save(tmp_path / "c.safetensors", network().state_dict(), info)
    loaded = weights.load("resnet18", str(tmp_path / "c.safetensors"))
    assert same_trunk(loaded)
    assert (loaded.preprocess, loaded.training) == (info.preprocess, info.training)
    with pytest.raises(WeightsError, match=r"checkpoint of resnet18; expected resnet-s.*--model resnet18"):
        weights.load("resnet-s", str(tmp_path / "c.safetensors"))


def test_missing_keys_are_named(tmp_path: Path) -> None:
    state = torchvision_state()
    del state["layer2.0.conv1.weight"], state["bn1.bias"]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(WeightsError, match=r"2 of \d+ keys are missing: trunk.bn1.bias, trunk.layer2.0.conv1.weight"):
        weights.load("resnet18", str(tmp_path / "part.safetensors"))


def test_wrong_shapes_are_named_with_what_was_expected(tmp_path: Path) -> None:
    save_file({**torchvision_state(), "conv1.weight": torch.zeros(9, 3, 7, 7)}, tmp_path / "wide.safetensors")
    with pytest.raises(WeightsError, match=r"trunk.conv1.weight \[9, 3, 7, 7\], expected \[8, 3, 7, 7\]"):
        weights.load("resnet18", str(tmp_path / "wide.safetensors"))


def test_unused_keys_are_reported_and_bad_values_refused(tmp_path: Path) -> None:
    state = torchvision_state(classes=1)
    save_file({**state, "layer9.x": torch.zeros(1)}, tmp_path / "more.safetensors")
    loaded = weights.load("resnet18", str(tmp_path / "more.safetensors"))
    assert any("1 keys were not used: trunk.layer9.x" in note for note in loaded.notes)
    save_file({**state, "conv1.weight": torch.full((8, 3, 7, 7), float("nan"))}, tmp_path / "nan.safetensors")
    with pytest.raises(WeightsError, match="not finite, in trunk"):
        weights.load("resnet18", str(tmp_path / "nan.safetensors"))


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_refused_and_not_executed(tmp_path: Path, zipped: bool) -> None:
    trace, file = tmp_path / "executed", tmp_path / "evil.pth"
    if zipped:
        torch.save({"conv1.weight": torch.zeros(1), "x": _Bomb(trace)}, file)
    else:
        file.write_bytes(pickle.dumps(_Bomb(trace), protocol=2))
    with pytest.raises(WeightsError, match="nothing was executed"):
        weights.load("resnet18", str(file))
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read weights"),
        (b"", "an empty file"),
        (b"a text, not weights", "neither a safetensors file nor a torch file"),
        (b"PK\x03\x04 not a zip", "damaged or cut short"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{", "damaged or cut short"),
    ],
)
def test_unusable_files(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "weights.bin"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        weights.load("resnet18", str(file))


def test_truncated_checkpoint(tmp_path: Path) -> None:
    save_file(torchvision_state(), tmp_path / "whole.safetensors")
    data = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(WeightsError, match="damaged or cut short"):
        weights.load("resnet18", str(tmp_path / "half.safetensors"))


def test_newest_run_is_found_and_named(tmp_path: Path) -> None:
    info = checkpoint.CheckpointInfo(model="resnet18", preprocess=TINY, training=Training(status="trained"))
    for seed, name in ((3, "new"), (4, "old")):
        path = tmp_path / "resnet18" / name / "best.safetensors"
        checkpoint.save(path, network(seed).state_dict(), info)
        os.utime(path, (1000 * seed, 2000 if name == "new" else 1000))
    loaded = weights.load("resnet18", runs=tmp_path)
    assert same_trunk(loaded, 3)
    assert str(tmp_path / "resnet18" / "new" / "best.safetensors") in loaded.notes[0]


def test_untrained_network_as_the_recipe_says(tmp_path: Path) -> None:
    loaded = weights.load("resnet18", seed=5, runs=tmp_path)
    again = weights.load("resnet18", seed=5, runs=tmp_path)
    states = [list(one.model.state_dict().values()) for one in (loaded, again)]
    assert all(torch.equal(a, b) for a, b in zip(states[0], states[1], strict=True))
    assert loaded.training.status == "untrained"
    blocks = [m for m in loaded.model.trunk.modules() if hasattr(m, "last_bn")]
    assert len(blocks) == 8
    assert all(torch.all(block.last_bn.weight == 0.2) for block in blocks)
    pictures = torch.stack([to_tensor(p, TINY) for p in generate(untrained.PICTURES, untrained.PICTURE_SEED)])
    with torch.no_grad():
        stem = loaded.model.trunk.conv1(pictures)
        score = loaded.model(pictures)[0][:, 0].double()
        features = loaded.model.trunk(pictures).double()
    # The stem's statistics are those of the 64 pictures themselves.
    assert torch.allclose(loaded.model.trunk.bn1.running_mean, stem.mean((0, 2, 3)), atol=1e-4)
    assert score.mean().item() == pytest.approx(0.5, abs=1e-4)
    assert score.std().item() == pytest.approx(0.05, rel=1e-3)
    # The head lies along the first principal component: no direction of the features varies more.
    weight = loaded.model.linear.weight[0].double()
    top = torch.linalg.eigvalsh(torch.cov(features.T))[-1]
    assert (features @ (weight / weight.norm())).var().item() == pytest.approx(top.item(), rel=1e-4)
    assert weight[weight.abs().argmax()] > 0


def test_imagenet_weights_exist_for_torchvisions_models_only() -> None:
    with pytest.raises(WeightsError, match="no ImageNet weights for resnet-s"):
        weights.load("resnet-s", "imagenet")


def test_absent_torchvision_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from memedge_export import torchvision_compat

    monkeypatch.setattr(torchvision_compat.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="torchvision is not installed"):
        weights.load("resnet18", "imagenet")
