"""Indoor scenes and things of the seeded picture generator; see ``pictures`` for what they are for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .pictures import Color, Dice, blend, gradient, hsv, mix, noise
from .pictures_scenes import Pixels, glow, image_of, light, pen_on, sky, vertical

if TYPE_CHECKING:
    from PIL import Image


def objects(dice: Dice, width: int, height: int) -> Image.Image:
    """Close-up: shaded balls, boxes and cups on a table, with shadows and a soft background."""
    table = height * dice.upto(45, 70) // 100
    wall, wood = dice.color((20, 200), (70, 240)), dice.color((40, 160), (80, 220))
    canvas = vertical([wall, mix(wall, (0, 0, 0), dice.upto(20, 120))], width, height)
    grain = noise(dice, width, height - table, cells=(2, 24), fall=66)
    canvas[table:] = gradient([mix(wood, (0, 0, 0), 90), wood, mix(wood, (255, 255, 255), 60)])[grain]
    if dice.chance(60):
        for _ in range(dice.upto(4, 12)):
            light(
                canvas,
                dice.color((40, 200), (150, 255)),
                dice.upto(0, width),
                dice.upto(0, table),
                width * dice.upto(4, 10) // 100,
                True,
            )
    for _ in range(dice.upto(1, 5)):
        radius = min(width, height) * dice.upto(9, 27) // 100
        x = dice.upto(radius // 2, width - radius // 2)
        base = dice.upto(table + radius // 4, height - 1)
        color = dice.color((90, 255), (110, 255))
        light(canvas, (8, 8, 10), x + radius // 3, base, radius * 3 // 2, True)
        if dice.chance(60):
            _ball(canvas, color, x, base - radius, radius)
        else:
            _box(dice, canvas, color, x, base, radius)
    return image_of(canvas)


def _ball(canvas: Pixels, color: Color, x: int, y: int, radius: int) -> None:
    height, width, _ = canvas.shape
    x0, x1, y0, y1 = max(x - radius, 0), min(x + radius, width), max(y - radius, 0), min(y + radius, height)
    if x0 >= x1 or y0 >= y1:
        return
    dx, dy = np.arange(x0, x1)[None] - x, np.arange(y0, y1)[:, None] - y
    inside = dx * dx + dy * dy <= radius * radius
    lx, ly = dx + radius // 3, dy + radius // 2
    lit = np.clip(255 - (lx * lx + ly * ly) * 150 // (radius * radius), 0, 255)
    body = gradient(
        [
            mix(color, (0, 0, 0), 225),
            mix(color, (0, 0, 0), 110),
            color,
            mix(color, (255, 255, 255), 110),
            (255, 255, 255),
        ]
    )
    part = canvas[y0:y1, x0:x1]
    part[inside] = body[lit][inside]


def _box(dice: Dice, canvas: Pixels, color: Color, x: int, base: int, radius: int) -> None:
    image = image_of(canvas)
    pen = pen_on(image)
    tall, slant = radius * dice.upto(80, 260) // 100, radius // 2
    front = [(x - radius, base - tall), (x + radius // 2, base - tall), (x + radius // 2, base), (x - radius, base)]
    pen.polygon(front, fill=color)
    pen.polygon(
        [front[1], (x + radius, base - tall - slant), (x + radius, base - slant), front[2]],
        fill=mix(color, (0, 0, 0), 120),
    )
    pen.polygon(
        [front[0], front[1], (x + radius, base - tall - slant), (x - radius // 2, base - tall - slant)],
        fill=mix(color, (255, 255, 255), 110),
    )
    if dice.chance(60):
        band = tall // 4
        pen.rectangle([x - radius, base - 3 * band, x + radius // 2, base - 2 * band], fill=dice.color())
    canvas[:] = np.asarray(image)


def crowd(dice: Dice, width: int, height: int) -> Image.Image:
    """Many shapes over each other."""
    image = image_of(vertical([dice.color((0, 255), (20, 255)), dice.color((0, 255), (20, 255))], width, height))
    pen = pen_on(image)
    hue, spread = dice.upto(0, 1535), dice.upto(100, 900)
    largest = dice.upto(6, 30)
    for _ in range(dice.upto(15, 150)):
        x, y = dice.upto(0, width), dice.upto(0, height)
        rx, ry = width * dice.upto(1, largest) // 100 + 1, height * dice.upto(1, largest) // 100 + 1
        color = hsv(hue + dice.upto(-spread, spread), dice.upto(60, 255), dice.upto(40, 255))
        kind = dice.upto(0, 3)
        if kind == 0:
            pen.ellipse([x - rx, y - ry, x + rx, y + ry], fill=color, outline=mix(color, (0, 0, 0), 130))
        elif kind == 1:
            pen.rectangle([x - rx, y - ry, x + rx, y + ry], fill=color)
        elif kind == 2:
            corners = [(x + dice.upto(-rx, rx), y + dice.upto(-ry, ry)) for _ in range(dice.upto(3, 6))]
            pen.polygon(corners, fill=color)
        else:
            pen.line(
                [(x - rx, y), (x + rx, y + dice.upto(-ry, ry))], fill=color, width=dice.upto(1, max(width // 60, 1))
            )
    return image


def text(dice: Dice, width: int, height: int) -> Image.Image:
    """A page, a sign or a screen: rows of strokes that look like writing, a title, a picture box."""
    dark = dice.chance(30)
    paper = dice.color((0, 70), (15, 60)) if dark else dice.color((0, 60), (205, 255))
    ink = dice.color((0, 120), (190, 255)) if dark else dice.color((0, 255), (0, 90))
    canvas = blend(
        vertical([paper, mix(paper, (128, 120, 110), 60)], width, height), (0, 0, 0), noise(dice, width, height) // 12
    )
    image = image_of(canvas)
    pen = pen_on(image)
    size = max(height * dice.upto(3, 12) // 100, 4)
    y, left = height * dice.upto(4, 12) // 100, width * dice.upto(4, 12) // 100
    if dice.chance(50):
        pen.rectangle([left, y, width - left, y + size * 2], fill=dice.color((120, 255), (90, 230)))
        y += size * 3
    while y + size < height * 95 // 100:
        if dice.chance(12) and y + size * 5 < height:
            pen.rectangle([left, y, left + width * dice.upto(20, 45) // 100, y + size * 4], fill=dice.color())
            y += size * 5
            continue
        x, stop = left, width * dice.upto(60, 96) // 100
        while x < stop:
            for _ in range(dice.upto(2, 9)):
                _letter(dice, pen, x, y, size, ink)
                x += size * 2 // 3
                if x >= stop:
                    break
            x += size // 2
        y += size * 8 // 5
    return image


def _letter(dice: Dice, pen: Any, x: int, y: int, size: int, ink: Color) -> None:
    wide, thick = size // 2, max(size // 7, 1)
    spots = [(x, y), (x + wide, y), (x, y + size // 2), (x + wide, y + size // 2), (x, y + size), (x + wide, y + size)]
    for _ in range(dice.upto(2, 3)):
        pen.line([spots[dice.upto(0, 5)], spots[dice.upto(0, 5)]], fill=ink, width=thick)
    if dice.chance(30):
        pen.arc([x, y, x + wide, y + size], dice.upto(0, 180), dice.upto(200, 360), fill=ink, width=thick)


def figure(dice: Dice, width: int, height: int) -> Image.Image:
    """Head and shoulders before a soft background."""
    base = dice.color((30, 200), (40, 220))
    back = gradient([mix(base, (0, 0, 0), 120), base, mix(base, (255, 255, 255), 120)])[
        noise(dice, width, height, fall=30)
    ]
    for _ in range(dice.upto(0, 8)):
        light(
            back,
            dice.color((30, 200), (150, 255)),
            dice.upto(0, width),
            dice.upto(0, height),
            width * dice.upto(3, 9) // 100,
            True,
        )
    image = image_of(back)
    pen = pen_on(image)
    x, y, r = width * dice.upto(30, 70) // 100, height * dice.upto(34, 48) // 100, height * dice.upto(11, 24) // 100
    skin = mix((250, 214, 186), (70, 44, 30), dice.upto(0, 255))
    hair, cloth = mix((30, 22, 18), dice.color((80, 200), (60, 220)), dice.upto(0, 150)), dice.color()
    pen.ellipse([x - 2 * r - r // 3, y + r + r // 4, x + 2 * r + r // 3, height + 4 * r], fill=cloth)
    pen.rectangle([x - r // 3, y + r // 2, x + r // 3, y + 2 * r - r // 3], fill=mix(skin, (0, 0, 0), 60))
    long = dice.upto(0, 12) * r // 10
    pen.ellipse([x - r, y - r - r // 3, x + r, y + r // 2 + long], fill=hair)
    canvas = np.array(image)
    face = image_of(np.ascontiguousarray(canvas[:, :, 0] * 0))
    pen_on(face).ellipse([x - r * 3 // 4, y - r, x + r * 3 // 4, y + r], fill=255)
    lit = glow(width, height, x - r // 2, y - r // 3, 3 * r)
    tone = gradient([mix(skin, (0, 0, 0), 150), skin, mix(skin, (255, 255, 255), 60)])[lit]
    image = image_of(blend(canvas, tone, np.asarray(face)))
    pen = pen_on(image)
    for side in (-1, 1):
        ex, ey, e = x + side * r // 3, y - r // 6, max(r // 9, 1)
        pen.ellipse([ex - e - e // 2, ey - e, ex + e + e // 2, ey + e], fill=(240, 238, 232))
        pen.ellipse([ex - e // 2, ey - e // 2, ex + e // 2, ey + e // 2], fill=(40, 30, 24))
        pen.line([ex - e * 2, ey - 2 * e, ex + e * 2, ey - 2 * e], fill=hair, width=max(r // 14, 1))
    pen.line([x, y, x - r // 8, y + r // 4], fill=mix(skin, (0, 0, 0), 90), width=max(r // 20, 1))
    pen.chord([x - r // 3, y + r // 4, x + r // 3, y + r * 2 // 3], 10, 170, fill=(150, 56, 54))
    if dice.chance(50):
        pen.pieslice([x - r, y - r - r // 3, x + r, y + r // 2], 180, 360, fill=hair)
    return image


def room(dice: Dice, width: int, height: int) -> Image.Image:
    """An interior in one-point perspective: walls, floor, a window, furniture, a lamp."""
    left, right = width * dice.upto(10, 32) // 100, width * dice.upto(66, 90) // 100
    top, low = height * dice.upto(8, 28) // 100, height * dice.upto(58, 78) // 100
    wall, floor = dice.color((10, 140), (90, 245)), dice.color((40, 180), (50, 190))
    image = image_of(vertical([mix(wall, (255, 255, 255), 120), wall], width, height))
    pen = pen_on(image)
    pen.polygon([(0, 0), (left, top), (left, low), (0, height)], fill=mix(wall, (0, 0, 0), dice.upto(20, 90)))
    pen.polygon(
        [(width, 0), (right, top), (right, low), (width, height)], fill=mix(wall, (0, 0, 0), dice.upto(20, 110))
    )
    pen.polygon([(left, low), (right, low), (width, height), (0, height)], fill=floor)
    for board in range(1, 12):
        pen.line(
            [(left + (right - left) * board // 12, low), (width * board // 12, height)], fill=mix(floor, (0, 0, 0), 70)
        )
    wx, wy = left + (right - left) * dice.upto(10, 50) // 100, top + (low - top) // 6
    ww, wh = (right - left) * dice.upto(22, 45) // 100, (low - top) * dice.upto(35, 60) // 100
    view, _ = sky(dice, ww + 1, wh + 1)
    image.paste(image_of(view), (wx, wy))
    frame = mix(wall, (255, 255, 255), 190) if dice.chance(60) else (60, 44, 34)
    pen.rectangle([wx, wy, wx + ww, wy + wh], outline=frame, width=max(width // 100, 1))
    pen.line([wx + ww // 2, wy, wx + ww // 2, wy + wh], fill=frame, width=max(width // 160, 1))
    for _ in range(dice.upto(1, 4)):
        x, foot = dice.upto(0, width * 4 // 5), dice.upto(low + (height - low) // 5, height - 1)
        wide, tall, color = (
            width * dice.upto(12, 34) // 100,
            height * dice.upto(10, 32) // 100,
            dice.color((40, 220), (50, 230)),
        )
        pen.rectangle([x, foot - tall, x + wide, foot], fill=color)
        pen.polygon(
            [
                (x, foot - tall),
                (x + wide // 6, foot - tall * 5 // 4),
                (x + wide * 5 // 6, foot - tall * 5 // 4),
                (x + wide, foot - tall),
            ],
            fill=mix(color, (255, 255, 255), 80),
        )
        pen.line([x, foot - tall // 2, x + wide, foot - tall // 2], fill=mix(color, (0, 0, 0), 110))
    canvas = np.array(image)
    if dice.chance(60):
        light(
            canvas,
            (255, 226, 160),
            dice.upto(left, right),
            dice.upto(top, low),
            width * dice.upto(10, 32) // 100,
            False,
        )
    return image_of(canvas)
