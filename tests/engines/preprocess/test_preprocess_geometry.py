from __future__ import annotations

import numpy as np
import pytest

from helpers_media import make_contract
from memedge_engines.errors import PreprocessError
from memedge_engines.manifest import Crop, Preprocess, Resize
from memedge_engines.preprocess import geometry

RGB = {"color": "rgb", "scale": 1 / 255, "mean": (0.0,) * 3, "std": (1.0,) * 3}


@pytest.mark.parametrize(
    ("width", "height", "resized", "offset"),
    [
        # Worked by hand: int(256 * 1920 / 1080) = int(455.11); (455 - 224) / 2 = 115.5 rounds half to even: 116.
        (1920, 1080, (455, 256), (116, 16)),
        (1080, 1920, (256, 455), (16, 116)),
        (853, 480, (454, 256), (115, 16)),
        (256, 256, (256, 256), (16, 16)),
        (1, 1, (256, 256), (16, 16)),
        # (257 - 224) / 2 = 16.5 rounds half to even: 16.
        (1028, 1024, (257, 256), (16, 16)),
    ],
)
def test_short_side_and_center_crop(width: int, height: int, resized: tuple[int, int], offset: tuple[int, int]) -> None:
    found = geometry(make_contract(256, 224), width, height)
    assert (found.resized_w, found.resized_h) == resized
    assert (found.left, found.top) == offset
    assert (found.out_w, found.out_h) == (224, 224)


def test_exact_and_none() -> None:
    exact = geometry(make_contract((120, 160), None), 1920, 1080)
    assert (exact.out_w, exact.out_h) == (160, 120)
    none = geometry(make_contract(None, None), 33, 21)
    assert (none.out_w, none.out_h, none.resizes) == (33, 21, False)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_unrotated_cuts_the_same_pixels(rotation: int) -> None:
    stored = np.arange(90 * 130).reshape(90, 130)
    shown = np.rot90(stored, -rotation // 90)
    shape = geometry(make_contract(None, 51), shown.shape[1], shown.shape[0])
    there = shape.unrotated(rotation)
    cut = stored[there.top : there.top + there.out_h, there.left : there.left + there.out_w]
    expected = shown[shape.top : shape.top + shape.out_h, shape.left : shape.left + shape.out_w]
    assert np.array_equal(np.rot90(cut, -rotation // 90), expected)
    assert (there.source_w, there.source_h) == (130, 90)


@pytest.mark.parametrize(
    ("contract", "size", "message"),
    [
        (make_contract(256, 224), (100_000, 1), "limit of 16777216 pixels"),
        (make_contract((200_000, 16), None), (60_000, 4), "between its two passes"),
        (make_contract(None, 224), (100, 300), "crop to 224x224 is larger than the resized picture, 100x300"),
        (make_contract(100, 224), (640, 480), "larger than the resized picture, 133x100"),
        (
            Preprocess(resize=Resize(rule="short_side"), crop=Crop(rule="none"), **RGB),
            (10, 10),
            "'short_side' with size None",
        ),
        (
            Preprocess(resize=Resize(rule="exact", size=5), crop=Crop(rule="none"), **RGB),
            (10, 10),
            "'exact' with size 5",
        ),
        (Preprocess(resize=Resize(rule="none"), crop=Crop(rule="center"), **RGB), (10, 10), "'center' without a size"),
        (make_contract(None, 0), (10, 10), "crop to 0x0"),
        (make_contract(0, None), (10, 10), "'short_side' with size 0"),
        (make_contract(), (0, 10), "picture of 0x10"),
    ],
)
def test_impossible_geometry(contract: Preprocess, size: tuple[int, int], message: str) -> None:
    with pytest.raises(PreprocessError, match=message.replace("(", r"\(")):
        geometry(contract, *size)
