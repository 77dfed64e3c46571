"""Training and validation on videos: one frame of the preset an epoch, whole videos in validation, the live score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

import memedge
from helpers_bundle import evaluate, make_frame_bundle
from helpers_sets import gray_videomem
from helpers_training import shrink, write_set
from memedge.errors import SourceError, UsageError
from memedge_export import models, weights
from memedge_export.commands import train as train_command
from memedge_export.data import Record, open_data
from memedge_export.data.frames import frames_of
from memedge_export.data.pictures import reduced, to_tensor
from memedge_export.data.records import split_hash
from memedge_export.export_bundle import export
from memedge_export.train import start
from memedge_export.train.feed import TrainingFeed, ValidationFeed, training_scores
from memedge_export.train.loop import Job
from memedge_export.train.recipe import Augmentation, Phase, Recipe

SIDE = 16


@pytest.fixture(scope="module")
def videomem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gray_videomem(tmp_path_factory.mktemp("videomem"))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resnet-s of a quarter of its width and 16 pixels."""
    shrink(monkeypatch, SIDE)


def still(batch: int = 8) -> Recipe:
    return Recipe(
        phases=(Phase(name="all", epochs=1, rates={"": 0.1}),), batch=batch, augmentation=Augmentation(mirror=False)
    )


def test_an_epoch_shows_one_frame_of_each_video(videomem: Path) -> None:
    data = open_data(f"videomem:{videomem}#split=split.csv")
    material = training_scores([data], ["long_term"])
    contract = models.squash_preset(SIDE, SIDE)
    shown: set[bytes] = set()
    first = material.records[0]
    known = {to_tensor(reduced(p, SIDE * 3 // 2), contract).numpy().tobytes() for p in frames_of(first.path, "S7")}
    assert len(known) == 4
    for epoch in range(12):
        feed = TrainingFeed(material, contract, still(), 1)
        order = feed.order(epoch)
        ((_, sample),) = feed.epoch(epoch)
        assert sample.inputs.tensor.shape == (8, 3, SIDE, SIDE)
        place = int(np.flatnonzero(order == 0)[0])
        assert sample.targets[place, 0] == pytest.approx(first.targets["long_term"])
        shown.add(sample.inputs.tensor[place].numpy().tobytes())
    assert len(shown) > 1


def test_epochs_are_the_same_from_memory_and_from_disk(videomem: Path, tmp_path: Path) -> None:
    data = open_data(f"videomem:{videomem}#split=split.csv")
    material, contract = training_scores([data]), models.squash_preset(SIDE, SIDE)

    def epoch(frames: Path | None) -> torch.Tensor:
        feed = TrainingFeed(material, contract, still(4), 1, frames=frames)
        return torch.cat([sample.inputs.tensor for _, sample in feed.epoch(3)])

    plain = epoch(None)
    assert torch.equal(plain, epoch(tmp_path / "frames"))
    assert torch.equal(plain, epoch(tmp_path / "frames"))
    assert len(list((tmp_path / "frames").iterdir())) == 8


def test_pictures_and_videos_of_two_sets_are_one_epoch(videomem: Path, tmp_path: Path) -> None:
    sets = [open_data(f"videomem:{videomem}#split=split.csv"), open_data(f"folder:{write_set(tmp_path, 16)}")]
    feed = TrainingFeed(training_scores(sets), models.squash_preset(SIDE, SIDE), still(16), 1)
    ((_, sample),) = feed.epoch(0)
    assert sample.inputs.tensor.shape == (16, 3, SIDE, SIDE)
    validation = ValidationFeed([r for s in sets for r in s.split("val")], models.squash_preset(SIDE, SIDE))
    network = models.entry("resnet-s").build(0.25)
    assert validation.predict(network, 3).shape == (8, 1)


def test_a_videos_score_is_the_mean_over_its_preset(videomem: Path) -> None:
    record = open_data(f"videomem:{videomem}#split=split.csv").records[5]
    contract = models.squash_preset(SIDE, SIDE)
    network = models.entry("resnet-s").build(0.25)
    for preset in ("S7", "K3"):
        got = ValidationFeed([record], contract, sampling=preset).predict(network)
        singles = []
        for picture in frames_of(record.path, preset):
            with torch.inference_mode():
                singles.append(float(network(to_tensor(picture, contract)[None])[0]))
        assert got[0, 0] == pytest.approx(np.mean(np.clip(singles, 0, 1)), abs=2e-3)


class Graph(torch.nn.Module):
    """A bundle's float graph as a network, run by onnx's reference evaluator."""

    targets = ("short_term",)

    def __init__(self, graph: bytes) -> None:
        super().__init__()
        self.graph = graph
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor]:
        return (torch.from_numpy(evaluate(self.graph, frames=frames.contiguous().numpy())["score"]),)


@pytest.mark.parametrize("preset", ["S7", "K3"])
def test_validation_gives_the_live_score(videomem: Path, tmp_path: Path, preset: str) -> None:
    contract = models.squash_preset(32, 32)
    bundle = make_frame_bundle(tmp_path / "bundle", pre=contract, sampling=preset)
    records = open_data(f"videomem:{videomem}#split=split.csv").records[:3]
    graph = Graph((bundle.path / "model.onnx").read_bytes())
    offline = ValidationFeed(records, contract, sampling=preset).predict(graph)  # type: ignore[arg-type]
    with memedge.load(bundle.path) as scorer:
        for record, scores in zip(records, offline, strict=True):
            with memedge.stream(str(record.path), scorer) as readings:
                assert len(list(readings)) == 16
            assert readings.summary is not None
            assert readings.summary.video_score["short_term"] == pytest.approx(scores[0], abs=1e-3)
    assert np.ptp(offline) > 0.01


def test_folds_reach_the_training(videomem: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[Job] = []

    def caught(job: Job, resume: bool) -> Path:
        jobs.append(job)
        return job.out

    monkeypatch.setattr(start, "train", caught)
    spec = f"videomem:{videomem}#split=split.csv"
    for number in (1, 2):
        start.training("resnet-s", [spec], tmp_path, fold=(number, 2))
    parts = [{record.id for record in job.sets[0].split("val")} for job in jobs]
    assert len(parts[0] | parts[1]) == 12
    assert not parts[0] & parts[1]
    assert all("--data videomem:DIR#split=split.csv --fold" in job.notes for job in jobs)
    assert split_hash(jobs[0].sets) != split_hash(jobs[1].sets)


@pytest.mark.parametrize("fold", ["1", "0/5", "6/5", "1/1", "a/b", "1/5/2", ""])
def test_folds_that_cannot_be_meant(fold: str) -> None:
    app = typer.Typer()
    app.command()(train_command.command)
    result = CliRunner().invoke(app, ["--model", "resnet-s", "--data", "lnsim:x", "--fold", fold])
    assert isinstance(result.exception, UsageError)
    assert "expected I/K, such as 1/5" in str(result.exception)


def test_damaged_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.webm").write_bytes(b"nothing")
    records = [Record("a", tmp_path / "a.webm", 0.5, "val")]
    with pytest.raises(SourceError, match=r"a\.webm"):
        ValidationFeed(records, models.squash_preset(SIDE, SIDE)).predict(models.entry("resnet-s").build(0.25))


@pytest.mark.slow
def test_train_validate_export_and_run_agree(videomem: Path, tmp_path: Path, small: None) -> None:
    spec = f"videomem:{videomem}#split=split.csv"
    both, how = ["long_term", "short_term"], ["sampling=K3"]
    best = start.training(
        "resnet-s", [spec], tmp_path / "run", targets=both, overrides=how, seed=3, threads=1, bf16=False
    )
    assert (tmp_path / "run" / "frames").is_dir()
    loaded = weights.load("resnet-s", str(best))
    assert loaded.model.targets == ("long_term", "short_term")
    assert str(videomem) not in loaded.training.notes
    records = open_data(spec).split("test")
    offline = ValidationFeed(records, loaded.preprocess, both, sampling="K3").predict(loaded.model)
    bundle = export("resnet-s", str(best), tmp_path / "bundle")
    assert {target.sampling for target in bundle.manifest.targets} == {"K3"}
    with memedge.load(bundle.path) as scorer:
        for record, scores in zip(records[:2], offline, strict=False):
            with memedge.stream(str(record.path), scorer) as readings:
                list(readings)
            assert readings.summary is not None
            live = [readings.summary.video_score[target] for target in loaded.model.targets]
            assert live == pytest.approx(scores.tolist(), abs=1e-3)
