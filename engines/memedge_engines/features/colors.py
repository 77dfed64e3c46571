"""Hue, saturation, value and grey of RGB pictures, as the features take them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..preprocess.color import GRAY_FIXED_POINT

Floats = NDArray[np.float32]


def hsv(rgb: NDArray[np.uint8] | Floats) -> tuple[Floats, Floats, Floats]:
    """Hue in 0 <= h < 1, saturation 0..1, value in the levels of the input, each ``[H, W]``.

    Grey pixels have hue 0, black ones saturation 0.
    """
    red, green, blue = (rgb[..., c].astype(np.float32) for c in range(3))
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    tiny = np.float32(1e-12)
    saturation = spread / np.maximum(value, tiny)
    divisor = np.maximum(spread, tiny)
    sixths = np.where(
        value == red,
        (green - blue) / divisor,
        np.where(value == green, 2.0 + (blue - red) / divisor, 4.0 + (red - green) / divisor),
    )
    hue = np.where(spread > 0, sixths, 0.0) / np.float32(6.0)
    hue += hue < 0
    # A hue just below 0 rounds to 1, which is 0.
    hue[hue >= 1.0] = 0.0
    return hue.astype(np.float32), saturation.astype(np.float32), np.asarray(value, np.float32)


def gray(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey levels 0..255 ``[H, W]``, rounded, of the preprocess contract's weights (BT.601)."""
    red, green, blue = (rgb[..., c].astype(np.uint32) * weight for c, weight in enumerate(GRAY_FIXED_POINT))
    return ((red + green + blue + 0x8000) >> 16).astype(np.uint8)
