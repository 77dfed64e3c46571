"""M3-S's low-level numbers of one picture, our definitions: brightness, contrast and blurriness, in levels 0..255.

The released code takes the first row of an HSV picture for brightness (option ``legacy_row0`` does so, in OpenCV's
8-bit HSV) and its blurriness has no guard inside the logarithm; constants have to be computed with these extractors.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..extractors import Values
from ..manifest import Node
from ..preprocess.reference import bilinear_taps
from .colors import gray, hsv
from .declared import feature, output, picture

_WIDTH, _TALLEST = 500, 2000
_KEPT_OUT = 60
"""Half the side of the block around frequency 0 that blurriness leaves out."""


def brightness_of(rgb: NDArray[np.uint8], legacy_row0: bool = False) -> float:
    """Mean of HSV's value, 0..255; ``legacy_row0``: mean of hue (0..179), saturation and value of the first row."""
    if not legacy_row0:
        return float(rgb.max(2).mean())
    hue, saturation, value = hsv(rgb[:1])
    return float(np.mean([np.rint(hue * 180) % 180, np.rint(saturation * 255), value]))


def contrast_of(rgb: NDArray[np.uint8]) -> float:
    """Standard deviation of the grey levels."""
    return float(gray(rgb).std())


@lru_cache(4)
def _taps(source: int, target: int) -> NDArray[np.float64]:
    return bilinear_taps(source, target)


def blurriness_of(rgb: NDArray[np.uint8]) -> float:
    """Mean of 20 ln(magnitude + 1e-8) after a high-pass filter: the sharper a picture, the larger.

    Grey, resized bilinearly to a width of 500 (heights in proportion, at most 2000), 120x120 frequencies around 0 left
    out. The magnitudes of a flat picture are nothing but rounding errors: about 20 ln(1e-8) = -368.
    """
    levels = gray(rgb).astype(np.float64)
    height = min(_TALLEST, max(1, int(levels.shape[0] * _WIDTH / levels.shape[1])))
    sized = _taps(levels.shape[0], height) @ levels @ _taps(levels.shape[1], _WIDTH).T
    spectrum = np.fft.fft2(sized)
    # The block's rows and columns -60..59 around frequency 0, which lies in the corner of an unshifted spectrum.
    rows, columns = (np.arange(-_KEPT_OUT, _KEPT_OUT) % side for side in spectrum.shape)
    spectrum[np.ix_(rows, columns)] = 0.0
    magnitude = np.abs(np.fft.ifft2(spectrum))
    return float(np.mean(20.0 * np.log(magnitude + 1e-8)))


@feature("brightness", 1)
def brightness(values: Values, node: Node) -> dict[str, NDArray[np.float32]]:
    """An RGB picture to its brightness; option ``legacy_row0``."""
    row0 = bool(node.options.get("legacy_row0", False))
    return output(node, np.array([brightness_of(picture(values, node, 3), row0)]))


@feature("contrast", 1)
def contrast(values: Values, node: Node) -> dict[str, NDArray[np.float32]]:
    """An RGB picture to its contrast."""
    return output(node, np.array([contrast_of(picture(values, node, 3))]))


@feature("blurriness", 1)
def blurriness(values: Values, node: Node) -> dict[str, NDArray[np.float32]]:
    """An RGB picture to its blurriness."""
    return output(node, np.array([blurriness_of(picture(values, node, 3))]))
