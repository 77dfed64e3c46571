"""Seeded picture generator: rendered pictures with the variety of photographs, for everything that needs some.

Golden frames, batch-norm statistics of untrained networks, synthetic calibration and the tests draw from it, so the
pictures differ widely in brightness, contrast, colour and detail. Ten kinds of scenes take turns.

Determinism: every choice comes from Python's ``random.Random`` (its ``random`` and ``randbytes`` are stable across
versions and machines) and every pixel from integer arithmetic, Pillow's fixed-point resampling, its box-based blur and
its integer drawing. One Pillow version gives the same bytes on every machine; another version may move single pixels.
Picture ``i`` depends on ``seed``, ``i`` and ``size`` alone, not on how many are asked for.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

Color = tuple[int, int, int]


def generate(count: int, seed: int = 0, size: tuple[int, int] = (320, 240)) -> Iterator[NDArray[np.uint8]]:
    """``count`` pictures, RGB uint8 ``[height, width, 3]``; ``size`` is (width, height), each at least 16.

    Raises:
        UsageError: a negative count or a size below 16 x 16.
    """
    if count < 0 or min(size) < 16:
        raise UsageError(f"{count} pictures of {size[0]}x{size[1]}; expected 0 or more, of at least 16x16 pixels")
    return (picture(index, seed, size) for index in range(count))


def picture(index: int, seed: int = 0, size: tuple[int, int] = (320, 240)) -> NDArray[np.uint8]:
    """Picture number ``index`` of the series ``seed``: RGB uint8 ``[height, width, 3]``."""
    from .pictures_scenes import clouds, foliage, landscape, night, texture
    from .pictures_things import crowd, figure, objects, room, text

    scenes = (landscape, night, objects, texture, crowd, text, clouds, figure, room, foliage)
    order = list(range(len(scenes)))
    turn = Dice(f"memedge-order:{seed}:{index // len(scenes)}")
    for last in range(len(order) - 1, 0, -1):
        other = turn.upto(0, last)
        order[last], order[other] = order[other], order[last]
    dice = Dice(f"memedge-picture:{seed}:{index}")
    scene = scenes[order[index % len(scenes)]]
    return _finish(dice, scene(dice, size[0], size[1]))


class Dice:
    """Random choices as integers, the same on every machine."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def upto(self, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``, both included."""
        return low + int(self._random.random() * (high - low + 1))

    def chance(self, percent: int) -> bool:
        """True in ``percent`` of 100 throws."""
        return self.upto(0, 99) < percent

    def color(self, saturation: tuple[int, int] = (60, 255), value: tuple[int, int] = (40, 255)) -> Color:
        """A colour of any hue; saturation and value 0..255 within the bounds."""
        return hsv(self.upto(0, 1535), self.upto(*saturation), self.upto(*value))

    def noise_bytes(self, rows: int, columns: int) -> NDArray[np.uint8]:
        """White noise, uint8 ``[rows, columns]``."""
        return np.frombuffer(self._random.randbytes(rows * columns), np.uint8).reshape(rows, columns)


def hsv(hue: int, saturation: int, value: int) -> Color:
    """Integer HSV to RGB: hue 0..1535, saturation and value 0..255."""
    sector, part = divmod(hue % 1536, 256)
    low = value * (255 - saturation) // 255
    rise = low + (value - low) * part // 255
    fall = value - (value - low) * part // 255
    table = [
        (value, rise, low),
        (fall, value, low),
        (low, value, rise),
        (low, fall, value),
        (rise, low, value),
        (value, low, fall),
    ]
    return table[sector]


def mix(first: Color, second: Color, part: int) -> Color:
    """``part`` of 255 of the second colour, the rest of the first."""
    r, g, b = ((a * (255 - part) + c * part) // 255 for a, c in zip(first, second, strict=True))
    return r, g, b


def gradient(stops: list[Color]) -> NDArray[np.uint8]:
    """A colour table, uint8 ``[256, 3]``, through evenly spaced stops."""
    colors = np.asarray([*stops, stops[-1]], np.int32)
    span, part = np.divmod(np.arange(256, dtype=np.int32) * (len(stops) - 1), 255)
    table: NDArray[np.int32] = (colors[span] * (255 - part[:, None]) + colors[span + 1] * part[:, None]) // 255
    return table.astype(np.uint8)


def noise(dice: Dice, width: int, height: int, *, cells: tuple[int, int] = (3, 2), fall: int = 50) -> NDArray[np.uint8]:
    """Smooth noise, uint8 ``[height, width]`` over the whole range: octaves from ``cells`` up to the pixel size.

    ``fall``: amplitude of an octave in percent of the one before; 50 is close to the 1/f of natural pictures, higher is
    rougher.
    """
    from PIL import Image

    total = np.zeros((height, width), np.int32)
    columns, rows = cells
    weight = 1024
    while weight >= 8:
        grid = Image.fromarray(np.ascontiguousarray(dice.noise_bytes(min(rows, height), min(columns, width))))
        # Bilinear for the fine octaves: nobody sees the difference there, and it is twice as fast.
        smooth = Image.Resampling.BICUBIC if columns < 32 else Image.Resampling.BILINEAR
        total += np.asarray(grid.resize((width, height), smooth), np.int32) * weight
        if columns >= width and rows >= height:
            break
        columns, rows, weight = columns * 2, rows * 2, weight * fall // 100
    low, high = int(total.min()), int(total.max())
    return ((total - low) * 255 // max(high - low, 1)).astype(np.uint8)


def curve(dice: Dice, length: int, *, cells: int = 3, fall: int = 50) -> NDArray[np.int32]:
    """A rough line, int32 ``[length]`` in 0..255: ridges, skylines, shores."""
    row: NDArray[np.uint8] = noise(dice, length, 1, cells=(cells, 1), fall=fall)[0]
    return row.astype(np.int32)


def blend(under: NDArray[np.uint8], over: NDArray[np.uint8] | Color, alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``over`` (a picture or a colour) on ``under`` by ``alpha``, uint8 ``[height, width]``."""
    a = alpha.astype(np.uint16)[..., None]
    top = np.asarray(over, np.uint16)
    return ((under.astype(np.uint16) * (255 - a) + top * a + 127) // 255).astype(np.uint8)


def _finish(dice: Dice, scene: Image.Image) -> NDArray[np.uint8]:
    """The camera: focus, exposure, contrast, colour cast, vignette, sensor noise; different for each picture."""
    from PIL import Image, ImageFilter

    width, height = scene.size
    soft = dice.upto(0, 99)
    if soft < 12:
        scene = scene.filter(ImageFilter.GaussianBlur(width * dice.upto(4, 14) / 1000))
    elif soft < 70:
        scene = scene.filter(ImageFilter.BoxBlur(dice.upto(3, 7) / 10))
    # Exposure, contrast and cast in one table per channel: integers only. `knee` bends the middle up or down.
    contrast = dice.upto(22, 62) if dice.chance(25) else dice.upto(75, 130)
    pivot = dice.upto(60, 190) if contrast < 65 else 128
    lift = dice.upto(-28, 28)
    knee = dice.upto(-60, 60)
    gray = dice.upto(0, 99)
    levels = np.arange(256)
    bent = levels + knee * levels * (255 - levels) // (255 * 64)
    tables = []
    for _ in range(3):
        cast = dice.upto(-9, 9)
        tables.append(np.clip((bent - 128) * contrast // 100 + pivot + lift + cast, 0, 255))
    if gray < 8:
        scene = scene.convert("L").convert("RGB")
        tables = [tables[1]] * 3
    elif gray < 22:  # washed-out colour
        scene = Image.blend(scene, scene.convert("L").convert("RGB"), dice.upto(40, 80) / 100)
    pixels = np.asarray(scene.point([int(v) for table in tables for v in table]), np.int16)
    if dice.chance(45):
        dark = np.asarray(Image.radial_gradient("L").resize((width, height)), np.int16)
        depth = dice.upto(20, 90)
        pixels = pixels * (255 * 100 - np.clip(dark - 60, 0, 255) * depth)[..., None].astype(np.int32) // (255 * 100)
    if dice.chance(70):
        # The sum of two uniform bytes is a triangle: close enough to a sensor's noise; the same on the three channels.
        strength = dice.upto(1, 12) if dice.chance(80) else dice.upto(20, 45)
        grain = dice.noise_bytes(height, width).astype(np.int16) + dice.noise_bytes(height, width) - 255
        pixels = pixels + (grain * strength // 255)[..., None]
    return np.clip(pixels, 0, 255).astype(np.uint8)
