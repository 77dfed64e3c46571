"""Every sample runs as it is, in an interpreter of its own, on a short clip where it takes one."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
NAMES = sorted(path.name for path in SAMPLES.glob("*.py"))


def run(sample: str, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs one sample; its output as text."""
    root = SAMPLES.parent
    paths = [str(root), str(root / "engines"), str(root / "export"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SAMPLES / sample), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
        assert not done.stderr.strip().startswith("Traceback")
    return done


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds of moving stripes that get finer, 5 frames a second, 192x108."""
    path = tmp_path_factory.mktemp("media") / "stripes.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 192, 108, "yuv420p"
        x = np.arange(192)[None, :, None]
        y = np.arange(108)[:, None, None]
        for index in range(60):
            wave = np.sin(x * (0.05 + 0.01 * index) + np.array([0.0, 2.0, 4.0])) * np.cos(y * 0.07 + index * 0.3)
            picture = (127 + 120 * wave).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 5)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def test_there_are_five_samples() -> None:
    assert NAMES == [
        "camera_loop.py",
        "folder_to_csv.py",
        "own_sink.py",
        "python_api.py",
        "two_bundles_one_stream.py",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_help_tells_what_the_sample_does(name: str) -> None:
    assert "usage:" in run(name, "--help").stdout


def test_python_api(clip: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(tmp_path / "grey.png")
    lines = run("python_api.py", "--clip", clip, tmp_path / "grey.png").stdout.splitlines()
    assert lines[0].startswith("bundle ")
    assert 0.0 <= float(lines[1].split()[0]) <= 1.0
    assert "grey.png" in lines[1]
    assert lines[-1].startswith("most memorable frame: ")


def test_python_api_with_frames_of_the_clip(clip: Path) -> None:
    lines = run("python_api.py", "--clip", clip).stdout.splitlines()
    for line, name in zip(lines[1:4], ("frame at 2 s", "frame at 6 s", "frame at 10 s"), strict=True):
        assert name in line


def test_camera_loop_without_a_camera_watches_the_pattern() -> None:
    lines = run("camera_loop.py", "--source", "test://", "--seconds", "2").stdout.splitlines()
    assert int(lines[-1].split()[0]) > 0


def test_camera_loop_with_a_camera_that_is_not_there() -> None:
    done = run("camera_loop.py", "--source", "camera77", "--seconds", "1", check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_folder_to_csv(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(clip.read_bytes())
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(folder / "b.png")
    (folder / "notes.txt").write_text("not media")
    run("folder_to_csv.py", folder, "--csv", tmp_path / "scores.csv")
    with open(tmp_path / "scores.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["kind"]) for row in rows] == [("a.mp4", "video"), ("b.png", "picture")]
    assert all(0.0 <= float(row["score"]) <= 1.0 for row in rows)
    assert int(rows[0]["frames_scored"]) >= 12


def test_folder_to_csv_goes_on_after_a_broken_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(tmp_path / "b.png")
    done = run("folder_to_csv.py", tmp_path, check=False)
    assert done.returncode == 1
    assert "a.png" in done.stderr
    assert "Traceback" not in done.stderr
    assert "b.png" in done.stdout


def test_two_bundles_one_stream(clip: Path) -> None:
    lines = run("two_bundles_one_stream.py", "--source", clip).stdout.splitlines()
    assert lines[0].split() == ["time_s", "default", "default", "fp32"]
    assert len([line for line in lines[1:] if line.strip()[0].isdigit()]) >= 11
    assert "default fp32: 60 frames scored" in lines[-1]


def test_own_sink(clip: Path, tmp_path: Path) -> None:
    done = run("own_sink.py", "--source", clip, "--out", tmp_path / "rises", "--rise", "0.0001")
    saved = sorted((tmp_path / "rises").glob("*.jpg"))
    assert done.stdout.splitlines()[-1] == f"{len(saved)} pictures"
    assert saved
    with Image.open(saved[0]) as picture:
        assert picture.size == (192, 108)
