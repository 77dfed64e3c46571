"""The demo clip is what its renderer makes: five different, detailed, moving scenes in twenty seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

SCENES = ("landscape", "still_life", "night", "umbrellas", "card")


@pytest.fixture(scope="module")
def pictures(demo_clip: Path) -> list[NDArray[np.uint8]]:
    """Every fifth frame, RGB uint8 [360, 640, 3]: one for each fifth of a second."""
    found = []
    with av.open(str(demo_clip)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index % 5 == 0:
                found.append(frame.reformat(640, 360, "rgb24", src_colorspace="ITU709").to_ndarray())
    return found


def test_container(demo_clip: Path) -> None:
    assert demo_clip.stat().st_size < 4_000_000
    with av.open(str(demo_clip)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (1280, 720)
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == 25
        assert stream.frames == 500
        assert float(stream.duration * stream.time_base) == pytest.approx(20.0)
        assert len(container.streams) == 1


def test_scenes_are_detailed_and_move(pictures: list[NDArray[np.uint8]]) -> None:
    assert len(pictures) == 100
    for scene in range(5):
        first, last = (pictures[scene * 20 + place].astype(np.float32).mean(-1) for place in (2, 18))
        # The detail of a gradient is next to nothing: neighbours two pixels away differ by much less than a level.
        detail = np.abs(first[:, 2:] - 2 * first[:, 1:-1] + first[:, :-2]).mean()
        assert detail > 1.0, SCENES[scene]
        assert np.abs(last - first).mean() > 2.0, SCENES[scene]


def test_cuts_are_where_the_scenes_change(pictures: list[NDArray[np.uint8]]) -> None:
    steps = [np.abs(a.astype(np.float32) - b).mean() for a, b in zip(pictures[1:], pictures[:-1], strict=True)]
    assert sorted(np.argsort(steps)[-4:].tolist()) == [19, 39, 59, 79]


@pytest.mark.parametrize("scene", ["night", "card"])
def test_the_renderer_makes_this_clip(scene: str, demo_clip: Path, tmp_path: Path) -> None:
    renderer = demo_clip.parent / "render.py"
    still = tmp_path / "still.png"
    words = [sys.executable, str(renderer), "--only", scene, "--at", "2", "--still", str(still)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with Image.open(still) as image:
        rendered = np.asarray(image.resize((640, 360), Image.Resampling.BOX), np.float32)
    index = SCENES.index(scene) * 100 + 50
    with av.open(str(demo_clip)) as container:
        frame = next(f for i, f in enumerate(container.decode(video=0)) if i == index)
        decoded = frame.reformat(640, 360, "rgb24", src_colorspace="ITU709", interpolation="AREA").to_ndarray()
    # Grain and compression differ, the picture does not.
    assert np.abs(rendered - decoded).mean() < 8.0
    assert np.corrcoef(rendered.ravel(), decoded.ravel())[0, 1] > 0.97
