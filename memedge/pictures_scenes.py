"""Outdoor scenes and surfaces of the seeded picture generator; see ``pictures`` for what they are for.

A scene takes the dice and a size and paints an upright RGB picture of that size. Positions are fractions of the size,
so a scene looks the same at every size; only its fine noise does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .pictures import Color, Dice, blend, curve, gradient, hsv, mix, noise

if TYPE_CHECKING:
    from PIL import Image

Pixels = NDArray[np.uint8]

_SKIES: list[list[Color]] = [
    [(38, 92, 178), (110, 164, 222), (206, 226, 240)],  # noon
    [(34, 40, 92), (150, 84, 120), (244, 150, 84), (252, 214, 140)],  # dusk
    [(120, 128, 138), (164, 170, 176), (204, 206, 206)],  # overcast
    [(20, 30, 60), (58, 70, 110), (150, 120, 140)],  # before sunrise
    [(48, 54, 64), (84, 90, 98), (150, 148, 138)],  # storm
    [(90, 170, 200), (190, 220, 210), (250, 240, 200)],  # hazy morning
]
_GROUNDS: list[list[Color]] = [
    [(30, 58, 22), (84, 118, 44), (150, 160, 76)],  # meadow
    [(110, 82, 50), (186, 146, 94), (228, 200, 150)],  # sand
    [(160, 172, 190), (216, 224, 234), (250, 252, 255)],  # snow
    [(40, 34, 28), (92, 78, 62), (140, 124, 104)],  # rock
    [(60, 70, 20), (170, 150, 40), (220, 190, 90)],  # field in autumn
]


def pen_on(image: Image.Image) -> Any:
    """Pillow's drawing pen."""
    from PIL import ImageDraw

    return ImageDraw.Draw(image)


def image_of(pixels: Pixels) -> Image.Image:
    """A Pillow picture over (a copy of) the pixels."""
    from PIL import Image

    return Image.fromarray(pixels)


def vertical(stops: list[Color], width: int, height: int) -> Pixels:
    """A vertical gradient, uint8 ``[height, width, 3]``."""
    rows = gradient(stops)[np.arange(height) * 255 // max(height - 1, 1)]
    return np.ascontiguousarray(np.broadcast_to(rows[:, None], (height, width, 3)))


def glow(width: int, height: int, x: int, y: int, radius: int) -> Pixels:
    """A soft round light, uint8 ``[height, width]``: 255 at (x, y), 0 from ``radius`` pixels on."""
    dx = (np.arange(width, dtype=np.int64) - x) ** 2
    dy = (np.arange(height, dtype=np.int64) - y) ** 2
    fall = 255 - np.minimum((dx[None] + dy[:, None]) * 255 // max(radius * radius, 1), 255)
    squared: NDArray[np.int64] = fall * fall // 255
    return squared.astype(np.uint8)


def sky(dice: Dice, width: int, height: int) -> tuple[Pixels, list[Color]]:
    """A sky with sun and clouds, uint8 ``[height, width, 3]``, and its colours from the top down."""
    stops = _SKIES[dice.upto(0, len(_SKIES) - 1)]
    canvas = vertical(stops, width, height)
    if dice.chance(50):
        x, y, radius = dice.upto(0, width), dice.upto(0, height), width * dice.upto(12, 45) // 100
        tint = (255, dice.upto(215, 250), dice.upto(150, 230))
        canvas = blend(canvas, tint, glow(width, height, x, y, radius))
        disc = max(width * dice.upto(2, 5) // 100, 1)
        canvas = blend(
            canvas,
            (255, 252, 236),
            np.minimum(glow(width, height, x, y, disc).astype(np.uint16) * 6, 255).astype(np.uint8),
        )
    if dice.chance(80):
        cloud = noise(dice, width, height, cells=(dice.upto(2, 5), dice.upto(3, 8)), fall=dice.upto(48, 62)).astype(
            np.int32
        )
        cover = np.clip((cloud - dice.upto(60, 150)) * dice.upto(2, 4), 0, 235).astype(np.uint8)
        shade = gradient([mix(stops[-1], (70, 76, 90), 120), mix(stops[-1], (255, 255, 255), 170)])
        canvas = blend(canvas, shade[np.clip(cloud * 2 - 120, 0, 255)], cover)
    return canvas, stops


def _forest(dice: Dice, image: Image.Image, ground: int, tone: Color) -> None:
    """Trees along a line: firs or round crowns."""
    width, height = image.size
    pen = pen_on(image)
    firs = dice.chance(50)
    for _ in range(dice.upto(6, 26)):
        x, tall = dice.upto(0, width), height * dice.upto(5, 24) // 100 + 2
        base = ground + dice.upto(0, height // 14 + 1)
        shade = mix(tone, (10, 16, 12), dice.upto(60, 190))
        if firs:
            for part in range(3):
                top, low, half = (
                    base - tall * (3 - part) // 3,
                    base - tall * (2 - part) // 4,
                    tall * (part + 2) // 12 + 1,
                )
                pen.polygon([(x, top), (x - half, low), (x + half, low)], fill=shade)
        else:
            pen.rectangle([x - tall // 20, base - tall // 2, x + tall // 20, base], fill=(58, 42, 30))
            for _ in range(7):
                cx, cy, r = x + dice.upto(-tall // 4, tall // 4), base - tall + dice.upto(0, tall // 2), tall // 6 + 1
                pen.ellipse([cx - r, cy - r, cx + r, cy + r], fill=mix(shade, (190, 200, 90), dice.upto(0, 90)))


def landscape(dice: Dice, width: int, height: int) -> Image.Image:
    """Sky, mountains, and water with reflections or ground with trees."""
    canvas, stops = sky(dice, width, height)
    horizon = height * dice.upto(38, 70) // 100
    ground = _GROUNDS[dice.upto(0, len(_GROUNDS) - 1)]
    rows = np.arange(height)[:, None]
    layers = dice.upto(1, 4)
    rock = dice.color((20, 120), (50, 120))
    detail = noise(dice, width, height, cells=(6, 5), fall=70)
    for layer in range(layers):
        reach = height * dice.upto(12, 46) * (layers - layer) // (100 * layers)
        ridge = horizon - curve(dice, width, cells=dice.upto(2, 6), fall=dice.upto(40, 62)) * reach // 255
        haze = mix(rock, stops[-1], 200 * (layers - layer) // (layers + 1))
        body = gradient([mix(haze, (0, 0, 0), 90), haze, mix(haze, (255, 255, 255), 80)])[detail]
        canvas = np.where((rows >= ridge[None])[..., None], body, canvas)
    below = height - horizon
    if dice.chance(55):
        mirror = canvas[np.clip(2 * horizon - 1 - np.arange(horizon, height), 0, horizon - 1)]
        ripple = noise(dice, width, below, cells=(4, 24), fall=70).astype(np.int32) - 128
        shift = ripple * (np.arange(below)[:, None] + 4) * width // (below * 3000)
        mirror = np.take_along_axis(mirror, ((np.arange(width)[None] + shift) % width)[..., None], axis=1)
        deep = mix(stops[0], (10, 40, 60), 120)
        water = blend(mirror, deep, np.clip(ripple + 90, 20, 220).astype(np.uint8))
        canvas[horizon:] = water
        return image_of(canvas)
    soil = noise(dice, width, below, cells=(4, 12), fall=78)
    canvas[horizon:] = gradient(ground)[soil]
    depth = np.broadcast_to((np.arange(below) * 110 // max(below, 1)).astype(np.uint8)[::-1, None], (below, width))
    canvas[horizon:] = blend(canvas[horizon:], stops[-1], depth)
    image = image_of(canvas)
    if dice.chance(60):
        _forest(dice, image, horizon, ground[0])
    if dice.chance(40):  # a path to the horizon
        x, foot = dice.upto(width // 4, 3 * width // 4), dice.upto(0, width)
        wide = width * dice.upto(6, 18) // 100
        pen_on(image).polygon(
            [(x, horizon), (foot - wide, height), (foot + wide, height)], fill=mix(ground[2], (150, 140, 130), 150)
        )
    return image


def night(dice: Dice, width: int, height: int) -> Image.Image:
    """A city at night: lit windows, street lights out of focus, a wet street."""
    top = dice.color((80, 200), (8, 40))
    canvas = vertical([top, mix(top, dice.color((90, 220), (60, 140)), 150)], width, height)
    image = image_of(canvas)
    pen = pen_on(image)
    street = height * dice.upto(62, 88) // 100
    for _ in range(dice.upto(30, 120)):
        x, y = dice.upto(0, width - 1), dice.upto(0, street)
        pen.point((x, y), fill=(dice.upto(90, 255),) * 3)
    warm = [(255, 206, 120), (255, 236, 190), (190, 214, 255), (255, 160, 90)]
    x = -dice.upto(0, width // 10)
    while x < width:
        wide, tall = width * dice.upto(6, 18) // 100 + 3, street * dice.upto(18, 82) // 100
        wall = mix(top, (40, 42, 54), dice.upto(60, 220))
        pen.rectangle([x, street - tall, x + wide, street], fill=wall)
        step, lit = max(wide // dice.upto(3, 7), 3), dice.upto(15, 75)
        for wx in range(x + step // 3, x + wide - step // 3, step):
            for wy in range(street - tall + step, street - step, step + step // 3 + 1):
                if dice.chance(lit):
                    pen.rectangle(
                        [wx, wy, wx + step // 2, wy + step * 2 // 3],
                        fill=mix(warm[dice.upto(0, 3)], wall, dice.upto(0, 140)),
                    )
        x += wide + dice.upto(0, width // 20)
    canvas = np.array(image)
    mirror = canvas[np.clip(2 * street - np.arange(street, height), 0, height - 1)]
    canvas[street:] = blend(mirror, (12, 12, 16), np.full(mirror.shape[:2], dice.upto(90, 190), np.uint8))
    for _ in range(dice.upto(3, 14)):
        spot = dice.color((60, 230), (200, 255))
        radius = width * dice.upto(2, 9) // 100 + 2
        canvas = light(canvas, spot, dice.upto(0, width), dice.upto(height // 3, height), radius, dice.chance(50))
    return image_of(canvas)


def light(canvas: Pixels, color: Color, x: int, y: int, radius: int, disc: bool) -> Pixels:
    """A light of ``radius`` pixels, painted in place on the part that it covers: a soft glow or an even disc."""
    height, width, _ = canvas.shape
    x0, x1, y0, y1 = max(x - radius, 0), min(x + radius, width), max(y - radius, 0), min(y + radius, height)
    if x0 < x1 and y0 < y1:
        soft = glow(x1 - x0, y1 - y0, x - x0, y - y0, radius)
        alpha = np.minimum(soft.astype(np.uint16) * 9, 150).astype(np.uint8) if disc else soft
        canvas[y0:y1, x0:x1] = blend(canvas[y0:y1, x0:x1], color, alpha)
    return canvas


def texture(dice: Dice, width: int, height: int) -> Image.Image:
    """A surface that fills the picture: bricks, marble, wood, weave, pebbles or a chequered floor."""
    kind = dice.upto(0, 4)
    stops = [dice.color((20, 200), (20, 110)), dice.color((20, 200), (90, 190)), dice.color((10, 150), (150, 255))]
    grain = noise(dice, width, height, cells=(4, 4), fall=dice.upto(45, 92)).astype(np.int32)
    xs, ys = np.arange(width)[None], np.arange(height)[:, None]
    step = max(width * dice.upto(4, 16) // 100, 4)
    if kind == 0:  # bricks
        row = ys // step
        joint = (ys % step < max(step // 9, 1)) | ((xs + row % 2 * step) % (2 * step) < max(step // 9, 1))
        each = (row * 131 + (xs + row % 2 * step) // (2 * step) * 57) * 89 % 90
        level = np.where(joint, 235, each + 40 + grain // 3)
    elif kind == 1:  # marble and wood: a triangle wave bent by noise
        phase = xs * dice.upto(0, 3) + ys * dice.upto(0, 3) + grain * step // dice.upto(8, 60)
        level = np.abs(phase * 255 // step % 510 - 255) * 3 // 4 + grain // 4
    elif kind == 2:  # weave
        over = (xs // step + ys // step) % 2
        level = np.where(over == 1, xs % step, ys % step) * 170 // step + grain // 3
    elif kind == 3:  # chequered floor in perspective
        far = height // 4
        depth = step * height * 2 // (ys + far)
        tile = ((xs - width // 2) * depth // (width // 3 + 1) // 12 + depth // 8) % 2
        level = tile * 160 + grain // 3
    else:  # plain noise, from clouds to gravel
        level = grain
    return image_of(gradient(stops)[np.clip(level, 0, 255)])


def clouds(dice: Dice, width: int, height: int) -> Image.Image:
    """1/f noise in colour: three channels that share most of their structure."""
    fall = dice.upto(40, 78)
    cells = (dice.upto(2, 6), dice.upto(2, 6))
    shared = noise(dice, width, height, cells=cells, fall=fall).astype(np.int32)
    own = noise(dice, width, height, cells=cells, fall=fall).astype(np.int32) - 128
    share, weight = dice.color((0, 90), (200, 255)), [dice.upto(-60, 60) for _ in range(3)]
    channels = [shared * part // 255 + own * w // 100 for part, w in zip(share, weight, strict=True)]
    return image_of(np.clip(np.stack(channels, axis=-1), 0, 255).astype(np.uint8))


def foliage(dice: Dice, width: int, height: int) -> Image.Image:
    """Leaves, fruit and flowers that fill the picture."""
    hue = dice.upto(330, 620) if dice.chance(75) else dice.upto(60, 240)
    deep = hsv(hue, 180, dice.upto(15, 80))
    image = image_of(
        gradient([mix(deep, (0, 0, 0), 120), deep, mix(deep, (255, 255, 220), 70)])[noise(dice, width, height, fall=60)]
    )
    pen = pen_on(image)
    largest = dice.upto(5, 16)
    for layer in range(dice.upto(60, 170)):
        x, y, size = dice.upto(0, width), dice.upto(0, height), width * dice.upto(2, largest) // 100 + 2
        color = hsv(hue + dice.upto(-70, 70), dice.upto(90, 230), min(50 + layer + dice.upto(0, 60), 255))
        dx, dy = dice.upto(-size, size), dice.upto(-size, size)
        nx, ny = -dy // 3, dx // 3
        pen.polygon([(x - dx, y - dy), (x + nx, y + ny), (x + dx, y + dy), (x - nx, y - ny)], fill=color)
        pen.line([(x - dx, y - dy), (x + dx, y + dy)], fill=mix(color, (255, 255, 210), 80))
    petals = dice.color((120, 255), (180, 255))
    for _ in range(dice.upto(0, 9)):
        x, y, r = dice.upto(0, width), dice.upto(0, height), width * dice.upto(2, 8) // 100 + 1
        for dx, dy in ((0, -r), (r, -r // 3), (r * 2 // 3, r), (-r * 2 // 3, r), (-r, -r // 3)):
            pen.ellipse(
                [x + dx - r, y + dy - r, x + dx + r, y + dy + r], fill=mix(petals, (255, 255, 255), dice.upto(0, 90))
            )
        pen.ellipse([x - r // 2, y - r // 2, x + r // 2, y + r // 2], fill=(250, 200, 40))
    return image
