from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers_training import write_set
from memedge.errors import UsageError
from memedge_export import models
from memedge_export.data import Record, open_data, parse
from memedge_export.data.pictures import PictureCache, fitted, read_picture, to_tensor
from memedge_export.data.records import hashed_split, split_hash
from memedge_export.errors import DataError
from memedge_export.train.augment import colored, region
from memedge_export.train.feed import Material, TrainingFeed, training_scores
from memedge_export.train.recipe import Augmentation, Recipe
from memedge_export.train.recipes import recipe_for


def test_folder_list_with_a_split(tmp_path: Path) -> None:
    data = open_data(f"folder:{write_set(tmp_path, 8)}")
    assert (data.name, len(data.records)) == ("list", 8)
    assert [len(data.split(s)) for s in ("train", "val", "test", "all")] == [4, 2, 2, 8]
    assert data.records[3].path == tmp_path / "pictures" / "003.png"


def test_list_as_spreadsheets_write_it(tmp_path: Path) -> None:
    write_set(tmp_path, 4)
    rows = [
        ",file, score",
        "1,pictures/000.png, 0.5",
        "2,pictures/001.png,nan",
        "3,pictures/002.png,",
        "4,pictures/003.png,1",
    ]
    (tmp_path / "list.csv").write_bytes(("\ufeff" + "\r\n".join(rows)).encode())
    data = open_data(f"folder:{tmp_path / 'list.csv'}")
    assert [record.score for record in data.records] == [0.5, 1.0]
    assert {record.split for record in data.records} <= {"train", "val", "test"}


def test_split_by_hash_is_stable_and_near_its_shares() -> None:
    ids = [f"{n}.jpg" for n in range(2000)]
    split = hashed_split(ids)
    assert split == hashed_split(reversed(ids))
    shares = [sum(v == name for v in split.values()) / 2000 for name in ("train", "val", "test")]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.03)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,value\na.png,1\n", "lacks the column score"),
        ("", "lacks the column file, score"),
        ("file,score\n", "no scored pictures"),
        ("file,score\n../a.png,0.5\n", r"line 2: file '../a.png'"),
        ("file,score\n/etc/a.png,0.5\n", r"line 2: file '/etc/a.png'"),
        ("file,score\na.png,high\n", "line 2: score 'high' is not a number"),
        ("file,score\na.png,59\n", "score 59; expected 0..1"),
        ("file,score,split\na.png,0.5,dev\n", "split 'dev'"),
        ("file,score\na.png,0.5\nb.png,0.5\n", r"list: 2 of 2 pictures are not there, first '.*a.png'"),
    ],
)
def test_malformed_lists(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        open_data(f"folder:{tmp_path / 'list.csv'}")


def test_bad_specifications(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected KIND:PATH"):
        parse("lnsim")
    with pytest.raises(UsageError, match="did you mean 'lnsim'"):
        parse("lnsin:x")
    with pytest.raises(UsageError, match="no scores"):
        open_data(f"tiny32:{tmp_path}")
    with pytest.raises(DataError, match=r"has no scores.csv; expected scores.csv \(file,score,split\)"):
        open_data(f"lnsim:{tmp_path}")
    with pytest.raises(DataError, match="there is no file"):
        open_data(f"folder:{tmp_path / 'none.csv'}")


def test_lnsim_as_it_is_prepared(lnsim: Path) -> None:
    data = open_data(f"lnsim:{lnsim}")
    assert [len(data.split(s)) for s in ("train", "val", "test")] == [1844, 263, 264]
    assert np.mean([r.score for r in data.split("train")]) == pytest.approx(0.602, abs=0.001)
    assert "Lu" in data.title
    assert "no licence" in data.licence


def test_split_hash_names_the_division(tmp_path: Path) -> None:
    one = open_data(f"folder:{write_set(tmp_path / 'a', 8)}")
    same = open_data(f"folder:{write_set(tmp_path / 'b', 8)}")
    other = open_data(f"folder:{write_set(tmp_path / 'c', 8, seed=1)}")
    assert split_hash([one]) == split_hash([same]) != split_hash([other])


def test_cache_stays_within_its_budget(tmp_path: Path) -> None:
    data = open_data(f"folder:{write_set(tmp_path, 10)}")
    cache = PictureCache(16, limit_bytes=3 * 16 * 20 * 3)
    for _ in range(2):
        for record in data.records:
            assert cache(record.path).shape == (16, 20, 3)
            assert cache._bytes <= cache.limit_bytes
    assert len(cache._kept) == 3
    assert np.array_equal(
        PictureCache(99)(data.records[0].path), np.asarray(Image.open(data.records[0].path).convert("RGB"))
    )


def test_tensor_is_pillows_picture_normalised(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (77, 91, 3), np.uint8)).save(path)
    picture = np.asarray(Image.open(path).resize((32, 24), Image.Resampling.BILINEAR))
    contract = models.squash_preset(24, 32)
    assert np.abs(fitted(read_picture(path), contract).astype(int) - picture).max() <= 1
    expected = (picture / 255 - contract.mean) / contract.std
    difference = to_tensor(read_picture(path), contract).numpy() - expected.transpose(2, 0, 1)
    assert np.abs(difference).max() <= 1.01 / 255 / 0.224


def test_augmentation_without_change_is_the_contract() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    contract, still = models.squash_preset(24, 32), Augmentation(mirror=False)
    rng = np.random.default_rng(0)
    shown = region(picture, contract, still, rng)
    assert np.abs(shown.astype(int) - fitted(picture, contract)).max() <= 1
    assert torch.equal(colored(shown[None], contract, still, rng)[0], to_tensor(shown, contract))


def test_random_crop_of_a_cropping_contract_is_a_piece_of_the_resized_picture() -> None:
    picture = np.zeros((64, 128, 3), np.uint8)
    picture[..., 0] = np.arange(128)[None]
    contract, still = models.frame_preset(64, 48), Augmentation(mirror=False)
    left = [region(picture, contract, still, np.random.default_rng(i))[0, 0, 0] for i in range(40)]
    assert min(left) <= 8
    assert 60 <= max(left) <= 128 - 48
    assert region(picture, contract, Augmentation(), np.random.default_rng(1)).shape == (48, 48, 3)


def test_colour_changes_are_mild_and_seeded() -> None:
    batch = np.random.default_rng(0).integers(60, 190, (4, 8, 8, 3), np.uint8)
    how = Augmentation(brightness=0.2, contrast=0.2, saturation=0.2)
    contract = models.squash_preset(8, 8)
    one, two = (colored(batch, contract, how, np.random.default_rng(s)) for s in (1, 2))
    assert torch.equal(one, colored(batch, contract, how, np.random.default_rng(1)))
    assert not torch.equal(one, two)
    still = colored(batch, contract, Augmentation(), np.random.default_rng(1))
    assert 0.01 < (one - still).abs().mean() < 0.8


def test_scores_of_two_sets_share_one_scale(tmp_path: Path) -> None:
    first = open_data(f"folder:{write_set(tmp_path / 'a', 40)}")
    table = write_set(tmp_path / "b", 40, seed=1)
    rows = [line.split(",") for line in table.read_text().splitlines()]
    table.write_text("\n".join([",".join(rows[0]), *(f"{f},{float(s) / 4 + 0.6:.4f},{p}" for f, s, p in rows[1:])]))
    second = open_data(f"folder:{table}")
    material = training_scores([first, second])
    reference, moved = material.targets[:20, 0], material.targets[20:, 0]
    assert moved.mean() == pytest.approx(reference.mean(), abs=0.01)
    assert moved.std() == pytest.approx(reference.std(), rel=0.05)
    assert [(scale.data, scale.target) for scale in material.scales] == [("list", "short_term")] * 2
    assert material.scales[0].mean == pytest.approx(reference.mean(), abs=1e-6)
    stretched = training_scores([first, second], how="minmax").targets[20:, 0]
    assert (stretched.min(), stretched.max()) == pytest.approx((reference.min(), reference.max()), abs=1e-6)


def test_balanced_epochs_draw_bins_equally_often(tmp_path: Path) -> None:
    records = [Record(str(i), tmp_path, 0.0, "train") for i in range(400)]
    scores = np.where(np.arange(400) < 380, 0.2, 0.9).astype(np.float32)[:, None]
    recipe = Recipe(phases=(), balance=4)
    drawn = TrainingFeed(Material(records, scores), models.squash_preset(8, 8), recipe, 1).order(0)
    assert 0.4 < (scores[drawn, 0] > 0.5).mean() < 0.6


def test_epochs_depend_on_seed_and_number_alone(tmp_path: Path) -> None:
    data = open_data(f"folder:{write_set(tmp_path, 20)}")
    material = training_scores([data])
    contract = models.squash_preset(16, 16)

    def epoch(seed: int, number: int) -> torch.Tensor:
        feed = TrainingFeed(material, contract, recipe_for("resnet-s", batch=4), seed)
        return torch.cat([sample.inputs.tensor for _, sample in feed.epoch(number)])

    assert epoch(1, 3).shape == (8, 3, 16, 16)
    assert torch.equal(epoch(1, 3), epoch(1, 3))
    assert not torch.equal(epoch(1, 3), epoch(1, 4))
    assert not torch.equal(epoch(1, 3), epoch(2, 3))
    feed = TrainingFeed(material, contract, recipe_for("resnet-s", batch=4), 1)
    (_, first), (number, second) = feed.epoch(3)
    ((again, late),) = feed.epoch(3, first_step=1)
    assert number == again == 1
    assert torch.equal(second.inputs.tensor, late.inputs.tensor)
    # Two processes share every batch between them.
    halves = [TrainingFeed(material, contract, recipe_for("resnet-s", batch=4), 1, part=(i, 2)) for i in (0, 1)]
    shares = [next(iter(half.epoch(3)))[1].targets for half in halves]
    assert sorted(torch.cat(shares).ravel().tolist()) == sorted(first.targets.ravel().tolist())
