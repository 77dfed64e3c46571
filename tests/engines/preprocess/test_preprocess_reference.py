"""The float reference against what does not share its code: hand-worked colours, np.interp, swscale, Pillow, torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers_media import (
    block_planes,
    clip_frames,
    make_contract,
    noise_planes,
    pillow_picture,
    swscale_rgb,
    video_frame,
)
from memedge_engines.frame import ChromaSiting, ColorMatrix, ColorRange, Frame, PixelFormat
from memedge_engines.preprocess import reference_picture, reference_rgb, reference_tensor

BT601, BT709, BT2020 = ColorMatrix.BT601, ColorMatrix.BT709, ColorMatrix.BT2020
LIMITED, FULL = ColorRange.LIMITED, ColorRange.FULL


@pytest.mark.parametrize(
    ("matrix", "color_range", "yuv", "rgb"),
    [
        # Colour bars (100 %) as published for BT.709 and BT.601, JFIF primaries; BT.2020 worked by hand.
        (BT709, LIMITED, (63, 102, 240), (255, 0, 0)),
        (BT709, LIMITED, (173, 42, 26), (0, 255, 0)),
        (BT709, LIMITED, (32, 240, 118), (0, 0, 255)),
        (BT601, LIMITED, (81, 90, 240), (255, 0, 0)),
        (BT601, LIMITED, (145, 54, 34), (0, 255, 0)),
        (BT601, LIMITED, (41, 240, 110), (0, 0, 255)),
        (BT601, FULL, (76, 85, 255), (255, 0, 0)),
        (BT601, FULL, (150, 44, 21), (0, 255, 0)),
        (BT601, FULL, (29, 255, 107), (0, 0, 255)),
        (BT2020, LIMITED, (74, 97, 240), (255, 0, 0)),
        (BT2020, LIMITED, (164, 47, 25), (0, 255, 0)),
        (BT2020, LIMITED, (29, 240, 119), (0, 0, 255)),
        (BT709, LIMITED, (16, 128, 128), (0, 0, 0)),
        (BT709, LIMITED, (235, 128, 128), (255, 255, 255)),
        (BT709, LIMITED, (255, 128, 128), (255, 255, 255)),
        (BT709, FULL, (16, 128, 128), (16, 16, 16)),
        (BT709, FULL, (235, 128, 128), (235, 235, 235)),
    ],
)
@pytest.mark.parametrize("pixel_format", [f for f in PixelFormat if f.is_yuv])
def test_known_colors(
    matrix: ColorMatrix,
    color_range: ColorRange,
    yuv: tuple[int, int, int],
    rgb: tuple[int, int, int],
    pixel_format: PixelFormat,
) -> None:
    y, u, v = yuv
    fills = {
        PixelFormat.NV12: [[y], [u, v]],
        PixelFormat.YUYV422: [[y, u, y, v]],
    }.get(pixel_format, [[y], [u], [v]])
    planes = [
        np.resize(np.array(fill, np.uint8), p.shape)
        for fill, p in zip(fills, noise_planes(pixel_format, 6, 4), strict=True)
    ]
    frame = Frame.from_planes(planes, pixel_format, 6, 4, matrix=matrix, color_range=color_range)
    found = reference_rgb(frame).astype(int)
    assert found.shape == (4, 6, 3)
    assert np.abs(found - np.array(rgb)).max() <= 1  # the published bars are rounded to 8 bit
    assert (found == found[0, 0]).all()


def test_gray_follows_its_range() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    full = reference_rgb(Frame.from_planes([levels], PixelFormat.GRAY8, 16, 16, color_range=FULL))
    limited = reference_rgb(Frame.from_planes([levels], PixelFormat.GRAY8, 16, 16, color_range=LIMITED))
    assert np.array_equal(full, np.stack([levels] * 3, axis=-1))
    assert limited.ravel()[[0, 16 * 3, 17 * 3, 235 * 3, 255 * 3]].tolist() == [0, 0, 1, 255, 255]
    assert limited[7, 14, 0] == round((126 - 16) * 255 / 219)


@pytest.mark.parametrize("siting", ChromaSiting)
@pytest.mark.parametrize("pixel_format", [PixelFormat.I420, PixelFormat.YUV422P])
@pytest.mark.parametrize("size", [(20, 14), (21, 13), (1, 5), (5, 1), (2, 2)])
def test_chroma_siting(siting: ChromaSiting, pixel_format: PixelFormat, size: tuple[int, int]) -> None:
    """Positions by the standard's picture of the sampling grid, interpolation by np.interp, matrix written out."""
    width, height = size
    y, cb, cr = noise_planes(pixel_format, width, height, seed=3)
    frame = Frame.from_planes([y, cb, cr], pixel_format, width, height, matrix=BT601, color_range=FULL, siting=siting)
    x_first = {"left": 0.0, "center": 0.5, "topleft": 0.0}[siting.value]
    y_first = {"left": 0.5, "center": 0.5, "topleft": 0.0}[siting.value]

    def upsampled(plane: np.ndarray) -> np.ndarray:
        at = np.arange(plane.shape[1]) * 2 + x_first
        wide = np.stack([np.interp(np.arange(width), at, row) for row in plane.astype(float)])
        if pixel_format is PixelFormat.YUV422P:
            return wide
        at = np.arange(plane.shape[0]) * 2 + y_first
        return np.stack([np.interp(np.arange(height), at, column) for column in wide.T]).T

    u, v = upsampled(cb) - 128, upsampled(cr) - 128
    expected = np.stack([y + 1.402 * v, y - 0.344136 * u - 0.714136 * v, y + 1.772 * u], axis=-1)
    difference = np.abs(reference_rgb(frame) - np.clip(expected, 0, 255))
    assert difference.max() <= 0.5 + 1e-3


@pytest.mark.parametrize("color_range", ColorRange)
@pytest.mark.parametrize("matrix", ColorMatrix)
@pytest.mark.parametrize(
    "pixel_format", [PixelFormat.I420, PixelFormat.NV12, PixelFormat.YUV422P, PixelFormat.YUV444P, PixelFormat.YUYV422]
)
def test_within_one_level_of_accurate_swscale(
    pixel_format: PixelFormat, matrix: ColorMatrix, color_range: ColorRange
) -> None:
    """On legal samples: with extreme ones of limited range swscale overflows and wraps between 0 and 255."""
    width, height = 128, 96
    for planes in (
        noise_planes(pixel_format, width, height, low=16, high=235, seed=5),
        block_planes(pixel_format, width, height),
    ):
        frame = Frame.from_planes(
            planes, pixel_format, width, height, matrix=matrix, color_range=color_range, siting=ChromaSiting.CENTER
        )
        theirs = swscale_rgb(video_frame(planes, pixel_format.value, width, height), matrix, color_range)
        assert np.abs(reference_rgb(frame).astype(int) - theirs).max() <= 1


@pytest.mark.parametrize(
    ("clip", "siting"),
    [("pan_low_640x360.mp4", ChromaSiting.LEFT), ("mjpeg_640x480.avi", ChromaSiting.CENTER)],
)
def test_within_one_level_of_swscale_on_decoded_frames(clips: Path, clip: str, siting: ChromaSiting) -> None:
    """Here the decoder tells swscale the siting: left for H.264, centre for MJPEG."""
    for frame, decoded in clip_frames(clips / clip, {0, 60}, siting=siting):
        theirs = swscale_rgb(decoded, frame.matrix, frame.color_range)
        assert np.abs(reference_rgb(frame).astype(int) - theirs).max() <= 1


@pytest.mark.parametrize(("rotation", "corner"), [(0, (0, 0)), (90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
def test_rotation_is_clockwise(rotation: int, corner: tuple[int, int]) -> None:
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[0, 0] = 255
    found = reference_rgb(Frame.from_rgb(picture, rotation=rotation))
    assert found.shape == ((6, 4, 3) if rotation in (90, 270) else (4, 6, 3))
    assert found[corner].tolist() == [255, 255, 255]
    assert found.sum() == 3 * 255


@pytest.mark.parametrize("contract", [make_contract(32, 28), make_contract((40, 90), None), make_contract(200, None)])
@pytest.mark.parametrize("filter_name", ["triangle", "bilinear"])
def test_resize_equals_torch(contract: object, filter_name: str) -> None:
    torch = pytest.importorskip("torch")
    from memedge_engines.preprocess import geometry

    contract = make_contract(contract.resize.size, None, filter_name=filter_name)  # type: ignore[attr-defined]
    rgb = noise_planes(PixelFormat.RGB24, 131, 97, seed=2)[0].reshape(97, 131, 3)
    shape = geometry(contract, 131, 97)
    planes = torch.from_numpy(rgb.astype(np.float64)).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(
        planes,
        size=(shape.resized_h, shape.resized_w),
        mode="bilinear",
        antialias=filter_name == "triangle",
        align_corners=False,
    )
    found = reference_picture(Frame.from_rgb(rgb), contract)
    assert np.abs(found - expected[0].permute(1, 2, 0).numpy()).max() < 1e-3


@pytest.mark.parametrize("color", ["rgb", "bgr", "gray"])
@pytest.mark.parametrize("size", [(131, 97), (40, 300), (1, 1), (7, 1)])
def test_picture_within_one_level_of_pillow(color: str, size: tuple[int, int]) -> None:
    width, height = size
    rgb = noise_planes(PixelFormat.RGB24, width, height)[0].reshape(height, width, 3)
    contract = make_contract(64, 56, color=color)
    difference = np.abs(reference_picture(Frame.from_rgb(rgb), contract) - pillow_picture(rgb, contract).astype(float))
    assert difference.max() <= 1.0001


def test_tensor_is_the_written_formula() -> None:
    rgb = noise_planes(PixelFormat.RGB24, 30, 20)[0].reshape(20, 30, 3)
    tensor = reference_tensor(Frame.from_rgb(rgb), make_contract(None, None))
    assert tensor.shape == (1, 3, 20, 30)
    assert tensor.dtype == np.float32
    expected = (rgb[4, 7] / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    assert np.allclose(tensor[0, :, 4, 7], expected, atol=1e-6)
