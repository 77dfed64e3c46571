"""Recipes, models and sets that do not fit each other are told before the first epoch."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers_sets import gray_videomem
from helpers_training import write_set
from memedge.errors import UsageError
from memedge_export.data import open_data
from memedge_export.errors import TrainingError
from memedge_export.train import start
from memedge_export.train.devices import Devices
from memedge_export.train.loop import Job, train
from memedge_export.train.recipes import recipe_for
from memedge_export.train.state import Run


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("phases.all.rates.neck=1e-3", "phase 'all': no parameter is named like 'neck'; there are trunk, head"),
        ('phases.all.rates={"trunk.layer9": 1}', "did you mean 'trunk.layer"),
        ("phases.head.loss.kind=classes", "classes in all of its phases"),
        ("phases.all.optimiser=lbfgs", "L-BFGS takes one rate"),
    ],
)
def test_recipes_that_do_not_fit(tmp_path: Path, change: str, message: str) -> None:
    epochs: list[Run] = []
    data = open_data(f"folder:{write_set(tmp_path, 8)}")
    job = Job("resnet-s", [data], recipe_for("resnet-s", overrides=[change]), tmp_path / "run", width=0.25)
    with pytest.raises(TrainingError, match=message):
        train(job, after_epoch=epochs.append)
    assert not epochs


def test_several_processes_need_something_each(tmp_path: Path) -> None:
    data = open_data(f"folder:{write_set(tmp_path, 8)}")
    job = Job(
        "resnet-s", [data], recipe_for("resnet-s", recipe="videomem-mlp"), tmp_path / "run", devices=Devices("cpu", 2)
    )
    with pytest.raises(TrainingError, match="L-BFGS takes the whole set in one process"):
        train(job)


def test_classes_are_of_one_target(tmp_path: Path) -> None:
    data = open_data(f"videomem:{gray_videomem(tmp_path)}#split=split.csv")
    both = ("short_term", "long_term")
    with pytest.raises(TrainingError, match="classes are of one target; found short_term, long_term"):
        train(Job("resnet-s", [data], recipe_for("vgg16-ic"), tmp_path / "run", width=0.25, targets=both))


def test_a_target_twice(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--target a --target a; expected each target once"):
        start.training("resnet-s", [f"folder:{write_set(tmp_path, 8)}"], tmp_path / "run", targets=["a", "a"])


@pytest.mark.parametrize(
    "word", ["area=[2,3]", "area=[0.9,0.5]", "area=[0,1]", "aspect=0.5", "brightness=-1", "saturation=2"]
)
def test_augmentations_that_cannot_be_meant(word: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        recipe_for("resnet18", overrides=[f"augmentation.{word}"])
