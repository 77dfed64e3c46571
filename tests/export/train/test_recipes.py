"""Recipes: the published numbers, strict keys, overrides, files."""

from __future__ import annotations

from pathlib import Path

import pytest

from memedge.errors import UsageError
from memedge.models import cards
from memedge_export import models
from memedge_export.train import losses
from memedge_export.train.recipe import Schedule
from memedge_export.train.recipes import default_of, named, recipe_for


def test_every_card_has_its_recipe_and_no_other():
    listed = [model for recipe in named().values() for model in recipe.models]
    assert len(listed) == len(set(listed))
    ids = {card.id for card in cards()}
    assert set(listed) <= ids
    without = ids - set(listed) - {"memedge-s"}  # its own pipeline: train/scene.py
    assert not without, sorted(without)
    assert all(default_of(model) in named() for model in models.names())


def test_published_numbers():
    resnet = recipe_for("resnet101")
    assert [(p.name, p.epochs, p.rates["head"]) for p in resnet.phases] == [("head", 5, 1e-3), ("all", 15, 1e-5)]
    assert (resnet.batch, resnet.sampling, resnet.phases[0].loss) == (32, "S7", losses.Mse())
    m3s = recipe_for("m3s", recipe="m3s-videomem").phases[0]
    assert m3s.loss == losses.Scheduled(eps=1.0, divide=100.0)
    assert m3s.schedule.at(8, 20) == pytest.approx(0.2852)
    assert recipe_for("vgg16-ic").phases[0].loss == losses.Classes(count=4, cuts=(0.68, 0.77, 0.85))
    assert recipe_for("amnet").phases[0].frozen_batch_norm == "train"
    semantic = recipe_for("semantic").phases
    # Halved every 3 epochs over the whole training: 1e-3 / 2^3 when the trunk begins at epoch 10.
    assert semantic[2].rates["trunk"] * semantic[2].schedule.at(0, 20) == pytest.approx(1.25e-4)
    assert sum(p.epochs for p in semantic) == 30
    assert recipe_for("semantic-memnet").balance == 20


def test_schedules():
    cosine = Schedule(kind="cosine")
    assert [round(cosine.at(e, 10), 6) for e in (0, 5, 10)] == [1.0, 0.505, 0.01]
    assert Schedule(warm_up=2).at(0.5, 10) == 0.25
    step = Schedule(kind="step", every=5, factor=0.2)
    assert [step.at(e, 20) for e in (0, 4.9, 5, 12)] == pytest.approx([1, 1, 0.2, 0.04])


def test_overrides():
    recipe = recipe_for("resnet18", overrides=["phases.all.rates.head=1e-4", "precision=bf16"], epochs=3, batch=8)
    assert recipe.phases[1].rates == {"head": 1e-4, "trunk": 1e-5}
    assert (recipe.precision, recipe.phases[1].epochs, recipe.batch) == ("bf16", 3, 8)
    rank = recipe_for("vgg16-ic", overrides=["phases.head.loss.kind=spearman", "phases.head.loss.divide=10"])
    assert rank.phases[0].loss == losses.Spearman(divide=10)
    cuts = recipe_for("vgg16-ic", overrides=["phases.head.loss.cuts=[]", "phases.head.loss.count=2"])
    assert cuts.phases[0].loss == losses.Classes(count=2)
    assert recipe_for("resnet18", overrides=["augmentation.area=[0.5, 1]"]).augmentation.area == (0.5, 1.0)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("phases.tail.epochs=3", "no key 'phases.tail'"),
        ("phases.all.epoch=3", "did you mean 'epochs'"),
        ("bacth=3", "did you mean 'batch'"),
        ("batch", "expected KEY=VALUE"),
        ("batch=1", "expected 2 or more"),
        ("batch=many", "batch"),
        ("phases.all.epochs=0", "expected 1 or more"),
        ("phases.all.rates.head=-1", "expected 0 or more"),
        ("phases.all.loss.kind=huber", "huber"),
        ("phases.all.loss.wieght=2", "wieght"),
        ("average=1", "expected 0..1"),
        ("sampling=S9", "expected one of S7, S28"),
        ("phases.all.schedule.every=0", "every >= 1"),
    ],
)
def test_wrong_overrides_are_named(word, message):
    with pytest.raises(UsageError, match=message):
        recipe_for("resnet18", overrides=[word])


def test_files_and_names(tmp_path: Path):
    file = tmp_path / "own.toml"
    file.write_text('batch = 4\n[[phases]]\nname = "only"\nepochs = 2\nrates = { head = 0.01 }\n')
    own = recipe_for("resnet18", recipe=str(file))
    assert (own.batch, own.phases[0].name, own.phases[0].loss) == (4, "only", losses.Mse())
    for text, message in (
        ('batch = 4\n[[phases]]\nname = "a"\nepochs = 2\nrates = {h=1.0}\nrate = 3\n', "unknown field `rate`"),
        ("batch = 4\nphases = []\n", "no phases"),
        ("batch = ", "no TOML"),
    ):
        file.write_text(text)
        with pytest.raises(UsageError, match=message):
            recipe_for("resnet18", recipe=str(file))
    with pytest.raises(UsageError, match="did you mean 'semantic'"):
        recipe_for("resnet18", recipe="semantc")
    with pytest.raises(UsageError, match="cannot be read"):
        recipe_for("resnet18", recipe=str(tmp_path / "none.toml"))
