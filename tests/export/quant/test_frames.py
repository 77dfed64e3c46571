"""Which frames calibrate and which are held out: folders, generated pictures, damage, what cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers_calib import files, folder, names, save
from helpers_graphs import contract, pillow_tensor
from memedge.errors import PictureError, SourceError, UsageError
from memedge.pictures import generate
from memedge_engines.preprocess import Preprocessor
from memedge_export.errors import DataError
from memedge_export.quant.calib_origins import Item, PictureFile
from memedge_export.quant.calib_select import hold_out, shares
from memedge_export.quant.frames import ENVIRONMENT, CalibrationSet, plan

PRE = contract(resize=24, crop=(16, 16))


def test_pictures_are_those_the_model_gets(tmp_path: Path) -> None:
    chosen = plan(str(folder(tmp_path / "p", 60)), count=40, gate=16)
    assert (len(chosen.calibrate), len(chosen.gate), chosen.small_gate, chosen.synthetic) == (40, 16, False, False)
    assert chosen.source == "folder 'p', 60 pictures"
    feeds = chosen.calibrate.feeds(PRE, "frames")
    first = [feed["frames"] for feed in feeds]
    assert [f.tobytes() for f in first] == [feed["frames"].tobytes() for feed in feeds]  # may be read again
    assert len(first) == len(feeds) == 40
    level = PRE.scale / min(PRE.std)
    for name, tensor in list(zip(names(chosen.calibrate), first, strict=True))[:10]:
        rgb = np.asarray(Image.open(tmp_path / "p" / name).convert("RGB"))
        assert tensor.dtype == np.float32
        assert np.abs(tensor - pillow_tensor(rgb, PRE)).max() <= level * 1.01


def test_same_seed_same_frames_and_nothing_on_both_sides(tmp_path: Path) -> None:
    spec = str(folder(tmp_path, 300))
    one, same, other = plan(spec, 64, 32), plan(spec, 64, 32), plan(spec, 64, 32, seed=1)
    assert one.calibrate.key == same.calibrate.key != other.calibrate.key != one.gate.key
    assert names(one.calibrate) == names(same.calibrate) != names(other.calibrate)
    for chosen in (one, other):
        assert not files(chosen.calibrate) & files(chosen.gate)
        numbers = sorted(int(Path(name).stem) for name in names(chosen.calibrate))
        assert len(set(numbers)) == 64
        assert np.diff(numbers).max() < 30  # spread over all names
        assert numbers[0] < 20
        assert numbers[-1] > 250


def test_held_out_neighbours_stay_together() -> None:
    calibrate, gate = hold_out(range(1000), 200 / 712)
    assert sorted([*calibrate, *gate]) == list(range(1000))
    assert len(gate) == 281
    assert np.count_nonzero(np.diff(gate) > 1) == 9  # ten runs


@pytest.mark.parametrize(
    ("available", "expected"),
    [(712, (512, 200)), (5000, (512, 200)), (300, (100, 200)), (232, (32, 200)), (231, (166, 65)), (40, (32, 8))],
)
def test_shares(available: int, expected: tuple[int, int]) -> None:
    assert shares(available, 512, 200, "x") == expected
    with pytest.raises(DataError, match=r"x gives 39 frames; expected at least 40: 32 \(--calib-frames\)"):
        shares(39, 512, 200, "x")


def test_nothing_given_looks_at_the_usual_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.chdir(tmp_path)
    chosen = plan()
    assert chosen.synthetic
    assert chosen.source.startswith("synthetic")
    assert "NO CALIBRATION PICTURES" in capsys.readouterr().err
    assert (len(chosen.calibrate), len(chosen.gate)) == (512, 200)
    folder(tmp_path / "calib", 44)
    assert plan().source == "folder 'calib', 44 pictures"
    monkeypatch.setenv(ENVIRONMENT, str(folder(tmp_path / "other", 46)))
    assert plan().source == "folder 'other', 46 pictures"
    assert f"({ENVIRONMENT})" in capsys.readouterr().err


def test_generated_pictures_are_the_generators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.chdir(tmp_path)
    chosen = plan(count=32, gate=8, seed=5)
    expected = list(generate(40, seed=3005))
    found = [feed["frames"] for part in (chosen.calibrate, chosen.gate) for feed in part.feeds(PRE)]
    level = PRE.scale / min(PRE.std)
    for tensor, rgb in zip(found, expected, strict=True):
        assert np.abs(tensor - pillow_tensor(rgb, PRE)).max() <= level * 1.01


def test_damaged_files_are_counted_named_and_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path, 80)
    chosen = plan(str(tmp_path), 40, 12)
    broken = names(chosen.calibrate)[3:6]
    for name in broken:
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:400])
    (tmp_path / names(chosen.gate)[0]).write_bytes(b"")
    loaded = chosen.calibrate.load(PRE)
    assert len(loaded) == 40
    assert sorted(chosen.calibrate.damaged) == sorted(broken)
    assert "3 damaged calibration frames were left out: " + ", ".join(broken) in capsys.readouterr().err
    assert len(chosen.gate.load(PRE)) == 12
    for name in names(chosen.calibrate)[10:13]:
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"5 of the calibration frames cannot be read, more than a tenth of 40; first"):
        chosen.calibrate.load(PRE)


def test_equal_pictures_count_once_and_never_on_both_sides(tmp_path: Path) -> None:
    folder(tmp_path, 80)
    chosen = plan(str(tmp_path), 40, 12)
    first = tmp_path / names(chosen.calibrate)[0]
    (tmp_path / names(chosen.calibrate)[1]).write_bytes(first.read_bytes())
    (tmp_path / names(chosen.gate)[0]).write_bytes(first.read_bytes())
    assert len(chosen.calibrate.load(PRE)) == 40
    gate = chosen.gate.load(PRE)
    assert len(gate) == 12
    assert names(chosen.gate)[0] not in {item.name for item in gate.items}


@pytest.mark.parametrize(("count", "message"), [(3, "gives 3 frames"), (39, "gives 39 frames"), (0, "no pictures")])
def test_too_few_pictures(tmp_path: Path, count: int, message: str) -> None:
    folder(tmp_path, count)
    with pytest.raises(DataError, match=rf"{message}.*expected at least 40.*\(fix: give --calib more pictures"):
        plan(str(tmp_path))


@pytest.mark.parametrize("same", [True, False])
def test_pictures_of_one_colour(tmp_path: Path, same: bool) -> None:
    for number in range(60):
        color = (30, 60, 90) if same else (number * 4, 200 - number, 7)
        Image.new("RGB", (32, 24), color).save(tmp_path / f"{number:02}.jpg")
    with pytest.raises(DataError, match=r"32 of the first 32 calibration pictures are of one colour: .*\(fix: "):
        plan(str(tmp_path)).calibrate.load(PRE)


def test_copies_of_one_picture(tmp_path: Path) -> None:
    for number in range(60):
        save(tmp_path / f"{number:02}.png", 1)
    with pytest.raises(DataError, match=r"1 different calibration pictures, \d+ more are equal to others; expected at"):
        plan(str(tmp_path)).calibrate.load(PRE)


@pytest.mark.parametrize(
    ("spec", "kind", "message"),
    [
        ("lamen:/data", UsageError, r"no data set of kind 'lamen'; did you mean 'lamem'\?"),
        ("lamem:", UsageError, "no data set of kind|lamem"),
        ("nowhere/pictures", SourceError, "no such file or folder"),
        ("gopher://x/y", UsageError, "unknown scheme 'gopher://'"),
        ("lnsim:nowhere", DataError, r"'nowhere' has no scores\.csv"),
    ],
)
def test_specs_that_mean_nothing(spec: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        plan(spec).calibrate.load(PRE)


def test_numbers_that_cannot_be_meant(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--calib-frames 31; expected at least 32"):
        plan(str(tmp_path), 31)
    with pytest.raises(UsageError, match="7 frames for the fidelity gate; expected at least 8"):
        plan(str(tmp_path), 32, 7)


def test_picture_file_that_is_gone(tmp_path: Path) -> None:
    origin = PictureFile(tmp_path / "gone.jpg")
    ((_, found),) = origin.read([Item("gone", origin)], Preprocessor(PRE))
    assert isinstance(found, PictureError)
    assert isinstance(plan(str(folder(tmp_path, 60)), 40, 12), CalibrationSet)
