"""Frames of videos by the published presets, against the runtime's own score of a video and plain PyAV."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from helpers_sets import gray_clips
from helpers_video import numbered, write_video
from memedge.errors import SourceError
from memedge.sampling import VideoScore
from memedge_engines.frame import Frame
from memedge_engines.preprocess import to_rgb
from memedge_export.data import frames
from memedge_export.data.frame_cache import FrameCache
from memedge_export.data.frames import PRESETS, frames_of, picks, sampled
from memedge_export.errors import DataError


def constant(count: int, rate: float) -> list[tuple[float, float]]:
    return [(n / rate, 1 / rate) for n in range(count)]


def gray_clip(path: Path, count: int, rate: int | Fraction, stamps: list[int] | None = None) -> Path:
    """Frame ``n`` has the grey level ``n``, losslessly."""
    pictures = [np.full((32, 32, 3), n, np.uint8) for n in range(count)]
    return write_video(path, pictures, codec="ffv1", pix_fmt="gray", rate=rate, stamps=stamps)


def test_videomems_clips_of_seven_seconds() -> None:
    clip = constant(168, 24)
    assert picks("S7", clip) == [0, 24, 48, 72, 96, 120, 144]
    assert picks("K3", clip) == [0, 56, 112]
    assert picks("S28", clip) == list(range(0, 168, 6))
    assert picks("S4", clip) == [0, 48, 96, 144]
    assert picks("C16", clip) == list(range(16))
    assert picks("F1", clip) == [0]
    assert len(picks("C45", clip)) == 45


def test_memento10ks_clips_of_three_seconds() -> None:
    assert picks("C45", constant(45, 15)) == list(range(45))
    assert picks("C45", constant(90, 30)) == list(range(0, 90, 2))
    assert picks("S7", constant(90, 30)) == [0, 30, 60]


@pytest.mark.parametrize(("rate", "count"), [(24, 168), (25, 175), (30000 / 1001, 210), (12.5, 88), (10, 70), (2, 14)])
def test_times_are_rounded_to_frames(rate: float, count: int) -> None:
    """The papers' rule: index ``round(t * f)``, clipped to the last frame."""
    clip = constant(count, rate)
    for preset, period in (("S7", 1.0), ("S28", 0.25), ("S4", 2.0)):
        ticks = int(np.ceil((count / rate - 1e-3) / period))
        assert picks(preset, clip) == [min(round(k * period * rate), count - 1) for k in range(ticks)]


def test_short_and_slow_clips() -> None:
    assert picks("C16", constant(3, 10)) == [0, 1, 2] + [2] * 13
    assert picks("S28", constant(2, 1)) == [0, 0, 0, 1, 1, 1, 1, 1]  # halves go to the even frame
    for preset in PRESETS:
        assert set(picks(preset, constant(1, 25))) == {0}
    with pytest.raises(DataError, match=r"sampling 'S9'; expected one of S7, S28"):
        picks("S9", constant(3, 10))


@pytest.mark.parametrize("preset", ["S7", "S28", "S4", "K3", "F1"])
def test_mean_over_picks_is_the_runtimes_video_score(preset: str) -> None:
    """Variable rates, late first frames, gaps and pauses at the end."""
    rng = np.random.default_rng(5)
    for _ in range(60):
        count = int(rng.integers(1, 120))
        gaps = rng.choice([0.02, 0.04, 0.1, 0.5, 1.7], count) * rng.uniform(0.5, 1.5, count)
        begin = float(rng.choice([0.0, 3.3]))
        times = begin + np.concatenate([[0.0], np.cumsum(gaps)[:-1]])
        scores = rng.uniform(0, 1, count)
        runtime = VideoScore(preset, "mean", count)
        for n in range(count):
            runtime.offer(n, float(times[n]), float(gaps[n]), float(scores[n]))
        expected = runtime.finish(float(times[-1] + gaps[-1]))
        chosen = picks(preset, [(float(t), float(g)) for t, g in zip(times, gaps, strict=True)])
        assert float(np.mean(scores[chosen])) == pytest.approx(expected, abs=1e-12)


def test_only_the_chosen_frames_are_converted(tmp_path: Path) -> None:
    path = gray_clip(tmp_path / "clip.mkv", 168, 24)
    converted = []

    def convert(frame: Frame) -> np.ndarray:
        converted.append(frame.index)
        return to_rgb(frame)

    found = sampled(path, "S7", convert)
    assert converted == [0, 24, 48, 72, 96, 120, 144]
    assert found.which == tuple(range(7))
    steps = np.diff([float(picture.mean()) for picture in found.pictures])
    assert steps == pytest.approx([steps[-1]] * 6, rel=0.1)
    assert 20 < steps[-1] < 30  # of the 24 levels between two picks, at either range


def test_variable_rate_is_decoded_again(tmp_path: Path) -> None:
    stamps = [0, 9000, 18000, 27000, 126000, 135000, 234000, 243000]  # 0.1 s, then gaps of 1.1 s
    path = write_video(tmp_path / "clip.mkv", numbered(8), rate=10, stamps=stamps)
    times = [(s / 90000, d / 90000) for s, d in zip(stamps, np.diff([*stamps, 252000]), strict=True)]
    chosen = picks("S7", [(float(t), float(d)) for t, d in times])
    with av.open(str(path)) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    got = frames_of(path, "S7")
    assert len(got) == len(chosen) >= 3
    for picture, number in zip(got, chosen, strict=True):
        errors = [float(np.abs(picture.astype(int) - one).mean()) for one in expected]
        assert int(np.argmin(errors)) == number


def test_headers_that_lie_are_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = gray_clip(tmp_path / "clip.mkv", 60, 20)
    truth = {preset: [p.tobytes() for p in frames_of(path, preset)] for preset in PRESETS}
    for wrong in ((24, 168), (5, 2), (None, None)):
        monkeypatch.setattr(frames, "_expected", lambda info, w=wrong: _pretended(*w))
        for preset in PRESETS:
            assert [p.tobytes() for p in frames_of(path, preset)] == truth[preset]


def _pretended(rate: int | None, count: int | None) -> list[tuple[float, float]]:
    return constant(count or 1, rate or 25.0)


def test_vp8_in_webm_as_pyav_decodes_it(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.webm", numbered(30, 64, 48), codec="libvpx", rate=10)
    with av.open(str(path)) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    got = frames_of(path, "K3")
    assert len(got) == 3
    for picture, number in zip(got, (0, 10, 20), strict=True):
        assert picture.shape == (48, 64, 3)
        assert np.abs(picture.astype(int) - expected[number]).mean() < 4


def test_what_is_no_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.webm").write_bytes(b"no video")
    with pytest.raises(SourceError, match=r"a\.webm"):
        frames_of(tmp_path / "a.webm")
    monkeypatch.setattr(frames, "MOST_FRAMES", 5)
    with pytest.raises(DataError, match=r"7 frames of preset S7; expected a clip of 5 at most"):
        frames_of(gray_clip(tmp_path / "b.mkv", 70, 10))


def test_cache_gives_the_same_frames_from_disk(tmp_path: Path) -> None:
    path = gray_clips(tmp_path / "clips", [0.5])[0]
    plain = FrameCache(20)
    kept = FrameCache(20, folder=tmp_path / "frames")
    draws = [plain.one(path, np.random.default_rng(seed)) for seed in range(12)]
    assert {picture.shape for picture in draws} == {(20, 25, 3)}
    assert len({picture.tobytes() for picture in draws}) > 1
    first = [kept.one(path, np.random.default_rng(seed)) for seed in range(12)]
    late = FrameCache(20, folder=tmp_path / "frames")
    again = [late.one(path, np.random.default_rng(seed)) for seed in range(12)]
    assert not len(late._recent)  # read from disk alone
    for one, two, three in zip(draws, first, again, strict=True):
        assert np.array_equal(one, two)
        assert np.array_equal(two, three)


def test_cache_stays_within_its_budgets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = gray_clips(tmp_path / "clips", [0.2, 0.4, 0.6, 0.8])
    rng = np.random.default_rng(0)
    size = sum(p.nbytes for p in sampled(paths[0], "S7").pictures)
    cache = FrameCache(32, folder=tmp_path / "frames", limit_bytes=2 * size, disk_bytes=1)
    for path in paths * 2:
        cache.one(path, rng)
        assert cache._recent.bytes <= 2 * size
    assert len(cache._recent) == 2
    assert len(list((tmp_path / "frames").iterdir())) == 1
    assert "further videos are decoded each time" in capsys.readouterr().err


def test_frames_that_cannot_be_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = gray_clips(tmp_path / "clips", [0.5])[0]
    (tmp_path / "frames").write_text("in the way")
    cache = FrameCache(16, folder=tmp_path / "frames")
    for _ in range(2):
        assert cache.one(path, np.random.default_rng(0)).shape == (16, 20, 3)
    assert capsys.readouterr().err.count("frames are not kept in") == 1
