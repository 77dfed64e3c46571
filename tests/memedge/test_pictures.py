from __future__ import annotations

import hashlib
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from memedge.errors import UsageError
from memedge.pictures import Dice, generate, hsv, picture


@pytest.fixture(scope="module")
def sixty_four() -> np.ndarray:
    return np.stack(list(generate(64)))


def test_shape_dtype_and_count() -> None:
    made = list(generate(11, 3, (64, 48)))
    assert len(made) == 11
    assert all(p.shape == (48, 64, 3) and p.dtype == np.uint8 for p in made)
    assert list(generate(0)) == []


@pytest.mark.parametrize("size", [(16, 16), (17, 33), (200, 20)])
def test_any_size_works_for_every_kind_of_scene(size: tuple[int, int]) -> None:
    for seed in range(3):
        for made in generate(10, seed, size):
            assert made.shape == (size[1], size[0], 3)


def test_a_picture_depends_on_seed_and_number_alone() -> None:
    series = list(generate(12, 5, (48, 32)))
    assert np.array_equal(series[11], picture(11, 5, (48, 32)))
    assert not np.array_equal(series[0], picture(0, 6, (48, 32)))


def test_another_process_makes_the_same_bytes() -> None:
    code = (
        "import hashlib; from memedge.pictures import generate;"
        "print(hashlib.sha256(b''.join(p.tobytes() for p in generate(10, 1, (80, 60)))).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment())
    here = hashlib.sha256(b"".join(p.tobytes() for p in generate(10, 1, (80, 60)))).hexdigest()
    assert done.stdout.strip() == here


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"}


def test_pictures_vary_in_brightness_contrast_and_colour(sixty_four: np.ndarray) -> None:
    means = sixty_four.mean(axis=(1, 2, 3))
    contrast = sixty_four.reshape(64, -1).std(axis=1)
    assert means.min() < 40
    assert means.max() > 190
    assert means.std() > 30
    assert contrast.min() < 20
    assert contrast.max() > 55
    channels = sixty_four.reshape(64, -1, 3).mean(axis=1)
    assert (channels.argmax(axis=1) == np.arange(3)[:, None]).any(axis=1).all(), "each channel leads somewhere"
    saturation = (sixty_four.max(axis=3).astype(int) - sixty_four.min(axis=3)).mean(axis=(1, 2))
    assert saturation.min() < 5
    assert saturation.max() > 60


def test_pictures_vary_in_detail_and_fall_off_like_photographs(sixty_four: np.ndarray) -> None:
    grey = sixty_four.mean(axis=3)
    spectrum = np.abs(np.fft.fft2(grey - grey.mean(axis=(1, 2), keepdims=True))) ** 2
    fy, fx = np.meshgrid(np.fft.fftfreq(240), np.fft.fftfreq(320), indexing="ij")
    radius = np.hypot(fx, fy)
    share = spectrum[:, radius > 0.125].sum(axis=1) / spectrum.sum(axis=(1, 2))
    assert share.min() < 0.005
    assert share.max() > 0.15
    edges = np.geomspace(1 / 120, 0.25, 9)
    power = np.array([spectrum[:, (radius >= a) & (radius < b)].mean() for a, b in pairwise(edges)])
    slope = np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(power), 1)[0]
    assert -3.2 < slope < -1.4  # photographs: about -2


def test_no_two_pictures_look_alike(sixty_four: np.ndarray) -> None:
    small = sixty_four.reshape(64, 12, 20, 16, 20, 3).mean(axis=(2, 4)).reshape(64, -1)
    distance = np.abs(small[:, None] - small[None]).mean(axis=2) + np.eye(64) * 255
    assert distance.min() > 4


def test_hsv_agrees_with_the_standard_library() -> None:
    import colorsys

    dice = Dice("hsv")
    for _ in range(200):
        h, s, v = dice.upto(0, 1535), dice.upto(0, 255), dice.upto(0, 255)
        want = [c * 255 for c in colorsys.hsv_to_rgb(h / 1536, s / 255, v / 255)]
        assert np.abs(np.subtract(hsv(h, s, v), want)).max() <= 2.0


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 16x16"):
        generate(1, size=(8, 100))
    with pytest.raises(UsageError):
        generate(-1)
