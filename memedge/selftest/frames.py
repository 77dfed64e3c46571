"""Pictures in all formats, and the contract that tests compare levels with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from memedge_engines.bundle import Bundle
from memedge_engines.frame import ChromaSiting, ColorMatrix, ColorRange, Frame, PixelFormat, plane_shapes
from memedge_engines.manifest import Preprocess
from memedge_engines.preprocess import reference_picture

from .report import Failed, Skipped

_SIZES = ((431, 321), (320, 240))
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


class Pictures:
    """All formats beside what the float reference makes of them by one contract; made once, when first wanted."""

    def __init__(self, contract: Preprocess) -> None:
        self.contract = contract
        self._made: list[tuple[str, Frame, NDArray[np.float32]]] = []

    def compare(self, picture: Callable[[Frame], NDArray[Any]]) -> str:
        """What was found of the pictures that ``picture`` makes, ``[h, w, C]`` in levels.

        Raises:
            Failed: one differs by more than the tolerance.
        """
        if not self._made:
            self._made = [(told, one, reference_picture(one, self.contract)) for told, one in all_formats()]
        found = []
        for told, frame, wanted in self._made:
            apart = np.abs(picture(frame).astype(np.float32) - wanted)
            largest = float(apart.max())
            # What is not a number is worse than any number.
            found.append((largest if np.isfinite(largest) else np.inf, told, float(apart.mean())))
        largest, where, _ = max(found)
        text = (
            f"{len(found)} pictures in {len(PixelFormat)} formats differ from the float reference by at most "
            f"{largest:.3g} levels ({where}), {sum(mean for *_, mean in found) / len(found):.3g} on average"
        )
        if largest > TOLERANCE_LEVELS:
            raise Failed(f"{text}; at most {TOLERANCE_LEVELS:g} was expected", fix="report it with these lines")
        return text
