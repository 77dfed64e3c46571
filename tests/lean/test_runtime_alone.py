"""The runtime with the default bundle, using nothing but the core dependencies.

These tests run twice: in the environment of all tests, and in one with Python 3.10, onnxruntime 1.23.2 and numpy < 2
(JetPack 6's world), where torch, onnx and cv2 are absent: see `test_lean_py310.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

import memedge
from helpers_lean import command
from memedge.loading import DEFAULT_BUNDLE

pytestmark = pytest.mark.skipif(not DEFAULT_BUNDLE.is_dir(), reason="no default bundle in this checkout")


def test_a_picture_has_the_same_score_each_time(tmp_path: Path) -> None:
    dice = np.random.default_rng(3)
    picture = dice.integers(0, 256, (300, 400, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "noise.png")
    with memedge.load(engine="onnxruntime") as scorer:
        first, again = scorer.score(picture), scorer.score(tmp_path / "noise.png")
        grey = scorer.score(np.full((300, 400, 3), 128, np.uint8))
        assert scorer.engine == "onnxruntime"
    assert 0.0 <= first.value <= 1.0
    assert again.value == first.value
    assert grey.value != first.value


def test_the_default_bundle_verifies() -> None:
    done = command("verify", DEFAULT_BUNDLE)
    assert done.stdout


def test_every_decoded_frame_of_the_demo_clip_has_a_line(demo_clip: Path, tmp_path: Path) -> None:
    readings = tmp_path / "readings.jsonl"
    command("run", "--source", demo_clip, "--to", "2", "--jsonl", readings, "--rate", "5", "--quiet")
    lines = [json.loads(line) for line in readings.read_text(encoding="utf-8").splitlines()]
    with av.open(str(demo_clip)) as container:
        times = [float(frame.pts * frame.time_base) for frame in container.decode(video=0) if frame.pts is not None]
    expected = [time - times[0] for time in times if time - times[0] < 2.0]
    frames: list[dict[str, Any]] = lines[:-1]
    assert [frame["frame_index"] for frame in frames] == list(range(len(expected)))
    assert [frame["time_s"] for frame in frames] == pytest.approx(expected, abs=1e-4)
    scores = [frame["score"] for frame in frames if frame["score"] is not None]
    assert len(scores) >= 10
    assert all(0.0 <= score <= 1.0 for score in scores)
    summary = lines[-1]["summary"]
    assert summary["frames_seen"] == len(expected)
    assert summary["frames_scored"] == len(scores)


def test_the_clips_scores_are_those_of_its_pictures(demo_clip: Path) -> None:
    """A frame of the stream and the same frame, decoded by PyAV and converted by swscale, score alike."""
    with memedge.load(engine="onnxruntime") as scorer:
        with memedge.stream(str(demo_clip), scorer, rate_hz=1) as readings:
            reading = next(item for item in readings if item.score is not None)
        with av.open(str(demo_clip)) as container:
            frame = next(container.decode(video=0))
            # swscale's own conversion: a level or two from the contract's.
            picture = frame.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray()
        assert scorer.score(picture).value == pytest.approx(reading.score, abs=0.01)


def test_video_and_moments_are_written(demo_clip: Path, tmp_path: Path) -> None:
    outputs = ("--video", tmp_path / "out.mp4", "--moments", tmp_path / "moments")
    command("run", "--source", demo_clip, "--from", "3.5", "--to", "4.5", "--quiet", *outputs)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 25
    assert list((tmp_path / "moments").glob("*.jpg"))


def test_the_synthetic_pattern_can_be_watched() -> None:
    done = command("run", "--source", "test://", "--max-seconds", "1", "--jsonl", "-", "--quiet")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert "summary" in lines[-1]
    assert any(line["score"] is not None for line in lines[:-1])


@pytest.mark.parametrize("words", [("doctor", "--json"), ("models", "--json"), ("info", str(DEFAULT_BUNDLE), "--json")])
def test_lists_are_json(words: tuple[str, ...]) -> None:
    assert json.loads(command(*words).stdout)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    done = command("run", "--source", tmp_path / "nothing.mp4", code=1)
    assert "nothing.mp4" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2
