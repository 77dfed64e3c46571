"""The kernel's loops on clips and photographs: the compiled CPU path's bytes, the float reference's levels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from helpers_kernel import in_planes, launched, restated
from helpers_media import clip_frames, make_contract
from memedge_engines.frame import ChromaSiting, ColorMatrix, ColorRange, Frame, PixelFormat
from memedge_engines.kernels.host import Absent, kernels
from memedge_engines.manifest import Preprocess
from memedge_engines.preprocess import reference_picture

FEW = ["pan_low_640x360.mp4", "mjpeg_640x480.avi", "odd_853x480_mpeg4.mp4", "vertical_rotated.mp4", "gray_640x360.mp4"]


def check(frame: Frame, contract: Preprocess, *, near: bool) -> None:
    """``near``: also within a level of the float reference, which takes long."""
    found = launched([frame], contract)[0]
    if isinstance(kernels(), Absent):
        wanted = in_planes(restated(frame, contract), contract)
    else:
        from memedge_engines.preprocess.native import NativePreprocessor

        wanted = NativePreprocessor(contract).tensor(frame)[0]
    assert found.tobytes() == wanted.tobytes()
    if near:
        levels = (found.transpose(1, 2, 0) * np.array(contract.std) + np.array(contract.mean)) / contract.scale
        assert np.abs(levels - reference_picture(frame, contract)).max() <= 1.0 + 1e-3


def check_clip(clips: Path, name: str, picks: set[int], *, near: bool) -> None:
    siting = ChromaSiting.CENTER if name.startswith("mjpeg") else ChromaSiting.LEFT
    rotation = 90 if name.startswith("vertical") else 0
    seen = 0
    for frame, _ in clip_frames(clips / name, picks, siting=siting, rotation=rotation):
        check(frame, make_contract(112, 96), near=near)
        seen += 1
    assert seen == len(picks)


@pytest.mark.parametrize("name", FEW)
def test_clip(clips: Path, name: str) -> None:
    check_clip(clips, name, {1}, near=name == FEW[0])


@pytest.mark.slow
def test_every_clip(clips: Path) -> None:
    for listed in json.loads((clips / "clips.json").read_text())["clips"]:
        last = listed["frames"] - 1
        check_clip(clips, listed["clip"], {0, last // 3, last // 2, last}, near=True)


def check_photograph(path: Path, *, near: bool) -> None:
    from PIL import Image

    with Image.open(path) as image:
        rgb = np.asarray(image.convert("RGB"))
        ycc = np.asarray(image.convert("RGB").convert("YCbCr"))
    height, width, _ = rgb.shape
    check(Frame.from_rgb(rgb), make_contract(100, 90), near=near)
    # As a camera would send it: NV12 at full range, chroma taken from every second pixel.
    chroma = np.ascontiguousarray(ycc[::2, ::2, 1:]).reshape((height + 1) // 2, -1)
    planes = [np.ascontiguousarray(ycc[..., 0]), chroma]
    fields = {"matrix": ColorMatrix.BT601, "color_range": ColorRange.FULL, "siting": ChromaSiting.TOPLEFT}
    frame = Frame.from_planes(planes, PixelFormat.NV12, width, height, **fields)
    check(frame, make_contract((64, 64), None), near=near)


def test_photographs(lnsim: Path) -> None:
    files = sorted((lnsim / "images").iterdir())
    for path in files[:: len(files) // 6]:
        check_photograph(path, near=False)


@pytest.mark.slow
def test_every_photograph(lnsim: Path) -> None:
    for number, path in enumerate(sorted((lnsim / "images").iterdir())):
        check_photograph(path, near=number % 10 == 0)
