"""Colour of the preprocess contract as data: matrix, range and chroma siting, shared by reference and fast paths.

R'G'B' = luma_gain * (Y - luma_offset) + chroma terms of (Cb - 128, Cr - 128). The gains follow from Kr and Kb of the
matrix (ITU-R BT.601, BT.709, BT.2020 non-constant luminance) and from the range; nothing is rounded.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..frame import ChromaSiting, ColorMatrix, ColorRange, PixelFormat

LUMA_WEIGHTS: dict[ColorMatrix, tuple[float, float]] = {
    ColorMatrix.BT601: (0.299, 0.114),
    ColorMatrix.BT709: (0.2126, 0.0722),
    ColorMatrix.BT2020: (0.2627, 0.0593),
}
"""(Kr, Kb) of each matrix; Kg = 1 - Kr - Kb."""

GRAY_FIXED_POINT: tuple[int, int, int] = (19595, 38470, 7471)
"""Grey of an RGB picture, round(.299 R + .587 G + .114 B), in the integers (times 65536) of Pillow's mode L. They add
up to 65536, so that a grey pixel keeps its level."""

ROUNDING = 0.5 + 1e-9
"""Added before truncation to 8 bit: halves go up, also where the order of operations leaves them just below a half."""


@dataclass(frozen=True)
class YuvGains:
    """Factors from Y, Cb - 128, Cr - 128 (levels of 0..255) to R, G, B levels.

    R = luma * (Y - offset) + red_cr * Cr;  G = luma * (Y - offset) + green_cb * Cb + green_cr * Cr;
    B = luma * (Y - offset) + blue_cb * Cb.
    """

    offset: float
    luma: float
    red_cr: float
    green_cb: float
    green_cr: float
    blue_cb: float


def gains(matrix: ColorMatrix, color_range: ColorRange) -> YuvGains:
    """The factors of a matrix and range."""
    kr, kb = LUMA_WEIGHTS[matrix]
    kg = 1.0 - kr - kb
    limited = color_range is ColorRange.LIMITED
    luma = 255.0 / 219.0 if limited else 1.0
    chroma = 255.0 / 224.0 if limited else 1.0
    return YuvGains(
        offset=16.0 if limited else 0.0,
        luma=luma,
        red_cr=2.0 * (1.0 - kr) * chroma,
        green_cb=-2.0 * (1.0 - kb) * kb / kg * chroma,
        green_cr=-2.0 * (1.0 - kr) * kr / kg * chroma,
        blue_cb=2.0 * (1.0 - kb) * chroma,
    )


def subsampling(pixel_format: PixelFormat) -> tuple[int, int]:
    """(horizontal, vertical) luma samples per chroma sample: 2x2, 2x1 or 1x1."""
    if pixel_format in (PixelFormat.I420, PixelFormat.NV12):
        return 2, 2
    if pixel_format in (PixelFormat.YUV422P, PixelFormat.YUYV422):
        return 2, 1
    return 1, 1


def siting_offset(siting: ChromaSiting) -> tuple[float, float]:
    """(x, y) of the first chroma sample in luma pixels, along a subsampled axis: 0 is co-sited, 0.5 between two."""
    if siting is ChromaSiting.LEFT:
        return 0.0, 0.5
    if siting is ChromaSiting.CENTER:
        return 0.5, 0.5
    return 0.0, 0.0
