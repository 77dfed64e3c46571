"""``folder:``: a person's own pictures or videos, with further targets."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers_sets import picture
from memedge.errors import UsageError
from memedge_export.data import open_data
from memedge_export.errors import DataError


def write(root: Path, text: str, name: str = "list.csv") -> Path:
    for number in range(4):
        picture(root / f"{number}.png", number / 4)
        (root / f"{number}.mp4").write_bytes(b"%d" % number)
    (root / name).write_text(text)
    return root / name


def test_further_targets_numbers_and_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        "file,score,split,long_term,alpha,responses,caption,action,width",
        "0.png,0.5,train,0.25,-0.002,36,a hill,walking,640",
        "1.png,0.6,val,,,,,,480",
    ]
    data = open_data(f"folder:{write(tmp_path, chr(10).join(rows))}")
    assert (data.unit, data.targets, data.sampling) == ("picture", ("short_term", "long_term"), "")
    one, two = data.records
    assert (one.targets, two.targets) == ({"short_term": 0.5, "long_term": 0.25}, {"short_term": 0.6})
    assert (one.extra, one.responses) == ({"alpha": -0.002}, {"short_term": 36})
    assert one.labels == {"caption": ("a hill",), "action": ("walking",)}
    assert (two.extra, two.responses, two.labels) == ({}, {}, {})
    assert "column width is no target: '640'; expected scores of 0..1" in capsys.readouterr().err


def test_videos(tmp_path: Path) -> None:
    table = write(tmp_path, "file,score\n0.mp4,0.5\n1.mp4,0.5\n")
    data = open_data(f"folder:{table}")
    assert (data.unit, data.sampling) == ("video", "S7")


def test_pictures_and_videos_are_not_mixed(tmp_path: Path) -> None:
    table = write(tmp_path, "file,score\n0.mp4,0.5\n1.png,0.5\n2.png,0.5\n")
    with pytest.raises(DataError, match=r"names 2 pictures and 1 videos, first 0\.mp4; expected one kind"):
        open_data(f"folder:{table}")


def test_folder_with_its_table(tmp_path: Path) -> None:
    text = "file,score\n0.png,0.5\n"
    write(tmp_path, text, "anything.csv")
    assert open_data(f"folder:{tmp_path}").name == tmp_path.name
    (tmp_path / "second.csv").write_text(text)
    with pytest.raises(DataError, match=r"holds 2 CSV files; expected scores\.csv, or one alone"):
        open_data(f"folder:{tmp_path}")
    (tmp_path / "scores.csv").write_text("file,score\n0.png,0.5\n1.png,0.5\n")
    assert len(open_data(f"folder:{tmp_path}").records) == 2


def test_files_twice_and_options(tmp_path: Path) -> None:
    table = write(tmp_path, "file,score\n0.png,0.5\n0.png,0.6\n")
    with pytest.raises(DataError, match=r"line 3: 0\.png for the second time"):
        open_data(f"folder:{table}")
    with pytest.raises(UsageError, match="nothing to choose"):
        open_data(f"folder:{table}#1")
    write(tmp_path, "file,score,short_term\n0.png,0.5,0.5\n")
    with pytest.raises(DataError, match="the column score is that target already"):
        open_data(f"folder:{table}")
    write(tmp_path, "file,score,score\n0.png,0.5,0.5\n")
    with pytest.raises(DataError, match="has the column score twice"):
        open_data(f"folder:{table}")
    write(tmp_path, "file,score,alpha\n0.png,0.5,slow\n")
    with pytest.raises(DataError, match="line 2: alpha 'slow' is not a number"):
        open_data(f"folder:{table}")


def test_table_on_which_nothing_can_be_read(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_bytes(b"file,score\n\xff.png,0.5\n")
    with pytest.raises(DataError, match=r"cannot read '.*list\.csv'"):
        open_data(f"folder:{table}")
