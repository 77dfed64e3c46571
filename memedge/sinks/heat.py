"""Attention as heat maps: laid over the part of a picture that the network saw, in jet colours, cold parts clear.

A network may look several times at a picture: over the picture lies the mean of its maps, each stretched to 0..1, and
above it stand small copies of the picture with one map each, in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memedge_engines.errors import PreprocessError
from memedge_engines.manifest import Preprocess
from memedge_engines.preprocess.geometry import geometry

if TYPE_CHECKING:
    from PIL.Image import Image

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom not included."""

MOST_STEPS = 8
_STRONGEST = 0.62  # how much of the colour the hottest place has
_LARGEST_MAP = 256
_LEAST_SPAN = 1e-9
_SMALLEST_PICTURE = 400  # narrower ones have no room for a copy of each step
_COPIES = 0.3  # share of the width that all copies take at most, each an eighth at most
_FRAME = (255, 255, 255)


def region(contract: Preprocess | None, width: int, height: int) -> Box:
    """What part of a displayed picture the network saw under a contract; all of it where that is not known."""
    if contract is None:
        return 0, 0, width, height
    try:
        seen = geometry(contract, width, height)
    except PreprocessError:
        return 0, 0, width, height
    across, down = width / seen.resized_w, height / seen.resized_h
    left, top = round(seen.left * across), round(seen.top * down)
    right, bottom = round((seen.left + seen.out_w) * across), round((seen.top + seen.out_h) * down)
    return left, top, min(width, max(right, left + 1)), min(height, max(bottom, top + 1))


def step_maps(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maps ``[..., h, w]`` as ``[N, h, w]``, N at most 8, each stretched to 0..1; a flat one, or one that is not
    finite, is 0."""
    if values.ndim < 2 or not values.size:
        return np.zeros((0, 1, 1), np.float32)
    maps = np.array(values, np.float32).reshape(-1, *values.shape[-2:])[-MOST_STEPS:]
    maps[~np.isfinite(maps).all((1, 2))] = 0
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    span = high - low
    stretched: NDArray[np.float32] = np.where(span > _LEAST_SPAN, (maps - low) / np.maximum(span, _LEAST_SPAN), 0)
    return stretched.astype(np.float32)


class HeatMap:
    """One attention value, ready to be laid over pictures of a size; what was drawn last is kept.

    Args:
        values: ``[..., h, w]``, any number of maps.
        contract: how the picture was made that the network saw.
    """

    def __init__(self, values: NDArray[np.float32], contract: Preprocess | None) -> None:
        self._maps = step_maps(values)
        # Steps that look at different places leave a pale mean: it is stretched again.
        self._mean = step_maps(self._maps.mean(0)) if len(self._maps) else self._maps
        self._contract = contract
        self._layers: dict[tuple[int, tuple[int, int]], tuple[Image, Image]] = {}

    def draw(self, canvas: NDArray[np.uint8], size: tuple[int, int], box: Box | None = None) -> None:
        """Lay the maps over a picture, in place.

        Args:
            canvas: RGB uint8 ``[H, W, 3]``.
            size: width and height of the picture as it was displayed to the network.
            box: where the picture lies on the canvas; none: it fills it.
        """
        if not len(self._maps):
            return
        left, top, right, bottom = box or (0, 0, canvas.shape[1], canvas.shape[0])
        wide, tall = (right - left) / size[0], (bottom - top) / size[1]
        seen = region(self._contract, *size)
        across = [left + round(edge * wide) for edge in seen[::2]]
        down = [top + round(edge * tall) for edge in seen[1::2]]
        part = canvas[down[0] : down[1], across[0] : across[1]]
        if not part.size:
            return
        copies = self._copies(part, canvas.shape[1]) if len(self._maps) > 1 else []
        self._lay(part, -1)
        margin = max(2, canvas.shape[1] // 80)
        edge = right - margin
        for copy in reversed(copies):
            height, width = copy.shape[:2]
            if edge - width < left or top + margin + height > bottom:
                break
            canvas[top + margin : top + margin + height, edge - width : edge] = copy
            edge -= width + margin // 2

    def _lay(self, part: NDArray[np.uint8], step: int) -> None:
        """Map ``step`` (-1: the mean of all) over the whole of ``part``, in place."""
        from PIL import Image

        key = step, (part.shape[1], part.shape[0])
        if key not in self._layers:
            if len(self._layers) > 2 * MOST_STEPS:
                self._layers.clear()
            self._layers[key] = _layer(self._mean[0] if step < 0 else self._maps[step], key[1])
        color, mask = self._layers[key]
        base = Image.fromarray(np.ascontiguousarray(part))
        base.paste(color, mask=mask)
        part[:] = np.asarray(base)

    def _copies(self, part: NDArray[np.uint8], width: int) -> list[NDArray[np.uint8]]:
        """Small framed copies of the picture, one for each step."""
        from PIL import Image

        if width < _SMALLEST_PICTURE:
            return []
        wide = round(width * min(0.125, _COPIES / len(self._maps)))
        tall = max(2, round(wide * part.shape[0] / part.shape[1]))
        small = Image.fromarray(np.ascontiguousarray(part)).resize((wide, tall), Image.Resampling.BOX)
        found = []
        for step in range(len(self._maps)):
            copy = np.array(small)
            self._lay(copy, step)
            copy[[0, -1]] = _FRAME
            copy[:, [0, -1]] = _FRAME
            found.append(copy)
        return found


def _layer(values: NDArray[np.float32], size: tuple[int, int]) -> tuple[Image, Image]:
    """Colour and mask of one map of 0..1, enlarged to ``size`` (width, height)."""
    from PIL import Image

    shrink = min(1.0, _LARGEST_MAP / max(size))
    between = max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink))
    smooth = np.asarray(Image.fromarray(values).resize(between, Image.Resampling.BICUBIC)).clip(0, 1)
    heat = np.rint(jet(smooth) * 255).astype(np.uint8)
    mask = np.rint(smooth * (_STRONGEST * 255)).astype(np.uint8)
    color, cover = Image.fromarray(heat), Image.fromarray(mask)
    if between == size:
        return color, cover
    return color.resize(size, Image.Resampling.BILINEAR), cover.resize(size, Image.Resampling.BILINEAR)


def jet(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """0..1 to red, green and blue, ``[..., 3]`` of 0..1: cold is dark blue, the middle green, hot dark red."""
    centers = np.array([3, 2, 1], np.float32)
    colors: NDArray[np.float32] = (1.5 - np.abs(4 * values[..., None] - centers)).clip(0, 1).astype(np.float32)
    return colors
