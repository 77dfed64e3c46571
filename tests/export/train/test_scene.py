from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr

from helpers_training import write_set
from memedge.errors import UsageError
from memedge_export import models, weights
from memedge_export.blocks.filter_bank import FilterBank
from memedge_export.blocks.scene_trunk import SmallResNet
from memedge_export.data.pictures import fitted, normalise
from memedge_export.errors import TrainingError
from memedge_export.models import IMAGENET_MEAN, IMAGENET_STD
from memedge_export.train import start_scene
from memedge_export.train.crop_pretrain import SIDES, crops, pretrain_crops, rate_at, side_at
from memedge_export.train.kernel_teacher import KernelTeacher, Scaling
from memedge_export.train.scene import SceneRecipe, out_of_fold, train_scene

_MEAN = np.array(IMAGENET_MEAN, np.float32)
_STD = np.array(IMAGENET_STD, np.float32)


def _frames(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(((pictures - _MEAN) / _STD).astype(np.float32)).permute(0, 3, 1, 2)


def _grating(angle: float, wave: float) -> np.ndarray:
    y, x = np.mgrid[:128, :128]
    level = 0.5 + 0.3 * np.cos(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / wave)
    return np.repeat(level[..., None], 3, 2)


@pytest.mark.parametrize("scale", [0, 1, 2])
def test_energy_is_greatest_at_the_gratings_orientation_and_nil_without_structure(scale: int) -> None:
    bank = FilterBank(IMAGENET_MEAN, IMAGENET_STD)
    pictures = np.stack([_grating(np.pi * k / 8, 4.0 * 2**scale) for k in range(8)] + [np.full((128, 128, 3), 0.7)])
    frames = _frames(pictures)
    energy = bank(frames, torch.nn.functional.avg_pool2d(frames, 2))[1 + scale].view(9, 8, 16).mean(2)
    assert energy[:8].argmax(1).tolist() == list(range(8))
    assert float(energy[8].abs().max()) < 1e-5


def test_color_features_are_means_of_half_spaces() -> None:
    bank = FilterBank(IMAGENET_MEAN, IMAGENET_STD)
    picture = np.random.default_rng(0).uniform(size=(1, 64, 64, 3)).repeat(2, 1).repeat(2, 2)
    frames = _frames(picture)
    found = bank(frames, torch.nn.functional.avg_pool2d(frames, 2))[0][0].numpy()
    weight = bank.color.weight[:, :, 0, 0].numpy() / _STD
    bias = bank.color.bias.numpy() - weight @ _MEAN
    expected = np.maximum(picture[0, ::2, ::2].reshape(-1, 3) @ weight.T + bias, 0).mean(0)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert [v.shape[1] for v in bank(frames, torch.nn.functional.avg_pool2d(frames, 2))] == list(bank.sizes)


def test_a_standardised_layer_is_taken_over() -> None:
    network = weights.build(models.entry("memedge-s"), seed=0, width=0.25)
    trunk = network.trunk.eval()
    frames = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        joined = torch.cat(trunk.pooled(frames), 1)
        layer = torch.nn.Linear(joined.shape[1], trunk.features)
        center, scale = torch.rand(joined.shape[1]), torch.rand(joined.shape[1])
        trunk.set_hidden(layer.weight, layer.bias, center, scale)
        expected = torch.relu(layer((joined - center) * scale))
        torch.testing.assert_close(trunk(frames), expected, atol=1e-5, rtol=1e-4)


def test_teacher_interpolates_without_noise_and_gives_the_mean_far_away() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(30, 7)), rng.uniform(size=30)
    scaling = Scaling.fit(x, [3, 4], [1.0, 2.0])
    # Three numbers with a third of the weight, four with two thirds: mean squared length 1.
    squares = scaling(x) ** 2
    np.testing.assert_allclose([squares[:, :3].sum(1).mean(), squares[:, 3:].sum(1).mean()], [1 / 3, 2 / 3], atol=1e-3)
    teacher = KernelTeacher.fit(x, y, scaling, gamma=5.0, ridge=1e-9)
    np.testing.assert_allclose(teacher(x), y, atol=1e-5)
    np.testing.assert_allclose(teacher(x + 1e3), y.mean(), atol=1e-9)


def test_crops_are_places_of_the_picture() -> None:
    pictures = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8)
    for side in (24, 32):
        found = crops(pictures, side, torch.Generator().manual_seed(0))
        levels = ((found.permute(0, 2, 3, 1).numpy() * _STD + _MEAN) * 255).round().astype(int)
        for picture, crop in zip(pictures.numpy().astype(int), levels, strict=True):
            padded = np.pad(picture, ((2, 2), (2, 2), (0, 0)), mode="reflect") if side == 32 else picture
            windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), (0, 1))
            windows = windows.reshape(-1, 3, side, side).transpose(0, 2, 3, 1)
            assert any((window == crop).all() or (window[:, ::-1] == crop).all() for window in windows)
    assert [side_at(begin) for begin, _ in SIDES] == [side for _, side in SIDES]
    assert rate_at(0.15) == pytest.approx(0.12)
    assert rate_at(1.0) == 0
    assert rate_at(0.0) < 0.01


def _scored(count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Noise whose redness is the score."""
    rng = np.random.default_rng(3)
    scores = rng.uniform(0.1, 0.9, count)
    pictures = []
    for score in scores:
        levels = rng.uniform(0, 255, (40, 48, 3)) * np.array([0.4 + 0.6 * score, 0.7, 0.7])
        pictures.append(levels.astype(np.uint8))
    return pictures, scores


_QUICK = SceneRecipe(views=3, steps=120, epochs=1)


def test_training_learns_the_colour_and_leaves_early_stages_and_filters_alone() -> None:
    entry = models.entry("memedge-s")
    network = weights.build(entry, seed=0, width=0.25)
    pictures, scores = _scored(128)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    said: list[str] = []
    train_scene(network, pictures.__getitem__, scores, entry.preprocess, _QUICK, seed=1, report=said.append)
    after = network.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    allowed = ("trunk.network.stages.2.", "trunk.hidden.", "head.")
    assert changed
    assert all(k.startswith(allowed) for k in changed)
    assert {"head.0.weight", "trunk.hidden.0.bias", "trunk.network.stages.2.conv1.weight"} <= changed
    again, truth = _scored(160)
    network.eval()
    with torch.inference_mode():
        frames = normalise(np.stack([fitted(p, entry.preprocess) for p in again[128:]]), entry.preprocess)
        found = network(frames)[0][:, 0].numpy()
    assert spearmanr(found, truth[128:])[0] > 0.9
    assert abs(float(found.mean()) - truth.mean()) < 0.1
    assert said
    assert "views of 128 pictures" in said[0]


def test_out_of_fold_scores_leave_the_network_as_it_was() -> None:
    entry = models.entry("memedge-s")
    network = weights.build(entry, seed=0, width=0.25)
    pictures, scores = _scored(144)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    fold = np.arange(144) % 2
    found, away = out_of_fold(
        network, pictures.__getitem__, scores, fold, entry.preprocess, _QUICK, seed=1, report=lambda _: None
    )
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert spearmanr(found, scores)[0] > 0.8
    # Pictures of the same kind lie about as far away as a standard normal vector: 1 an axis.
    assert 0.5 < np.median(away) < 2
    assert (away > 0).all()


def test_unfit_sets_and_models_are_refused() -> None:
    entry = models.entry("memedge-s")
    network = weights.build(entry, seed=0, width=0.25)
    pictures, scores = _scored(20)
    with pytest.raises(TrainingError, match="20 pictures"):
        train_scene(network, pictures.__getitem__, scores, entry.preprocess, _QUICK, seed=1, report=lambda _: None)
    other = weights.build(models.entry("resnet-s"), seed=0, width=0.25)
    with pytest.raises(TrainingError, match="for memedge-s"):
        train_scene(
            other, pictures.__getitem__, np.resize(scores, 64), entry.preprocess, _QUICK, seed=1, report=lambda _: None
        )


@pytest.fixture
def tiny32(tmp_path: Path) -> Path:
    """60 small pictures of three colours."""
    rng = np.random.default_rng(0)
    labels = np.arange(60).astype(np.uint8) % 3
    files, offsets = [], [0]
    for label in labels:
        levels = np.clip(rng.normal(60, 10, (32, 32, 3)) + 120 * np.eye(3)[label], 0, 255)
        buffer = io.BytesIO()
        Image.fromarray(levels.astype(np.uint8)).save(buffer, "JPEG", quality=90)
        files.append(np.frombuffer(buffer.getvalue(), np.uint8))
        offsets.append(offsets[-1] + len(files[-1]))
    np.savez(tmp_path / "train.npz", jpeg=np.concatenate(files), offset=np.array(offsets), label=labels)
    return tmp_path


def test_pretraining_learns_and_resumes_to_the_same_bits(tmp_path: Path, tiny32: Path) -> None:
    def run(out: Path, epochs: Sequence[int]) -> tuple[dict[str, torch.Tensor], list[str]]:
        said: list[str] = []
        for count in epochs:
            torch.manual_seed(5)
            trunk = SmallResNet(8, (8, 16, 16))
            path = pretrain_crops(
                trunk, 16, tiny32, out, epochs=6, seed=1, report=said.append, batch=16, held_out=12, last=count
            )
        return weights.read_state(path)[0], said

    whole, said = run(tmp_path / "a", [6])
    parts, _ = run(tmp_path / "b", [4, 6])
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[k], parts[k]) for k in whole)
    assert "epoch 6/6" in said[-1]
    assert float(said[-1].rsplit(" ", 1)[1]) > 0.8


@pytest.mark.slow
def test_one_command_pretrains_cross_validates_and_trains(tmp_path: Path, tiny32: Path) -> None:
    table = write_set(tmp_path / "set", 140)
    found = start_scene.training(
        f"folder:{table}", tmp_path / "run", init=None, pretrain=f"tiny32:{tiny32}", epochs=1, recipe=_QUICK
    )
    loaded = weights.load("memedge-s", str(found))
    assert loaded.training.status == "trained"
    assert "5-fold cross-validation" in loaded.training.notes
    assert loaded.quantiles["short_term"].dataset == "list train and val, out of fold (105 pictures)"
    assert loaded.domain is not None
    with pytest.raises(TrainingError, match="a run lies"):
        start_scene.training(f"folder:{table}", tmp_path / "run", init="x", pretrain=None)


def test_a_start_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--pretrain tiny32:DIR"):
        start_scene.training("folder:none.csv", tmp_path, init=None, pretrain=None)
    torch.save({"stem.0.conv.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(TrainingError, match="does not hold the residual network"):
        start_scene.load_trunk(weights.build(models.entry("memedge-s"), seed=0, width=0.25), tmp_path / "other.pt")
