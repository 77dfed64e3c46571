"""A text card: thick cotton paper on linen, letters pressed in with gold foil, shadows of leaves moving over it."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .paint import HEIGHT, WIDTH, Array, blur, mix, noise, over, pixels, rgb, sample, smoothstep

_FINE = 2
_CARD = (176, 118, 1104, 602)  # left, top, right, bottom


class Scene:
    """The light wanders, and the foil with it."""

    exposure = 0.86
    bloom = 0.08

    def __init__(self) -> None:
        self._linen, self._linen_height = self._weave()
        self._fibres = noise(91, 1024, 64, 5, 0.75)
        self._pulp = noise(92, 1024, 6, 6, 0.5)
        self._letters = self._press()
        self._leaves = [_branch(seed) for seed in (93, 94, 95)]
        tooth = np.pad(self._fibres, ((0, 0), (0, 256)), mode="wrap")[:HEIGHT, :WIDTH]
        depth = blur(self._letters, 1.1)
        relief = 0.20 * tooth - 2.6 * depth
        self._dy, self._dx = np.gradient(relief)
        x, y = pixels()
        left, top, right, low = _CARD
        inside = np.minimum(np.minimum(x - left, right - x), np.minimum(y - top, low - y))
        # A deckle edge: the paper's rim wanders by a few pixels.
        self._edge = inside + 3.2 * np.pad(self._pulp, ((0, 0), (0, 256)), mode="wrap")[:HEIGHT, :WIDTH] + 1.2 * tooth
        self._card = smoothstep(-0.8, 0.8, self._edge)

    def _weave(self) -> tuple[Array, Array]:
        """Blue-grey linen: colour and height."""
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
        slub = noise(96, 2048, 8, 7, 0.62)[:HEIGHT, :WIDTH]
        slub_x, slub_y = noise(97, 2048, 1024, 2)[:HEIGHT, :WIDTH], noise(98, 2048, 1024, 2)[:HEIGHT, :WIDTH]
        warp = np.sin((x + 1.2 * slub) * 2 * np.pi / 6.0)
        weft = np.sin((y + 1.2 * slub) * 2 * np.pi / 6.0)
        above = np.sin(x * np.pi / 6.0) * np.sin(y * np.pi / 6.0) > 0
        height = np.where(above, 0.6 + 0.4 * np.abs(warp), 0.6 + 0.4 * np.abs(weft))
        height = height + 0.25 * blur(slub_x, 6, axes=(0,)) + 0.25 * blur(slub_y, 6, axes=(1,))
        tone = 0.75 + 0.25 * slub + 0.22 * blur(slub_x, 18, axes=(0,)) + 0.22 * blur(slub_y, 18, axes=(1,))
        colour = rgb(0.060, 0.105, 0.130) * (0.5 + 0.6 * height * tone)[..., None]
        return np.asarray(colour, np.float32), np.asarray(height, np.float32)

    @staticmethod
    def _press() -> Array:
        """Where the foil is, 0..1."""
        image = Image.new("L", (WIDTH * _FINE, HEIGHT * _FINE), 0)
        pen = ImageDraw.Draw(image)
        middle = (_CARD[0] + _CARD[2]) / 2 * _FINE

        def line(text: str, y: float, size: float, spread: float) -> None:
            font = ImageFont.load_default(size * _FINE)
            widths = [pen.textlength(letter, font=font) for letter in text]
            x = middle - (sum(widths) + spread * _FINE * (len(text) - 1)) / 2
            for letter, width in zip(text, widths, strict=True):
                pen.text((x, y * _FINE), letter, fill=255, font=font, anchor="ls")
                x += width + spread * _FINE

        line("memedge", 352, 138, 4)
        line("WHICH MOMENTS STAY WITH YOU", 432, 27, 6.5)
        line("measured on the device, frame by frame", 545, 22, 1.2)
        # A curve of scores between two rules.
        left, right = (middle / _FINE - 300) * _FINE, (middle / _FINE + 300) * _FINE
        points = []
        for part in np.linspace(0, 1, 400):
            bump = 0.9 * np.exp(-(((part - 0.31) / 0.06) ** 2)) + 0.65 * np.exp(-(((part - 0.72) / 0.09) ** 2))
            wave = 0.22 * np.sin(part * 17) + 0.10 * np.sin(part * 41 + 1)
            points.append((left + (right - left) * part, (496 - 26 * (bump + wave)) * _FINE))
        pen.line(points, fill=255, width=3 * _FINE, joint="curve")
        x, y = points[124]
        pen.ellipse((x - 6 * _FINE, y - 6 * _FINE, x + 6 * _FINE, y + 6 * _FINE), fill=255)
        for inset, wide in ((26, 3.0), (34, 1.2)):
            box = [
                (_CARD[0] + inset) * _FINE,
                (_CARD[1] + inset) * _FINE,
                (_CARD[2] - inset) * _FINE,
                (_CARD[3] - inset) * _FINE,
            ]
            pen.rounded_rectangle(box, radius=10 * _FINE, outline=255, width=round(wide * _FINE))
        return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.BOX), np.float32) / 255

    def _shade(self, t: float) -> Array:
        """How much sun gets through the leaves: 0..1; sharper where a leaf is near."""
        light = np.ones((HEIGHT, WIDTH), np.float32)
        x, y = pixels()
        for number, (plane, softness) in enumerate(zip(self._leaves, (5.0, 9.0, 15.0), strict=True)):
            sway = 0.020 * np.sin(1.3 * t + number) + 0.008 * np.sin(3.1 * t + 2.0 * number)
            drift = (0.012 + 0.008 * number) * t
            u = (x - 640) / 1500 + 0.5 + sway * (1.3 - y / HEIGHT) + drift - 0.05
            v = (y - 360) / 1500 + 0.5 + 0.7 * sway * (x / WIDTH) + 0.015 * number
            inside = (u > 0) & (u < 1) & (v > 0) & (v < 1)
            leaf = np.where(inside, sample(plane, u, v), 0)
            light *= 1 - (0.86 - 0.10 * number) * blur(leaf, softness)
        return light

    def frame(self, t: float) -> Array:
        """The picture at ``t`` seconds."""
        x, y = pixels()
        sun = self._shade(t)
        pool = np.exp(-(((x - 420 - 90 * t) / 760) ** 2) - ((y - 250) / 560) ** 2)
        key = (0.45 + 0.85 * pool) * sun
        raking = rgb(-0.80, -0.42, 0.43)
        light = rgb(2.5, 2.05, 1.50)
        fill = rgb(0.20, 0.25, 0.33)
        # Linen.
        gy, gx = np.gradient(self._linen_height)
        lean = np.clip(0.55 - 0.55 * (gx * raking[0] + gy * raking[1]), 0, 1.6)
        drop = blur(np.roll(self._card, (9, 15), (0, 1)), 9)
        under = key * (1 - 0.85 * drop)
        picture = self._linen * ((lean * under)[..., None] * light + fill * (1 - 0.45 * drop[..., None]))
        # Paper.
        tilt = 0.46 - 0.62 * (self._dx * raking[0] + self._dy * raking[1])
        pulp = np.pad(self._pulp, ((0, 0), (0, 256)), mode="wrap")[:HEIGHT, :WIDTH]
        paper = (
            rgb(0.80, 0.755, 0.665)
            * (1 + 0.035 * pulp + 0.03 * self._fibres[:HEIGHT, np.arange(WIDTH) % 1024])[..., None]
        )
        lit = paper * ((np.clip(tilt, 0, 1.5) * key)[..., None] * light + 0.85 * fill)
        lit = lit * (1 - 0.25 * smoothstep(5, 0, self._edge))[..., None]
        # Foil: a mirror of a bright band that moves with the light, broken by the paper's tooth.
        facet = 900 * (0.055 * self._dx + 0.03 * self._dy) * 4.0
        band = np.exp(-(((x * 0.92 + y * 0.38 - (180 + 270 * t) + facet) / 190) ** 2))
        sheen = 0.20 + 0.30 * pool * sun + 2.4 * band * (0.35 + 0.65 * sun)
        foil = (
            mix(rgb(0.40, 0.175, 0.035), rgb(1.25, 0.84, 0.36), np.clip(sheen, 0, 1)[..., None])
            * (0.27 + 0.72 * sheen)[..., None]
        )
        lit = over(lit, foil, self._letters)
        return over(picture, lit, self._card)


def _branch(seed: int) -> Array:
    """Coverage of a branch with pointed leaves, [768, 768]."""
    dice = np.random.default_rng(seed)
    size = 768
    image = Image.new("L", (size, size), 0)
    pen = ImageDraw.Draw(image)
    for _ in range(5):
        x, y = float(dice.uniform(-0.05, 1.05) * size), float(dice.uniform(0.10, 0.25) * size)
        heading = float(dice.uniform(0.2, 1.2) if x < size / 2 else dice.uniform(1.9, 2.9))
        for joint in range(13):
            nx, ny = x + 30 * np.cos(heading), y + 30 * np.sin(heading)
            pen.line([(x, y), (nx, ny)], fill=255, width=4)
            for side in (-1, 1):
                way = heading + side * float(dice.uniform(0.5, 1.15))
                length, wide = float(dice.uniform(46, 84)) * (1 - 0.03 * joint), float(dice.uniform(9, 16))
                along = np.linspace(0, 1, 14)
                bulge = np.sin(np.pi * along**0.8) * wide
                bend = 0.25 * side * along * length * along
                edge = [(a * length, b + c) for a, b, c in zip(along, bulge, bend, strict=True)]
                edge += [(a * length, c - b) for a, b, c in reversed(list(zip(along, bulge, bend, strict=True)))]
                turn = [(x + a * np.cos(way) - b * np.sin(way), y + a * np.sin(way) + b * np.cos(way)) for a, b in edge]
                pen.polygon(turn, fill=255)
            x, y, heading = nx, ny, heading + float(dice.normal(0, 0.16))
    return np.asarray(image, np.float32) / 255
