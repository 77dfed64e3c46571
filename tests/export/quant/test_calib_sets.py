"""Calibration frames of data sets, from trees in the released forms that the tests write themselves."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from helpers_calib import files, folder, names
from helpers_graphs import contract
from helpers_sets import lamem_tree, videomem_tree
from memedge_engines.preprocess import Preprocessor
from memedge_export.data import videomem
from memedge_export.data.lamem import read_lamem
from memedge_export.errors import DataError
from memedge_export.quant.calib_origins import Item, Video
from memedge_export.quant.frames import plan

PRE = contract(resize=24, crop=(16, 16))


def test_lnsim_calibrates_on_train_and_gates_on_val(lnsim: Path) -> None:
    rows = [line.split(",") for line in (lnsim / "scores.csv").read_text().splitlines()[1:]]
    scores = {name: (float(score), split) for name, score, split in rows}
    chosen = plan(f"lnsim:{lnsim}")
    assert (len(chosen.calibrate), len(chosen.gate)) == (512, 200)
    assert {scores[item.name][1] for item in chosen.calibrate.items} == {"train"}
    assert {scores[item.name][1] for item in chosen.gate.items} == {"val"}
    taken = sorted(scores[name][0] for name in names(chosen.calibrate))
    whole = sorted(score for score, split in scores.values() if split == "train")
    points = np.linspace(2, 98, 25)
    np.testing.assert_allclose(np.percentile(taken, points), np.percentile(whole, points), atol=0.01)
    small = plan(f"lnsim:{lnsim}", 32, 12).gate.load(PRE)
    assert small.human is not None
    assert small.human.tolist() == [scores[item.name][0] for item in small.items]
    assert [feed["frames"].shape for feed in small.feeds()] == [(1, 3, 16, 16)] * 12


def test_lamem_as_released(tmp_path: Path) -> None:
    root = lamem_tree(tmp_path / "lamem")
    chosen = plan(f"lamem:{root}", 40, 16)
    assert {int(Path(name).stem) > 60 for name in names(chosen.calibrate)} == {False}
    assert {int(Path(name).stem) > 60 for name in names(chosen.gate)} == {True}
    assert len(chosen.calibrate.load(PRE)) == 40
    human = chosen.gate.load(PRE).human
    assert human is not None
    lines = dict(line.split() for line in (root / "splits" / "val_1.txt").read_text().splitlines())
    assert human.tolist() == [float(lines[name]) for name in names(chosen.gate)]
    assert (tmp_path / "lamem").as_posix() not in chosen.source


def test_lamem_that_is_incomplete_says_what_was_expected_where(tmp_path: Path) -> None:
    root = lamem_tree(tmp_path / "lamem")
    with pytest.raises(DataError, match=r"there is no '.*test_1\.txt'; expected splits/test_1\.txt and images/ below"):
        read_lamem(root)
    for number in range(1, 16):
        (root / "images" / f"{number:08}.jpg").unlink()
    missing = plan(f"lamem:{root}", 60, 16)
    with pytest.raises(DataError, match=r"more than a tenth of 60; first .*images/000000\d\d\.jpg: no such file"):
        missing.calibrate.load(PRE)
    (root / "images").rename(root / "pictures")
    with pytest.raises(DataError, match=r"no folder '.*images'; expected the pictures 00000001\.jpg"):
        plan(f"lamem:{root}")
    (root / "splits" / "train_1.txt").unlink()
    with pytest.raises(DataError, match=r"no '.*splits/train_1\.txt'"):
        plan(f"lamem:{root}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("00000001.jpg", "expected a file name and a score"),
        ("00000001.jpg 1.5", "expected a file name and a score"),
        ("00000001.jpg nan", "expected a file name and a score"),
        ("../00000001.jpg 0.5", "expected a plain name"),
        ("00000061.jpg 0.500000", r"names 00000061\.jpg, which is in train_1\.txt, too"),
        ("", "is empty"),
    ],
)
def test_malformed_lamem_lists(tmp_path: Path, line: str, message: str) -> None:
    root = lamem_tree(tmp_path, 2, 2)
    lists = root / "splits"
    if "too" in message:
        (lists / "val_1.txt").write_text(line + "\n")
        (lists / "train_1.txt").write_text(line + "\n")
    else:
        (lists / "train_1.txt").write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        read_lamem(root, splits=("train", "val"))


def test_videomem_as_released(tmp_path: Path) -> None:
    root = videomem_tree(tmp_path / "VideoMem")
    data = videomem.read(root)
    assert len(data.records) == 64
    assert data.records == videomem.read(root / "dev-set").records
    record = next(r for r in data.records if r.id == "video7.webm")
    assert (record.score, record.path) == (0.428, root / "dev-set" / "sources" / "video7.webm")
    assert next(r for r in videomem.read(root).records if r.id == "video7.webm").targets["long_term"] == 0.007
    chosen = plan(f"videomem:{root}", 36, 8)
    assert not files(chosen.calibrate) & files(chosen.gate)
    assert len({item.origin.path for item in chosen.calibrate.items[:36]}) == 36  # type: ignore[attr-defined]
    scores = [item.score for item in chosen.gate.items[:8]]
    assert all(score is not None and 0.4 < score < 1 for score in scores)
    # Every test video is the same one, so at most its few frames are different pictures.
    with pytest.raises(DataError, match=r"different calibration pictures, \d+ more are equal to others"):
        chosen.calibrate.load(PRE)


def test_videomem_frame_is_the_middle_one(tmp_path: Path) -> None:
    root = videomem_tree(tmp_path)
    path = root / "dev-set" / "sources" / "video1.webm"
    ((_, picture),) = Video(path, 1).read([Item("x", Video(path, 1))], Preprocessor(contract(None, None)))
    with av.open(str(path)) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][1:]
    assert isinstance(picture, np.ndarray)
    errors = [np.abs(picture.astype(int) - one).mean() for one in expected]
    assert min(errors) < 12  # PyAV's own colour conversion of pure noise is rough


def test_videomem_that_is_incomplete_says_what_was_expected_where(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no '.*ground-truth_dev-set\.csv'; expected dev-set/ground-truth/"):
        plan(f"videomem:{tmp_path}")
    root = videomem_tree(tmp_path, 60)
    for path in (root / "dev-set" / "sources").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"more than a tenth of 40; first video\d+\.webm.*: .*sources/video\d+\.webm"):
        plan(f"videomem:{root}", 40, 8).calibrate.load(PRE)
    (root / "dev-set" / "sources").rmdir()
    with pytest.raises(DataError, match=r"no folder '.*sources'; expected the videos video1\.webm"):
        plan(f"videomem:{root}")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["clip7.webm,0.5,36,0.5,12"], r"line 2: video 'clip7\.webm'; expected a name such as video7494\.webm"),
        (["video7.webm,0.5,36,0.5,12", "7,0.6,36,0.5,12"], r"line 3: video7\.webm for the second time"),
        (["video7.webm,high,36,0.5,12"], "line 2: score 'high' is not a number"),
        (["video7.webm,1.5,36,0.5,12"], r"line 2: score 1\.5; expected 0\.\.1"),
        (["7494,,,,"], "holds no scored videos"),
    ],
)
def test_malformed_videomem_tables(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        videomem.read(videomem_tree(tmp_path, 1, rows))


def test_scored_list_without_a_split_and_too_small_a_set(tmp_path: Path) -> None:
    folder(tmp_path, 200)
    rows = [f"{n:04}.png,{n / 200}" for n in range(200)]
    (tmp_path / "list.csv").write_text("\n".join(["file,score", *rows]))
    chosen = plan(f"folder:{tmp_path / 'list.csv'}", 64, 12)
    assert len(chosen.gate.load(PRE)) == 12
    assert not files(chosen.calibrate) & files(chosen.gate)
    (tmp_path / "short.csv").write_text("\n".join(["file,score", *rows[:30]]))
    with pytest.raises(
        DataError, match=r"folder gives \d+ frames to calibrate and \d to hold out; expected at least 32"
    ):
        plan(f"folder:{tmp_path / 'short.csv'}")
