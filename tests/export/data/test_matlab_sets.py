"""SUN memorability and LNSIM as released: MATLAB files, random halves of the people."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat
from scipy.stats import spearmanr

from helpers_calib import save
from helpers_sets import lnsim_tree, sun_tree
from memedge.errors import UsageError
from memedge_export.data import open_data
from memedge_export.data.matlab import read_variable
from memedge_export.data.sun import unpack
from memedge_export.errors import DataError
from memedge_export.eval.people import consistency


@pytest.fixture
def sun(tmp_path: Path) -> tuple[Path, list[tuple[int, int, int, int]]]:
    counts = sun_tree(tmp_path)
    assert unpack(tmp_path) == 30
    return tmp_path, counts


def test_sun_scores_from_hits_and_misses(sun: tuple[Path, list[tuple[int, int, int, int]]]) -> None:
    root, counts = sun
    data = open_data(f"sun:{root}")
    assert (data.unit, data.targets) == ("picture", ("short_term", "corrected"))
    assert len(data.records) == 28  # two are in no list: fewer than 20 people saw them
    for record in data.records:
        hits, misses, alarms, rejections = counts[int(record.id[7:11]) - 1]
        assert record.score == pytest.approx(hits / (hits + misses))
        assert record.extra["false_alarms"] == pytest.approx(alarms / (alarms + rejections))
        assert record.targets["corrected"] == pytest.approx(record.score - record.extra["false_alarms"])
        assert record.responses == {"short_term": hits + misses}


def test_sun_divisions_count_from_one(sun: tuple[Path, list[tuple[int, int, int, int]]]) -> None:
    root, _ = sun
    for number in (1, 25):
        data = open_data(f"sun:{root}#{number}")
        rows = loadmat(root / "Data" / "Random splits" / "image_test_indices.mat")["image_test_indices"]
        assert {int(r.id[7:11]) for r in data.split("test")} == {int(v) for v in rows[number - 1]}
        assert len(data.split("train")) + sum(r.split == "val" for r in data.records) == 15
    with pytest.raises(UsageError, match=r"sun:DIR#1 to sun:DIR#25"):
        open_data(f"sun:{root}#26")


def test_sun_halves_follow_the_records(sun: tuple[Path, list[tuple[int, int, int, int]]]) -> None:
    data = open_data(f"sun:{sun[0]}")
    assert data.halves is not None
    assert data.halves.shape == (2, 25, 28)
    assert data.halves.mean(axis=(0, 1)) == pytest.approx([record.score for record in data.records])
    agreement = consistency(data.halves, {})
    assert agreement is not None
    expected = np.mean([spearmanr(a, b).statistic for a, b in zip(*data.halves, strict=True)])
    assert agreement.spearman == pytest.approx(expected)


def test_sun_pictures_are_unpacked_losslessly(sun: tuple[Path, list[tuple[int, int, int, int]]]) -> None:
    root, _ = sun
    matrix = loadmat(root / "Data" / "Image data" / "target_images.mat")["img"]
    path = root / "Data" / "Image data" / "targets" / "target_0007.png"
    assert np.array_equal(np.asarray(Image.open(path)), matrix[..., 6])
    shutil.rmtree(path.parent)
    with pytest.raises(DataError, match=r"expected the pictures of target_images\.mat in it") as found:
        open_data(f"sun:{root}")
    assert "memedge data unpack sun:DIR" in str(found.value)


def test_sun_in_lamems_form(tmp_path: Path) -> None:
    (tmp_path / "splits").mkdir()
    for part, numbers in (("train", range(1, 41)), ("test", range(41, 61))):
        lines = [f"{save(tmp_path / 'images' / f'{n:08}.jpg', n).name} 0.{n:06}\n" for n in numbers]
        (tmp_path / "splits" / f"{part}_25.txt").write_text("".join(lines))
    data = open_data(f"sun:{tmp_path}#25")
    counts = [len(data.split(s)) for s in ("train", "val", "test")]
    assert (sum(counts), counts[2]) == (60, 20)
    assert 1 <= counts[1] <= 10
    with pytest.raises(DataError, match=r"no '.*train_1\.txt'"):
        open_data(f"sun:{tmp_path}")


def test_incomplete_sun_trees(sun: tuple[Path, list[tuple[int, int, int, int]]], tmp_path: Path) -> None:
    root, _ = sun
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"has neither 'Data/Experiment data/sorted_target_data.mat'"):
        open_data(f"sun:{tmp_path / 'empty'}")
    splits = root / "Data" / "Random splits"
    savemat(splits / "image_test_indices.mat", {"image_test_indices": np.full((25, 3), 31.0)})
    with pytest.raises(DataError, match="row 1: picture 31 of 30; expected 1 to 30, each once"):
        open_data(f"sun:{root}")
    (splits / "image_test_indices.mat").unlink()
    with pytest.raises(DataError, match=r"no '.*image_test_indices\.mat'; expected a MATLAB file with the variable"):
        open_data(f"sun:{root}")
    (splits / "image_train_indices.mat").unlink()
    assert len(open_data(f"sun:{root}").records) == 30  # by a hash
    path = root / "Data" / "Experiment data" / "sorted_target_data.mat"
    savemat(path, {"sorted_target_data": np.arange(4.0)})
    with pytest.raises(DataError, match="entry 1: expected a struct with the counts hits, misses"):
        open_data(f"sun:{root}")


def test_matlab_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n" + bytes(64))
    with pytest.raises(DataError, match=r"version 7\.3 \(HDF5\), which is not read"):
        read_variable(path, "img")
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="cannot be read as a MATLAB file"):
        read_variable(path, "img")
    savemat(path, {"other": 1})
    with pytest.raises(DataError, match="has no variable img"):
        read_variable(path, "img")


def test_lnsim_as_released(tmp_path: Path) -> None:
    scores = lnsim_tree(tmp_path)
    data = open_data(f"lnsim:{tmp_path}")
    assert [r.score for r in data.records] == pytest.approx(scores)
    assert [r.id for r in data.records[:2]] == ["0001.jpg", "0002.jpg"]
    assert data.halves is not None
    assert data.halves.shape == (2, 25, 40)
    assert data.records[2].split == data.records[6].split  # one file twice
    assert {r.split for r in data.records} == {"train", "val", "test"}
    (tmp_path / "Image_data" / "0005.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 40 pictures are not there, first '.*0005\.jpg'"):
        open_data(f"lnsim:{tmp_path}")
    rest = open_data(f"lnsim:{tmp_path}", missing="drop")
    assert rest.halves is not None
    assert rest.halves.mean(axis=(0, 1)) == pytest.approx([record.score for record in rest.records])


def test_incomplete_lnsim_trees(tmp_path: Path) -> None:
    lnsim_tree(tmp_path, 4)
    half = tmp_path / "Random_splits" / "subject_hrs2.mat"
    savemat(half, {"subject_hrs2": np.zeros((25, 3))})
    with pytest.raises(DataError, match=r"halves of \[25, 4\] and \[25, 3\]; expected the same|subject_hrs1 \[25, 4\]"):
        open_data(f"lnsim:{tmp_path}")
    half.unlink()
    with pytest.raises(DataError, match=r"no '.*subject_hrs2\.mat'"):
        open_data(f"lnsim:{tmp_path}")
    (tmp_path / "Image_data").rename(tmp_path / "images")
    with pytest.raises(DataError, match=r"no folder '.*Image_data'.*join images\.z01 and images\.zip"):
        open_data(f"lnsim:{tmp_path}")


def test_prepared_lnsim_with_halves(lnsim: Path) -> None:
    data = open_data(f"lnsim:{lnsim}")
    assert data.halves is not None
    agreement = consistency(data.halves, {})
    assert agreement is not None
    assert (agreement.halvings, round(agreement.spearman, 3)) == (25, 0.779)


def test_halves_that_do_not_fit(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.jpg", 1)
    (tmp_path / "scores.csv").write_text("file,score,split\na.jpg,0.5,train\n")
    table = tmp_path / "halves.csv"
    table.write_text("file,a_01,b_01,a_02,b_02\na.jpg,0.25,0.75,0.5,\n")
    halves = open_data(f"lnsim:{tmp_path}").halves
    assert halves is not None
    assert np.array_equal(halves[:, :, 0], [[0.25, 0.5], [0.75, np.nan]], equal_nan=True)
    for text, message in {
        "file,a_01,b_01\nb.jpg,1,1\n": r"lacks a\.jpg",
        "file,score\na.jpg,1\n": "has no columns a_01, b_01",
        "file,a_01\na.jpg,1\n": "column b_01 is missing",
        "file,a_01,b_01\na.jpg,high,1\n": "column a_01 is missing or holds something else",
    }.items():
        table.write_text(text)
        with pytest.raises(DataError, match=message):
            open_data(f"lnsim:{tmp_path}")
