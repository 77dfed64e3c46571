from __future__ import annotations

import random
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from helpers_sinks import context, feed, picture, reading, scene, summary
from memedge.errors import SinkError
from memedge.sinks.base import Picture
from memedge.sinks.overlay import History, Overlay, value_range
from memedge.sinks.video import FRAGMENT_S, VideoSink
from memedge_engines.frame import Frame


def decode(path: Path) -> tuple[list[float], list[NDArray[np.uint8]]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [float(f.pts * f.time_base) for f in frames], [f.to_ndarray(format="rgb24") for f in frames]


def write(path: Path, times: list[float], shots: list[Picture], encoder: str | None = None, fps: float = 25.0) -> None:
    sink = VideoSink(path, encoder)
    sink.start(context(fps=fps))
    for index, (time_s, shot) in enumerate(zip(times, shots, strict=True)):
        sink.write(reading(index, time_s=time_s), shot, {})
    sink.finish(summary())
    sink.close()


def fragments(path: Path) -> list[float]:
    """Times of the key frames, one per fragment."""
    with av.open(str(path)) as container:
        keys = [float(p.pts * p.time_base) for p in container.demux(video=0) if p.pts is not None and p.is_keyframe]
    assert path.read_bytes().count(b"moof") == len(keys)
    return keys


def test_times_and_pictures_come_back(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    times = [i / 30 for i in range(40)]
    write(path, times, [picture(i, 640, 360) for i in range(40)], fps=30.0)
    got, pictures = decode(path)
    assert got == pytest.approx(times, abs=1e-9)
    for index in (0, 17, 39):
        top = pictures[index][:200].astype(int) - scene(index, 640, 360)[:200]
        assert np.abs(top).mean() < 3, "above the overlay the picture is the source's, colour included"


@pytest.mark.parametrize(("fps", "count"), [(24, 60), (25, 60), (29.97, 60), (5, 20), (2, 8), (1, 5)])
def test_fragments_hold_half_a_second_at_most(tmp_path: Path, fps: float, count: int) -> None:
    path = tmp_path / "out.mp4"
    times = [i / fps for i in range(count)]
    write(path, times, [picture(i) for i in range(count)], fps=fps)
    keys = fragments(path)
    assert keys[0] == 0
    assert max(np.diff([*keys, times[-1] + 1 / fps])) <= max(FRAGMENT_S, 1 / fps) + 1e-4


def test_variable_times_and_gaps_are_kept(tmp_path: Path) -> None:
    rng = random.Random(1)
    times = [0.0]
    for _ in range(50):
        times.append(times[-1] + rng.choice([1 / 30, 1 / 15, 0.2, 3.0]))
    path = tmp_path / "out.mp4"
    write(path, times, [picture(i) for i in range(51)])
    got, _ = decode(path)
    assert got == pytest.approx(times, abs=1 / 60_000)


def test_live_clocks_start_at_zero_and_never_go_back(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    times = [1e6 + i / 25 for i in range(10)] + [5 + i / 25 for i in range(10)]
    write(path, times, [picture(i) for i in range(20)])
    got, _ = decode(path)
    assert got == pytest.approx([i / 25 for i in range(20)], abs=1e-4)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((853, 481), (854, 482)), ((1, 1), (320, 320)), ((90, 400), (360, 1600)), ((5000, 64), (4096, 52))],
)
def test_odd_tiny_and_huge_sizes(tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]) -> None:
    path = tmp_path / "out.mp4"
    write(path, [0.0, 0.04], [picture(i, *size) for i in range(2)])
    _, pictures = decode(path)
    assert pictures[0].shape == (expected[1], expected[0], 3)
    assert len(pictures) == 2


def test_a_source_that_changes_its_size_is_fitted(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    write(path, [0.0, 0.04, 0.08], [picture(0, 640, 360), picture(1, 480, 480), picture(2, 640, 360)])
    _, pictures = decode(path)
    assert [p.shape for p in pictures] == [(360, 640, 3)] * 3
    assert pictures[1][100, :100].mean() < 12, "black bars at the sides"


def test_rotated_frames_stand_upright(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    stored = np.zeros((360, 640, 3), np.uint8)
    stored[:, :320] = (200, 30, 30)  # left half; a quarter turn clockwise brings it to the top
    shot = Picture(Frame.from_rgb(stored, rotation=90))
    write(path, [0.0], [shot])
    _, pictures = decode(path)
    assert pictures[0].shape == (640, 360, 3)
    assert pictures[0][100, 180, 0] > 150
    assert pictures[0][400, 180, 0] < 60


@pytest.mark.parametrize("encoder", ["libx264", "mpeg4"])
def test_both_encoders_keep_times_and_fragments(tmp_path: Path, encoder: str) -> None:
    path = tmp_path / "out.mp4"
    times = [i / 25 for i in range(40)]
    write(path, times, [picture(i) for i in range(40)], encoder)
    got, _ = decode(path)
    assert got == pytest.approx(times, abs=1e-4)
    assert max(np.diff(fragments(path))) <= FRAGMENT_S + 1e-4


def test_an_encoder_that_is_not_there(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4", "no_such_encoder")
    sink.start(context())
    with pytest.raises(SinkError, match="no encoder of no_such_encoder"):
        feed(sink, 1)
    sink.close()


def test_every_source_gets_its_own_file(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4")
    for _ in range(2):
        sink.start(context())
        feed(sink, 3)
        sink.finish(summary())
    sink.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out-2.mp4", "out.mp4"]
    assert len(decode(tmp_path / "out-2.mp4")[0]) == 3


def test_no_frame_leaves_no_file(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4")
    sink.start(context())
    sink.finish(summary())
    sink.close()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_once() -> None:
    sink = VideoSink("/dev/full")
    sink.start(context())
    with pytest.raises(SinkError, match="No space left"):
        feed(sink, 60)
    sink.finish(summary())
    sink.close()


def test_two_bundles_are_stacked_and_untrained_is_marked() -> None:
    overlay = Overlay(context(("one", "two"), untrained=("one",)))
    for index in range(30):
        for bundle in ("one", "two"):
            overlay.update(reading(index, bundle))
    canvas = np.zeros((720, 1280, 3), np.uint8)
    overlay.draw(canvas)
    amber = (canvas[..., 0] > 230) & (abs(canvas[..., 1].astype(int) - 178) < 20) & (canvas[..., 2] < 80)
    rows = np.flatnonzero(amber.sum(axis=1) > 600)
    assert 20 <= len(rows) <= 50
    below = canvas[rows[-1] + 1 :]
    white = np.flatnonzero((below.min(axis=2) > 240).sum(axis=1) > 5)
    assert len(np.flatnonzero(np.diff(white) > 30)) >= 1, "two groups of figures, one under the other"


@pytest.mark.parametrize("level", [0, 128, 255])
def test_figures_can_be_read_on_any_background(level: int) -> None:
    overlay = Overlay(context())
    overlay.update(reading(60))
    canvas = np.full((720, 1280, 3), level, np.uint8)
    overlay.draw(canvas)
    panel = canvas[600:700, 30:460]
    dark = np.percentile(panel, 20)
    assert panel.max() >= 250
    # WCAG's contrast of large text: at least 3 to 1 in luminance.
    luminance = (dark / 255) ** 2.2
    assert 1.05 / (luminance + 0.05) >= 7


@pytest.mark.parametrize("size", [(320, 180), (320, 320), (720, 1280), (400, 60), (3840, 2160)])
def test_the_overlay_fits_every_size(size: tuple[int, int]) -> None:
    overlay = Overlay(context(("a very long label of a bundle that does not fit", "two", "three"), untrained=("two",)))
    for bundle in ("a very long label of a bundle that does not fit", "two", "three"):
        overlay.update(reading(3, bundle, score=None, rolling=None, percentile=None))
    canvas = np.full((size[1], size[0], 3), 255, np.uint8)
    overlay.draw(canvas)
    assert (canvas < 200).any()
    assert (canvas[0] == 255).all()


def test_the_graph_is_bounded() -> None:
    history = History(7.0)
    for i in range(50_000):
        history.add(i / 1000, 0.5, 0.5 if i % 2 else None)
    assert len(history.points) <= 242
    history.add(0.0, 0.5, 0.5)
    assert len(history.points) == 1


@pytest.mark.parametrize("values", [[], [0.0], [1.0], [0.5, 0.52], [0.01, 0.99], [0.97, 0.99], [-0.4, 1.3]])
def test_the_range_of_the_graph(values: list[float]) -> None:
    low, high = value_range(values)
    assert high - low >= 0.3 - 1e-9
    assert all(low <= v <= high for v in values)
    if values and min(values) >= 0 and max(values) <= 1:
        assert low >= 0
        assert high <= 1
