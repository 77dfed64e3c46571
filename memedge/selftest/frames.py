"""Pictures in all formats, and the contract that tests compare levels with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from memedge_engines.bundle import Bundle
from memedge_engines.frame import ChromaSiting, ColorMatrix, ColorRange, Frame, PixelFormat, plane_shapes
from memedge_engines.manifest import Preprocess
from memedge_engines.preprocess import reference_picture

from .report import Failed, Skipped

_SIZES = ((641, 479), (320, 240))
TOLERANCE_LEVELS = 1.01
"""What every preprocessing path may differ from the float reference, in levels of 0..255: half a level of rounding in
each of two passes, and what the weights' own rounding adds."""


def generated(pixel_format: PixelFormat, width: int, height: int, **fields: Any) -> Frame:
    """A smooth picture with edges and noise; the same bytes every time."""
    noise = np.random.default_rng(width * height)
    planes = []
    for rows, columns in plane_shapes(pixel_format, width, height):
        y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
        levels = 120 + 70 * np.sin(x / 23) * np.cos(y / 17) + 40 * ((x // 31 + y // 29) % 2)
        planes.append(np.clip(levels + noise.normal(0, 6, levels.shape), 0, 255).astype(np.uint8))
    return Frame.from_planes(planes, pixel_format, width, height, **fields)


def all_formats() -> Iterator[tuple[str, Frame]]:
    """Every pixel format, upright and turned, with each colour matrix, range and siting at least once."""
    matrices, ranges, sitings = list(ColorMatrix), list(ColorRange), list(ChromaSiting)
    for number, pixel_format in enumerate(PixelFormat):
        for turn, (width, height) in enumerate(_SIZES):
            fields: dict[str, Any] = {"rotation": 90 * turn}
            if pixel_format.is_yuv:
                fields["matrix"] = matrices[(number + turn) % len(matrices)]
                fields["color_range"] = ranges[(number + turn) % len(ranges)]
                fields["siting"] = sitings[number % len(sitings)]
            told = f"{pixel_format.value} {width}x{height}" + (f" turned by {90 * turn}" if turn else "")
            yield told, generated(pixel_format, width, height, **fields)


def level_contract(bundle: Bundle) -> Preprocess:
    """The first preprocess contract of a bundle, with a tensor that holds the levels themselves.

    Raises:
        Skipped: no input of the bundle takes pictures one by one.
    """
    for node in bundle.manifest.nodes:
        for item in node.inputs:
            if item.preprocess is not None and item.preprocess.layout == "nchw":
                count = item.preprocess.channels
                plain = {"scale": 1.0, "mean": (0.0,) * count, "std": (1.0,) * count}
                return msgspec.structs.replace(item.preprocess, **plain)
    raise Skipped("no input of the bundle takes single pictures")


class Levels:
    """Largest and mean difference from the float reference over many pictures."""

    def __init__(self, contract: Preprocess) -> None:
        self._contract = contract
        self._largest, self._where = 0.0, ""
        self._means: list[float] = []

    def compare(self, told: str, frame: Frame, picture: NDArray[Any]) -> None:
        """One picture, ``[h, w, C]`` in levels."""
        apart = np.abs(picture.astype(np.float32) - reference_picture(frame, self._contract))
        largest = float(apart.max())
        if largest > self._largest or not np.isfinite(largest):
            self._largest, self._where = largest, told
        self._means.append(float(apart.mean()))

    def verdict(self) -> str:
        """What was found. Raises :class:`Failed` past the tolerance."""
        mean = sum(self._means) / max(1, len(self._means))
        text = (
            f"{len(self._means)} pictures in {len(PixelFormat)} formats differ from the float reference by at most "
            f"{self._largest:.3g} levels ({self._where}), {mean:.3g} on average"
        )
        if not self._largest <= TOLERANCE_LEVELS:
            raise Failed(f"{text}; at most {TOLERANCE_LEVELS:g} was expected", fix="report it with these lines")
        return text
