"""Folds of cross-validation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ks_2samp

from helpers_training import write_set
from memedge_export.data import DataSet, Record, folds, open_data, with_fold
from memedge_export.data.files import duplicates
from memedge_export.data.records import split_hash
from memedge_export.errors import DataError


def invented(count: int) -> list[Record]:
    scores = np.random.default_rng(0).beta(5, 2, count)
    return [Record(f"{n}", Path(f"/nowhere/{n}"), float(s), "train") for n, s in enumerate(scores)]


def test_folds_have_the_same_scores(tmp_path: Path) -> None:
    records = invented(503)
    fold = folds(records, 5)
    assert sorted(np.bincount(fold)) == [100, 100, 101, 101, 101]
    scores = np.array([record.score for record in records])
    assert max(ks_2samp(scores[fold == k], scores[fold != k]).statistic for k in range(5)) < 0.03


def test_folds_depend_on_the_seed_and_not_on_the_order() -> None:
    records = invented(50)
    fold = folds(records, 5)
    assert np.array_equal(folds(records[::-1], 5)[::-1], fold)
    assert np.array_equal(folds(records, 5), fold)
    assert not np.array_equal(folds(records, 5, seed=1), fold)


def test_duplicates_go_together(tmp_path: Path) -> None:
    records = []
    for number in range(30):
        path = tmp_path / f"{number}.jpg"
        # Same sizes throughout, the same first 4 KiB in two, the same file three times.
        path.write_bytes((b"same" if number in (3, 11, 27) else b"%04d" % number) * 2000)
        records.append(Record(path.name, path, number / 30, "train"))
    (tmp_path / "5.jpg").write_bytes(b"x" * 7999 + b"a")
    (tmp_path / "6.jpg").write_bytes(b"x" * 7999 + b"b")
    assert duplicates([record.path for record in records]) == [[3, 11, 27]]
    for seed in range(8):
        fold = folds(records, 5, seed)
        assert fold[3] == fold[11] == fold[27]
    assert duplicates([*(r.path for r in records[:4]), tmp_path / "none.jpg"]) == []


def test_one_fold_validates_and_the_test_part_stays_out(tmp_path: Path) -> None:
    data = open_data(f"folder:{write_set(tmp_path, 40)}")
    parts = [with_fold(data, number, 3) for number in (1, 2, 3)]
    validated = [record.id for part in parts for record in part.split("val")]
    assert sorted(validated) == sorted(r.id for r in data.records if r.split != "test")
    for part in parts:
        assert [r.id for r in part.split("test")] == [r.id for r in data.split("test")]
        assert not {r.id for r in part.split("train")} & {r.id for r in part.split("val")}
    assert len({split_hash([part]) for part in (*parts, data)}) == 4
    assert split_hash([parts[0]]) == split_hash([with_fold(data, 1, 3)])


@pytest.mark.parametrize(("number", "count"), [(0, 5), (6, 5), (1, 1), (1, 41)])
def test_folds_that_cannot_be(tmp_path: Path, number: int, count: int) -> None:
    data = DataSet("x", tuple(replace(record, split="val") for record in invented(40)))
    with pytest.raises(DataError, match="expected"):
        with_fold(data, number, count)
