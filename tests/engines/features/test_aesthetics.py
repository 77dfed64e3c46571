"""aes-lite: its forty numbers against definitions written out on colorsys, OpenCV, SciPy and scikit-image."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
from PIL import Image

from helpers_features import extract, textured
from memedge_engines.features.aesthetics import NAMES, shrunk
from memedge_engines.features.aesthetics_shape import haar


def named(rgb: np.ndarray) -> dict[str, float]:
    return dict(zip(NAMES, extract("aes-lite", rgb).tolist(), strict=True))


def hsv(rgb: np.ndarray) -> np.ndarray:
    return np.array([[colorsys.rgb_to_hsv(*(pixel / 255.0)) for pixel in row] for row in rgb.astype(float)])


def luma(rgb: np.ndarray) -> np.ndarray:
    return rgb.astype(float) @ [0.299, 0.587, 0.114]


def test_forty_distinct_names() -> None:
    assert len(NAMES) == len(set(NAMES)) == 40


def test_colour_numbers() -> None:
    rgb = textured(48, 60, 4)
    found, (h, s, v) = named(rgb), np.moveaxis(hsv(rgb), 2, 0)
    vector = (s * np.exp(2j * np.pi * h)).sum()
    assert complex(found["hue_cos"], found["hue_sin"]) == pytest.approx(vector / abs(vector), abs=1e-4)
    assert found["hue_resultant"] == pytest.approx(abs(vector) / s.sum(), abs=1e-5)
    means = [found[k] for k in ("saturation_mean", "saturation_std", "value_mean", "value_std")]
    assert means == pytest.approx([s.mean(), s.std(), v.mean(), v.std()], abs=1e-5)
    counted = (s > 0.2) & (v >= 0.15) & (v <= 0.95)
    bins = np.histogram(h[counted], 20, (0, 1))[0]
    assert found["hue_count"] == (bins > 0.05 * bins.max()).sum()
    middle = 2 * math.pi * (bins.argmax() + 0.5) / 20
    assert (found["dominant_hue_cos"], found["dominant_hue_sin"]) == pytest.approx(
        (math.cos(middle), math.sin(middle)), abs=1e-5
    )
    centre = [c[16:32, 20:40].mean() for c in (s, v)]
    assert [found["centre_saturation"], found["centre_value"]] == pytest.approx(centre, abs=1e-5)
    ratios = [found["centre_saturation_ratio"], found["centre_value_ratio"]]
    assert ratios == pytest.approx([centre[0] / s.mean(), centre[1] / v.mean()], abs=1e-4)
    assert found["warm"] == pytest.approx(((s > 0.2) & ((h < 1 / 6) | (h >= 5 / 6))).mean(), abs=1e-3)
    assert found["cool"] == pytest.approx(((s > 0.2) & (h >= 5 / 12) & (h <= 3 / 4)).mean(), abs=1e-3)
    crossings = [s[12:20, 15:25], s[12:20, 35:45], s[28:36, 15:25], s[28:36, 35:45]]
    assert found["thirds_saturation"] == pytest.approx(np.mean([c.mean() for c in crossings]), abs=1e-5)


def test_colourfulness_is_hasler_and_suesstrunk_s() -> None:
    rgb = textured(32, 32)
    r, g, b = (rgb[..., c].astype(float) for c in range(3))
    rg, yb = r - g, (r + g) / 2 - b
    expected = math.sqrt(rg.var() + yb.var()) + 0.3 * math.sqrt(rg.mean() ** 2 + yb.mean() ** 2)
    assert named(rgb)["colourfulness"] == pytest.approx(expected, rel=1e-5)
    assert named(np.full((8, 8, 3), 40, np.uint8))["colourfulness"] == 0


def test_wavelet_numbers() -> None:
    rgb = textured(48, 64, 6)
    channels = dict(zip("hsv", np.moveaxis(hsv(rgb), 2, 0), strict=True))

    def levels(channel: np.ndarray) -> list[np.ndarray]:
        found = []
        pair = np.array([[1, 1], [1, -1]]) / math.sqrt(2)
        for _ in range(3):
            blocks = channel.reshape(channel.shape[0] // 2, 2, -1, 2).transpose(0, 2, 1, 3)
            bands = pair @ blocks @ pair.T
            found.append((abs(bands[..., 0, 1]) + abs(bands[..., 1, 0]) + abs(bands[..., 1, 1])) / 3)
            channel = bands[..., 0, 0]
        return found

    found, details = named(rgb), {k: levels(c) for k, c in channels.items()}
    assert [found[f"haar_value_{i}"] for i in (1, 2, 3)] == pytest.approx([d.mean() for d in details["v"]], abs=1e-5)
    assert found["haar_hue"] == pytest.approx(sum(d.mean() for d in details["h"]), abs=1e-3)
    assert found["haar_saturation"] == pytest.approx(sum(d.mean() for d in details["s"]), abs=1e-5)
    for name, key in (("hue", "h"), ("saturation", "s"), ("value", "v")):
        coarse = details[key][2]  # 6 x 8
        expected = coarse[1:5, 2:6].sum() / coarse.sum()
        assert found[f"depth_of_field_{name}"] == pytest.approx(expected, abs=1e-3)


def test_haar_keeps_the_energy() -> None:
    flat = haar(np.full((16, 16), 3.0, np.float32))
    assert [d.shape for d in flat] == [(8, 8), (4, 4), (2, 2)]
    assert not any(d.any() for d in flat)


def test_edge_numbers() -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is absent: the extra opencv is not installed")
    rgb = textured(50, 70, 7, noise=15)
    found, gray = named(rgb), luma(rgb)
    laplacian = cv2.Laplacian(gray, cv2.CV_64F)[1:-1, 1:-1]
    assert found["laplacian_variance"] == pytest.approx(laplacian.var(), rel=1e-4)
    gradient = np.hypot(*(g[1:-1, 1:-1] for g in np.gradient(gray)))
    assert found["edge_density"] == pytest.approx((gradient > 25.5).mean(), abs=1e-3)
    area = 1.0
    for axis in (0, 1):
        profile = abs(laplacian).sum(axis)
        left = right = 0
        share = profile / profile.sum()
        while share[: left + 1].sum() < (1 - math.sqrt(0.9)) / 2:
            left += 1
        while share[len(share) - 1 - right :].sum() <= (1 - math.sqrt(0.9)) / 2:
            right += 1
        area *= (len(share) - left - right) / len(share)
    assert found["edge_box_area"] == pytest.approx(area, abs=1e-4)


def test_a_small_sharp_thing_has_a_small_box() -> None:
    rgb = np.full((90, 90, 3), 128, np.uint8)
    rgb[40:50, 40:50] = textured(10, 10, 1, 40)
    assert named(rgb)["edge_box_area"] < 0.03
    assert named(np.full((90, 90, 3), 128, np.uint8))["edge_box_area"] == 1


def test_tone_numbers() -> None:
    scipy_stats = pytest.importorskip("scipy.stats", reason="SciPy is absent: the extra dev is not installed")
    rgb = textured(40, 44, 8)
    rgb[:4], rgb[4:6] = 0, 255
    found, gray = named(rgb), luma(rgb)
    levels = np.bincount(np.rint(gray).astype(int).ravel(), minlength=256)
    assert found["entropy"] == pytest.approx(scipy_stats.entropy(levels, base=2), abs=2e-2)
    assert found["rms_contrast"] == pytest.approx(gray.std() / 255, abs=1e-5)
    low, high = np.quantile(gray, (0.05, 0.95)) / 255
    assert found["percentile_range"] == pytest.approx(high - low, abs=1e-5)
    brightest = rgb.max(2) / 255
    assert found["under_exposed"] == pytest.approx((brightest < 0.05).mean(), abs=1e-6)
    assert found["over_exposed"] == pytest.approx((brightest > 0.95).mean(), abs=1e-6)
    assert found["symmetry"] == pytest.approx(1 - abs(gray - gray[:, ::-1]).mean() / 255, abs=1e-5)
    mirrored = np.concatenate([rgb, rgb[:, ::-1]], 1)
    assert named(mirrored)["symmetry"] == pytest.approx(1)


def test_texture_numbers() -> None:
    rgb = textured(43, 50, 9)
    gray = luma(rgb) / 255
    deviations = [gray[y : y + 8, x : x + 8].std() for y in range(0, 40, 8) for x in range(0, 48, 8)]
    shares = np.histogram(deviations, 32, (0, 0.5))[0] / len(deviations)
    entropy = -sum(p * math.log2(p) for p in shares if p)
    found = named(rgb)
    expected = (np.mean(deviations), np.std(deviations), entropy)
    assert tuple(found[f"texture_{k}"] for k in ("mean", "std", "entropy")) == pytest.approx(expected, abs=1e-4)


def test_large_pictures_are_averaged_over_whole_squares() -> None:
    rgb = textured(520, 770)
    assert shrunk(rgb).shape == (260, 385, 3)
    box = np.asarray(Image.fromarray(rgb).reduce(2)).astype(float)
    assert abs(shrunk(rgb) - box).max() <= 0.51
    found = named(rgb)
    assert found["aspect_ratio"] == pytest.approx(770 / 520)
    assert found["log_pixels"] == pytest.approx(math.log(520 * 770), abs=1e-5)
