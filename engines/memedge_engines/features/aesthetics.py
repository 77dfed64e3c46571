"""``aes-lite``: 40 aesthetic numbers of a picture, ours, after Datta et al. and Ke et al. (2006), Haas et al. (2015).

The 109 values of MediaEval 2018's files cannot be computed: their list was never published, and a head trained on
those files takes no other input. Here the picture is averaged over squares of k x k pixels, k = short side // 256, so
that the work does not grow with the camera; H, S and V are those of the small picture, hue as a part of the circle.
The names stand in :data:`NAMES`, in the order of the output.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..extractors import Values
from ..manifest import Node
from .aesthetics_shape import depth_of_field, edges, haar, local_texture
from .colors import Floats, hsv
from .declared import feature, output, picture

NAMES = (
    "hue_cos", "hue_sin", "hue_resultant",
    "saturation_mean", "saturation_std", "value_mean", "value_std",
    "colourfulness", "hue_count", "dominant_hue_cos", "dominant_hue_sin",
    "centre_saturation", "centre_value", "centre_saturation_ratio", "centre_value_ratio",
    "haar_value_1", "haar_value_2", "haar_value_3", "haar_hue", "haar_saturation",
    "depth_of_field_hue", "depth_of_field_saturation", "depth_of_field_value",
    "laplacian_variance", "edge_density", "edge_box_area",
    "entropy", "rms_contrast", "percentile_range", "under_exposed", "over_exposed",
    "symmetry", "aspect_ratio", "warm", "cool",
    "texture_mean", "texture_std", "texture_entropy", "thirds_saturation", "log_pixels",
)  # fmt: skip
_SHORT_SIDE = 256
_HUE_BINS = 20
_GRAY = np.array([0.299, 0.587, 0.114], np.float32)


def shrunk(rgb: NDArray[np.uint8]) -> Floats:
    """Means over squares of k x k pixels, k = short side // 256 (at least 1), float32 levels; rests are cut off."""
    factor = max(1, min(rgb.shape[:2]) // _SHORT_SIDE)
    height, width = (side // factor for side in rgb.shape[:2])
    cut = rgb[: height * factor, : width * factor]
    if factor == 1:
        return cut.astype(np.float32)
    rows = cut.reshape(height, factor, -1).sum(1, dtype=np.uint32)
    sums = rows.reshape(height, width, factor, 3).sum(2, dtype=np.uint32)
    means: Floats = (sums / np.float32(factor * factor)).astype(np.float32)
    return means


def aes_lite_vector(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The 40 numbers of an RGB picture, float32, all finite for a picture of any size."""
    small = shrunk(rgb)
    hue, saturation, value = hsv(small)
    value = value / 255.0
    gray = small @ _GRAY
    found = [
        *_hue_mean(hue, saturation),
        *(float(f(channel)) for channel in (saturation, value) for f in (np.mean, np.std)),
        _colourfulness(small),
        *_hue_bins(hue, saturation, value),
        *_centre(saturation, value),
        *_wavelets(hue, saturation, value),
        *edges(gray),
        *_tones(gray, value),
        1.0 - float(np.abs(gray - gray[:, ::-1]).mean()) / 255.0,
        rgb.shape[1] / rgb.shape[0],
        *_temperature(hue, saturation),
        *local_texture(gray / 255.0),
        _thirds(saturation),
        math.log(rgb.shape[0] * rgb.shape[1]),
    ]
    return np.array(found, np.float32)


def _hue_mean(hue: Floats, saturation: Floats) -> tuple[float, float, float]:
    """Cosine and sine of the mean hue, each pixel weighted with its saturation, and the resultant's length 0..1."""
    angle = hue * np.float32(2 * math.pi)
    x, y = float((np.cos(angle) * saturation).sum()), float((np.sin(angle) * saturation).sum())
    length, weight = math.hypot(x, y), float(saturation.sum())
    if weight <= 0 or length < 1e-6 * weight:
        return 0.0, 0.0, 0.0
    return x / length, y / length, min(1.0, length / weight)


def _colourfulness(rgb: Floats) -> float:
    """Hasler and Suesstrunk (2003), in levels."""
    red_green = rgb[..., 0] - rgb[..., 1]
    yellow_blue = 0.5 * (rgb[..., 0] + rgb[..., 1]) - rgb[..., 2]
    spread = math.hypot(float(red_green.std()), float(yellow_blue.std()))
    return spread + 0.3 * math.hypot(float(red_green.mean()), float(yellow_blue.mean()))


def _hue_bins(hue: Floats, saturation: Floats, value: Floats) -> tuple[float, float, float]:
    """Ke's hue count: bins of 18 degrees with over 5 % of the fullest; cosine and sine of the fullest one's middle.

    Counted are pixels with saturation above 0.2 and value in 0.15..0.95; without any, all three are 0.
    """
    counted = (saturation > 0.2) & (value >= 0.15) & (value <= 0.95)
    bins = np.bincount((hue[counted] * _HUE_BINS).astype(np.int64), minlength=_HUE_BINS)
    if not bins.any():
        return 0.0, 0.0, 0.0
    angle = 2 * math.pi * (int(bins.argmax()) + 0.5) / _HUE_BINS
    return float((bins > 0.05 * bins.max()).sum()), math.cos(angle), math.sin(angle)


def _middle(side: int) -> slice:
    """The central third of a side, one pixel at least."""
    begin = side // 3
    return slice(begin, max(begin + 1, side - begin))


def _centre(saturation: Floats, value: Floats) -> tuple[float, ...]:
    """Mean saturation and value of the central third of both sides, and their ratios to the whole's means."""
    cut = (_middle(saturation.shape[0]), _middle(saturation.shape[1]))
    means = [float(channel[cut].mean()) for channel in (saturation, value)]
    ratios = [m / max(float(c.mean()), 1e-6) for m, c in zip(means, (saturation, value), strict=True)]
    return (*means, *ratios)


def _wavelets(hue: Floats, saturation: Floats, value: Floats) -> tuple[float, ...]:
    """Haar energies of V at levels 1 to 3, totals of H and S, and the depth-of-field cue of H, S and V."""
    details = [haar(channel) for channel in (hue, saturation, value)]
    energies = [[float(np.mean(d)) if d.size else 0.0 for d in levels] for levels in details]
    cues = [depth_of_field(levels[-1]) for levels in details]
    return (*energies[2], sum(energies[0]), sum(energies[1]), *cues)


def _tones(gray: Floats, value: Floats) -> tuple[float, ...]:
    """Entropy of grey in bits, RMS contrast, 5th to 95th percentile (both of 0..1), parts with V below 0.05 and above
    0.95."""
    bins = np.bincount(np.minimum(np.rint(gray), 255).astype(np.int64).ravel(), minlength=256) / gray.size
    entropy = -float((bins[bins > 0] * np.log2(bins[bins > 0])).sum())
    low, high = np.percentile(gray, (5, 95)) / 255.0
    exposed = float((value < 0.05).mean()), float((value > 0.95).mean())
    return (abs(entropy), float(gray.std()) / 255.0, float(high - low), *exposed)


def _temperature(hue: Floats, saturation: Floats) -> tuple[float, float]:
    """Parts of the picture that are warm (hue 300 to 60 degrees) and cool (150 to 270), at saturation above 0.2."""
    coloured = saturation > 0.2
    warm = coloured & ((hue < 1 / 6) | (hue >= 5 / 6))
    cool = coloured & (hue >= 5 / 12) & (hue <= 3 / 4)
    return float(warm.mean()), float(cool.mean())


def _thirds(saturation: Floats) -> float:
    """Mean saturation around the four crossings of the thirds: rectangles of a sixth of each side."""
    height, width = saturation.shape
    bands = [
        [slice(side * p // 12, max(side * p // 12 + 1, side * (p + 2) // 12)) for p in (3, 7)]
        for side in (height, width)
    ]
    return float(np.mean([saturation[rows, columns].mean() for rows in bands[0] for columns in bands[1]]))


@feature("aes-lite", len(NAMES))
def aes_lite(values: Values, node: Node) -> dict[str, NDArray[np.float32]]:
    """An RGB picture of native size to its 40 numbers."""
    return output(node, aes_lite_vector(picture(values, node, 3)))
