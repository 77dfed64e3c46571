"""HOG, brightness, contrast and blurriness against scikit-image, OpenCV and the published code's steps."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from helpers_features import extract, textured
from memedge_engines.features.hog import hog_vector
from memedge_engines.features.lowlevel import blurriness_of


def test_hog_equals_scikit_image() -> None:
    feature = pytest.importorskip("skimage.feature", reason="scikit-image is absent: the extra dev is not installed")
    for rgb in (textured(256, 256), np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8)):
        expected = feature.hog(
            rgb, orientations=9, pixels_per_cell=(8, 8), cells_per_block=(2, 2), block_norm="L2-Hys", channel_axis=-1
        )
        found = extract("hog", rgb)
        assert found.shape == (34_596,)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_hog_of_an_edge_is_in_one_orientation_of_the_strongest_channel() -> None:
    rgb = np.full((32, 32, 3), 100, np.uint8)
    rgb[:, 12:, 1] = 200  # green steps by 100
    rgb[20:, :, 2] = 130  # blue by 30, downwards
    blocks = hog_vector(rgb).reshape(3, 3, 2, 2, 9)
    # Cells (0, 1) and (1, 1) hold the edge, whose gradient points to the right: orientation 0 alone.
    assert np.flatnonzero(blocks[0, 0, 0, 1]).tolist() == [0]
    assert blocks[0, 0, 0, 1, 0] == pytest.approx(0.5**0.5, abs=1e-4)
    # Cell (2, 3) holds the blue edge: 90 degrees, bin 4.
    assert np.flatnonzero(blocks[1, 2, 1, 1]).tolist() == [4]


def test_hog_of_a_flat_picture_is_zero() -> None:
    assert not extract("hog", np.full((256, 256, 3), 50, np.uint8)).any()


def test_brightness_is_the_mean_value() -> None:
    rgb = textured(40, 31)
    expected = np.asarray(Image.fromarray(rgb).convert("HSV"))[..., 2].mean()
    assert extract("brightness", rgb)[0] == pytest.approx(expected, abs=1e-4)


def test_legacy_brightness_is_the_first_row_of_opencv_s_hsv() -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is absent: the extra opencv is not installed")
    rgb = textured(256, 256)
    expected = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)[0].mean()
    assert extract("brightness", rgb, legacy_row0=True)[0] == pytest.approx(expected, abs=0.1)


def test_contrast_is_the_deviation_of_grey() -> None:
    rgb = textured(64, 45)
    expected = np.asarray(Image.fromarray(rgb).convert("L")).astype(float).std()
    assert extract("contrast", rgb)[0] == pytest.approx(expected, abs=1e-4)
    assert extract("contrast", np.full((9, 9, 3), 3, np.uint8))[0] == 0


@pytest.mark.parametrize("size", [(256, 256), (100, 240), (300, 131)])
def test_blurriness_follows_the_published_steps(size: tuple[int, int]) -> None:
    """Resize to width 500, FFT, the middle of the shifted spectrum zeroed, back, mean of 20 ln of the magnitude."""
    rgb = textured(*size)
    height = int(size[0] * 500 / size[1])
    gray = Image.fromarray(np.asarray(Image.fromarray(rgb).convert("L")).astype(np.float32))
    shrinks = size[1] > 500
    assert not shrinks  # then Pillow's bilinear filter is plain interpolation
    sized = np.asarray(gray.resize((500, height), Image.Resampling.BILINEAR), np.float64)
    spectrum = np.fft.fftshift(np.fft.fft2(sized))
    row, column = height // 2, 250
    spectrum[max(0, row - 60) : row + 60, column - 60 : column + 60] = 0
    filtered = np.fft.ifft2(np.fft.ifftshift(spectrum))
    expected = np.mean(20 * np.log(np.abs(filtered) + 1e-8))
    assert extract("blurriness", rgb)[0] == pytest.approx(expected, abs=0.05)


def test_sharp_pictures_have_larger_values_than_blurred_and_flat_ones() -> None:
    sharp = textured(256, 256, noise=20)
    blurred = np.asarray(Image.fromarray(sharp).resize((32, 32)).resize((256, 256)))
    flat = np.full((256, 256, 3), 90, np.uint8)
    assert blurriness_of(sharp) > blurriness_of(blurred) + 5 > blurriness_of(flat) + 100
    assert blurriness_of(flat) == pytest.approx(20 * np.log(1e-8), abs=1)
