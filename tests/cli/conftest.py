"""A tiny bundle and short media that the command tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers_bundle import make_frame_bundle, picture
from helpers_video import write_video


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with one small frame node."""
    return make_frame_bundle(tmp_path_factory.mktemp("tiny") / "b").path


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 different frames at 10 frames a second, 64x48."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return write_video(path, [picture(i) for i in range(25)], rate=10, container_options={"movflags": "faststart"})
