"""The one-level promise on every clip and on the photographs that lie beside the checkout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from helpers_media import (
    clip_frames,
    levels_apart,
    make_contract,
    noise_planes,
    pillow_picture,
    preprocessors,
    video_frame,
)
from memedge_engines.frame import ChromaSiting, ColorMatrix, ColorRange, Frame, PixelFormat
from memedge_engines.preprocess import reference_picture, reference_rgb, to_rgb

LEVEL = 1.0 + 1e-4
CLIPS = [
    "pan_low_640x360.mp4",
    "zoom_high_1280x720.mp4",
    "pan_1080p_24fps_7s.mp4",
    "cuts_low_high_low_1280x720.mp4",
    "cuts_4shots_20s_audio_1280x720.mp4",
    "mjpeg_640x480.avi",
    "vp9_1280x720.webm",
    "odd_853x480_mpeg4.mp4",
    "vertical_rotated.mp4",
    "vfr_1280x720.mp4",
    "gray_640x360.mp4",
    "gray400_640x360.mp4",
    "tripod_640x360.mp4",
    "fade_freeze_640x360.mp4",
]


def test_no_clip_is_left_out(clips: Path) -> None:
    listed = [c["clip"] for c in json.loads((clips / "clips.json").read_text())["clips"]]
    assert sorted(listed) == sorted(CLIPS)


def check_clip(clips: Path, name: str, picks: set[int]) -> None:
    siting = ChromaSiting.CENTER if name.startswith("mjpeg") else ChromaSiting.LEFT
    rotation = 90 if name.startswith("vertical") else 0
    seen = 0
    for frame, _ in clip_frames(clips / name, picks, siting=siting, rotation=rotation):
        rgb = reference_rgb(frame)
        assert np.abs(to_rgb(frame).astype(int) - rgb).max() <= 1
        for contract in (make_contract(256, 224), make_contract(112, None)):
            expected, from_pillow = reference_picture(frame, contract), pillow_picture(rgb, contract).astype(int)
            for maker in preprocessors(contract):
                assert levels_apart(maker.picture(frame), frame, contract, expected) <= LEVEL, maker.name
                # The same from RGB, as a picture file or a caller's array would give it.
                assert np.abs(maker.picture(Frame.from_rgb(rgb)) - from_pillow).max() <= 1, maker.name
        seen += 1
    assert seen == len(picks)


@pytest.mark.parametrize("name", CLIPS)
def test_clip(clips: Path, name: str) -> None:
    listed = {c["clip"]: c for c in json.loads((clips / "clips.json").read_text())["clips"]}
    check_clip(clips, name, {0, min(90, listed[name]["frames"] // 2)})


@pytest.mark.slow
@pytest.mark.parametrize("name", CLIPS)
def test_clip_from_end_to_end(clips: Path, name: str) -> None:
    listed = {c["clip"]: c for c in json.loads((clips / "clips.json").read_text())["clips"]}
    last = listed[name]["frames"] - 1
    check_clip(clips, name, {0, last // 5, last // 3, last // 2, (2 * last) // 3, last})


def check_photograph(path: Path) -> None:
    from PIL import Image

    with Image.open(path) as image:
        rgb = np.asarray(image.convert("RGB"))
    height, width, _ = rgb.shape
    for contract in (make_contract(224, None), make_contract(100, 90)):
        frame = Frame.from_rgb(rgb)
        expected, from_pillow = reference_picture(frame, contract), pillow_picture(rgb, contract).astype(int)
        for maker in preprocessors(contract):
            found = maker.picture(frame)
            assert np.abs(found - from_pillow).max() <= 1, (path.name, maker.name)
            assert np.abs(found - expected).max() <= LEVEL, (path.name, maker.name)
    # The same picture as a camera would send it, 4:2:0 full range at its own, often odd, size.
    planes = to_i420(rgb)
    frame = Frame.from_planes(
        planes,
        PixelFormat.I420,
        width,
        height,
        matrix=ColorMatrix.BT601,
        color_range=ColorRange.FULL,
        siting=ChromaSiting.CENTER,
    )
    contract = make_contract(224, None)
    expected = reference_picture(frame, contract)
    for maker in preprocessors(contract):
        assert levels_apart(maker.picture(frame), frame, contract, expected) <= LEVEL, (path.name, maker.name)


def to_i420(rgb: np.ndarray) -> list[np.ndarray]:
    """JPEG's YCbCr by Pillow, chroma averaged over 2x2."""
    from PIL import Image

    height, width, _ = rgb.shape
    ycc = np.asarray(Image.fromarray(rgb).convert("YCbCr"))
    even = np.pad(ycc, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    small = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    return [ycc[..., 0].copy(), small[..., 1].copy(), small[..., 2].copy()]


def test_photographs(lnsim: Path) -> None:
    files = sorted((lnsim / "images").iterdir())
    for path in files[:: max(1, len(files) // 60)]:
        check_photograph(path)


@pytest.mark.slow
def test_every_photograph(lnsim: Path) -> None:
    files = sorted((lnsim / "images").iterdir())
    assert len(files) == 2371
    for path in files:
        check_photograph(path)


def test_made_clip_through_a_codec(tmp_path: Path) -> None:
    """A clip that the test encodes: FFmpeg's planes with their row pitch, at an odd size."""
    import av

    path = tmp_path / "odd.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=5)
        stream.width, stream.height, stream.pix_fmt = 321, 243, "yuv420p"  # type: ignore[attr-defined]
        for number in range(3):
            planes = noise_planes(PixelFormat.I420, 321, 243, seed=number)
            container.mux(stream.encode(video_frame(planes, "yuv420p", 321, 243)))  # type: ignore[attr-defined]
        container.mux(stream.encode(None))  # type: ignore[attr-defined]
    for number, (frame, _) in enumerate(clip_frames(path, {0, 1, 2}, siting=ChromaSiting.LEFT)):
        luma = noise_planes(PixelFormat.I420, 321, 243, seed=number)[0]
        assert np.array_equal(frame.host_planes()[0], luma)
        contract = make_contract(100, 90)
        expected = reference_picture(frame, contract)
        for maker in preprocessors(contract):
            assert np.abs(maker.picture(frame) - expected).max() <= LEVEL, maker.name
