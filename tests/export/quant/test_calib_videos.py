"""Calibration frames of videos and live sources."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from helpers_calib import files, noise, save
from helpers_graphs import contract
from helpers_video import write_video
from memedge.errors import SourceError, SourceLost
from memedge.sources.pattern import PatternSource
from memedge_engines.frame import Frame
from memedge_engines.preprocess import Preprocessor
from memedge_export.errors import DataError
from memedge_export.quant.calib_origins import Item, Video, picks_of
from memedge_export.quant.frames import plan

PRE = contract(resize=24, crop=(16, 16))


def gray_clip(path: Path, count: int, rate: int) -> Path:
    """Frame ``n`` of a clip has the brightness ``n * (240 // count)``: its number can be read off it."""
    step = 240 // count
    return write_video(path, [np.full((32, 32, 3), n * step, np.uint8) for n in range(count)], codec="ffv1", rate=rate)


@pytest.mark.parametrize(("rate", "parts"), [(24, 20), (10, 7), (4, 12)])
def test_frames_of_a_video_are_nearest_to_the_middle_of_their_parts(tmp_path: Path, rate: int, parts: int) -> None:
    count = 6 * rate
    path = gray_clip(tmp_path / "clip.mkv", count, rate)
    picks, duration = picks_of(path)
    assert (picks, duration) == (min(24, count // 2), pytest.approx(6.0, abs=0.01))
    origin = Video(path, parts)
    found = list(origin.read([Item(str(n), origin, n) for n in range(parts)], Preprocessor(contract(None, None))))
    assert [int(item.name) for item, _ in found] == list(range(parts))
    numbers = np.array([float(np.mean(picture)) for _, picture in found]) / (240 // count)  # type: ignore[arg-type]
    wanted = [(n + 0.5) * 6.0 / parts * rate for n in range(parts)]
    assert np.abs(numbers - wanted).max() <= 0.5 + 2 / (240 // count)  # limited range costs a level or two
    assert np.diff(numbers).min() >= 1.5  # never consecutive


def test_single_video_is_held_out_by_stretches(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mkv", [noise(n) for n in range(200)], codec="mpeg4", rate=10)
    chosen = plan(str(clip), 512, 200)
    assert chosen.small_gate
    calibrate, gate = ([item.number for item in f.items] for f in (chosen.calibrate, chosen.gate))
    assert sorted([*calibrate, *gate]) == list(range(80))  # 20 s, four a second
    assert np.count_nonzero(np.diff(sorted(gate)) > 1) <= 9
    one = chosen.calibrate.load(PRE)
    assert len(one) == len(calibrate) >= 32
    assert len({picture.tobytes() for picture in one.pictures}) == len(one)
    assert len(chosen.gate.load(PRE)) == len(gate) >= 8


def test_folder_of_videos_is_held_out_by_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(6):
        pictures = [noise(1000 * number + n) for n in range(40)]
        write_video(tmp_path / f"{number}.mp4", pictures, codec="mpeg4", rate=10)
    save(tmp_path / "poster.jpg", 1)
    chosen = plan(str(tmp_path), 40, 12)
    assert "6 videos; 1 other files are not used" in capsys.readouterr().err
    assert len(files(chosen.calibrate)) >= 4
    assert not files(chosen.calibrate) & files(chosen.gate)
    assert (len(chosen.calibrate.load(PRE)), len(chosen.gate.load(PRE))) == (40, 12)
    (tmp_path / "3.mp4").write_bytes(b"\0" * 5000)
    (tmp_path / "4.mp4").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of 6 videos cannot be read, more than a tenth; first .*3\.mp4"):
        plan(str(tmp_path), 40, 12)


def test_many_videos_give_one_frame_each_unopened(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"{number:03}.mp4").write_bytes(b"never opened")
    chosen = plan(str(tmp_path), 32, 8)
    assert len(files(chosen.calibrate)) == len(chosen.calibrate.items) >= 32
    with pytest.raises(DataError, match=r"4 of the calibration frames cannot be read, more than a tenth of 32"):
        chosen.calibrate.load(PRE)


def test_stream_is_recorded_once(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = plan("test://?size=64x48&fps=10&seconds=24&live=0", 32, 8)
    one, gate = chosen.calibrate.load(PRE), chosen.gate.load(PRE)
    assert (len(one), len(gate)) == (32, 8)
    assert capsys.readouterr().err.count("recording 40 frames") == 1
    assert chosen.calibrate.load(PRE).pictures == one.pictures
    with pytest.raises(DataError, match="0 different gate pictures"):
        plan("test://?size=64x48&fps=10&seconds=8&live=0", 32, 8).gate.load(PRE)


def test_stream_that_is_lost_keeps_what_was_recorded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lost(self: PatternSource) -> Iterator[Frame]:
        for number, frame in enumerate(whole(self)):
            if number >= 200:
                raise SourceLost("the plug was pulled")
            yield frame

    whole = PatternSource.frames
    monkeypatch.setattr(PatternSource, "frames", lost)
    chosen = plan("test://?size=64x48&fps=10&seconds=40&live=0", 48, 8)
    assert len(chosen.calibrate.load(PRE)) == 40
    assert "the plug was pulled" in capsys.readouterr().err


def test_source_that_is_not_there() -> None:
    with pytest.raises(SourceError, match="camera87"):
        plan("camera87", 32, 8).calibrate.load(PRE)
