"""Colour histograms against Pillow, OpenCV and colorsys."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from PIL import Image

from helpers_features import extract, textured
from memedge_engines.features.colors import gray, hsv


def test_rgb_equals_pillow_s_histogram() -> None:
    rgb = textured(61, 83)
    expected = np.array(Image.fromarray(rgb).histogram()) / (61 * 83)
    np.testing.assert_allclose(extract("colorhist-rgb", rgb), expected, rtol=0, atol=1e-7)


def test_swap_puts_blue_first() -> None:
    rgb = textured(32, 48)
    expected = np.array(Image.fromarray(np.ascontiguousarray(rgb[..., ::-1])).histogram()) / (32 * 48)
    np.testing.assert_allclose(extract("colorhist-rgb", rgb, swap=True), expected, rtol=0, atol=1e-7)


def test_hue_saturation_and_value_equal_colorsys() -> None:
    rgb = textured(9, 11)
    rgb[0, :6] = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [7, 7, 7], [0, 0, 0], [255, 0, 1]]
    hue, saturation, value = hsv(rgb)
    for place in np.ndindex(9, 11):
        h, s, v = colorsys.rgb_to_hsv(*(rgb[place] / 255.0))
        assert (hue[place], saturation[place], value[place]) == pytest.approx((h, s, 255 * v), abs=1e-5)


def test_hsv_equals_opencv_s_full_range_picture() -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is absent: the extra opencv is not installed")
    rgb = textured(130, 97)
    picture = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV_FULL)
    expected = np.stack([np.bincount(picture[..., c].ravel(), minlength=256) for c in range(3)])
    found = extract("colorhist-hsv", rgb).reshape(3, 256) * (130 * 97)
    np.testing.assert_allclose(found[2], expected[2], atol=0.01)
    # OpenCV divides by tables of rounded integers: levels on a half may fall to either side.
    assert np.abs(found[:2] - expected[:2]).sum() < 0.02 * 2 * 130 * 97
    np.testing.assert_allclose(found.sum(1), 130 * 97, rtol=1e-5)


def test_gray_equals_pillow_s() -> None:
    rgb = textured(50, 31)
    assert np.abs(gray(rgb).astype(int) - np.asarray(Image.fromarray(rgb).convert("L"))).max() == 0
