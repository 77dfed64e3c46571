"""LaMem in its released form: five divisions with scores of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers_sets import lamem_tree
from memedge.errors import UsageError
from memedge_export.data import open_data, parse
from memedge_export.data.lamem import mean_scores, over_splits, read_lamem
from memedge_export.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return lamem_tree(tmp_path / "lamem", 12, 4, 6, (1, 2, 3, 4, 5))


def lines(root: Path, name: str) -> dict[str, float]:
    found = (line.split(" ") for line in (root / "splits" / name).read_text().splitlines())
    return {file: float(score) for file, score in found}


@pytest.mark.parametrize("number", [1, 2, 5])
def test_one_number_is_read_and_no_other(root: Path, number: int) -> None:
    (root / "splits" / "full.txt").write_text("00000001.jpg 0.111111\n")
    data = open_data(f"lamem:{root}#{number}")
    assert [len(data.split(s)) for s in ("train", "val", "test")] == [12, 4, 6]
    for split in ("train", "val", "test"):
        assert {r.id: r.score for r in data.split(split)} == lines(root, f"{split}_{number}.txt")
    assert data.records[0].path.parent == root / "images"
    assert (data.unit, data.targets) == ("picture", ("short_term",))


def test_numbers_overlap_and_their_scores_differ(root: Path) -> None:
    one, two = open_data(f"lamem:{root}"), open_data(f"lamem:{root}#2")
    assert open_data(f"lamem:{root}#1").records == one.records
    assert {r.id for r in one.split("train")} & {r.id for r in two.split("test")}
    other = {r.id: r.score for r in two.records}
    assert all(record.score != other[record.id] for record in one.records)


def test_figures_over_all_five(root: Path) -> None:
    figures = over_splits(root, lambda data: float(np.mean([r.score for r in data.split("test")])))
    expected = [np.mean(list(lines(root, f"test_{n}.txt").values())) for n in range(1, 6)]
    assert figures.values == pytest.approx(expected)
    assert (figures.mean, figures.deviation) == pytest.approx((np.mean(expected), np.std(expected, ddof=1)))
    whole = mean_scores(root)
    name = "00000007.jpg"
    own = [
        next(lines(root, f"{s}_{n}.txt")[name] for s in ("train", "val", "test") if name in lines(root, f"{s}_{n}.txt"))
        for n in range(1, 6)
    ]
    assert len(whole) == 22
    assert whole[name] == pytest.approx(np.mean(own))
    (root / "splits" / "test_3.txt").unlink()
    with pytest.raises(DataError, match=r"no '.*splits/test_3\.txt'; expected splits/test_3\.txt and images/ below"):
        over_splits(root, lambda data: 0.0)


def test_missing_pictures_are_counted_and_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (3, 5, 8, 9):
        (root / "images" / f"{number:08}.jpg").unlink()
    with pytest.raises(
        DataError, match=r"4 of 22 pictures are not there, first '.*00000003\.jpg', .*, \.\.\."
    ) as found:
        open_data(f"lamem:{root}")
    assert "--allow-missing" in str(found.value)
    assert len(open_data(f"lamem:{root}", missing="drop").records) == 18
    assert "4 of 22 pictures are not there" in capsys.readouterr().err
    assert len(open_data(f"lamem:{root}", missing="keep").records) == 22
    assert {r.split for r in open_data(f"lamem:{root}", splits=("train",), missing="drop").records} == {"train"}
    for file in (root / "images").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="22 of 22 pictures are not there"):
        open_data(f"lamem:{root}", missing="drop")


@pytest.mark.parametrize("option", ["0", "6", "two", "1.5", "²"])
def test_there_are_five_numbers(root: Path, option: str) -> None:
    with pytest.raises(UsageError, match=r"lamem:DIR#.*; expected one of its divisions, lamem:DIR#1 to lamem:DIR#5"):
        open_data(f"lamem:{root}#{option}")


def test_folder_with_a_number_sign_in_its_name(tmp_path: Path) -> None:
    root = lamem_tree(tmp_path / "set#2", 3, 1, 1)
    assert parse(f"lamem:{root}").option == ""
    assert len(open_data(f"lamem:{root}").records) == 5
    assert parse("lamem:some/where#3") == parse("lamem:some/where#3")
    assert (parse("lamem:some/where#3").short, parse("lamem:some/where#3").portable) == ("lamem-3", "lamem:DIR#3")


def test_list_that_is_no_text(root: Path) -> None:
    (root / "splits" / "train_1.txt").write_bytes(b"00000001.jpg \xff\xfe")
    with pytest.raises(DataError, match=r"cannot read '.*train_1\.txt'"):
        read_lamem(root)
