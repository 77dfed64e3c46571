"""Colour histograms: 256 bins for each of three channels, each divided by the number of pixels; 768 numbers.

``colorhist-rgb`` follows MediaEval 2018's files, which hold counts: divided by the pixels here, so that pictures of any
size compare. The files' red and blue are swapped: option ``swap`` gives their order. ``colorhist-hsv``: hue (256 bins
around the circle), saturation and value, in OpenCV's full-range 8-bit form.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..extractors import Values
from ..manifest import Node
from .colors import hsv
from .declared import feature, output, picture

DIM = 768
_STRIP = 64
"""Rows converted at a time: what they need stays in the processor's cache."""


def rgb_histogram(rgb: NDArray[np.uint8], swap: bool = False) -> NDArray[np.float32]:
    """float32 ``[768]``: red, green, blue; blue, green, red where ``swap``."""
    order = (2, 1, 0) if swap else (0, 1, 2)
    counts = [np.bincount(rgb[..., c].ravel(), minlength=256) for c in order]
    return _parts(np.concatenate(counts), rgb)


def hsv_histogram(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 ``[768]``: hue, saturation, value."""
    counts = np.zeros((3, 256), np.int64)
    for top in range(0, rgb.shape[0], _STRIP):
        hue, saturation, value = hsv(rgb[top : top + _STRIP])
        levels: tuple[NDArray[Any], ...] = (np.rint(hue * 256).astype(np.int64) % 256, np.rint(saturation * 255), value)
        for row, level in zip(counts, levels, strict=True):
            row += np.bincount(level.astype(np.int64).ravel(), minlength=256)
    return _parts(counts.reshape(-1), rgb)


def _parts(counts: NDArray[np.int64], rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    parts: NDArray[np.float32] = (counts / (rgb.shape[0] * rgb.shape[1])).astype(np.float32)
    return parts


@feature("colorhist-rgb", DIM)
def colorhist_rgb(values: Values, node: Node) -> dict[str, NDArray[np.float32]]:
    """An RGB picture to its histograms; option ``swap``: blue first, as in the files."""
    return output(node, rgb_histogram(picture(values, node, 3), bool(node.options.get("swap", False))))


@feature("colorhist-hsv", DIM)
def colorhist_hsv(values: Values, node: Node) -> dict[str, NDArray[np.float32]]:
    """An RGB picture to its histograms of hue, saturation and value."""
    return output(node, hsv_histogram(picture(values, node, 3)))
