"""A mountain lake in the evening: a height field seen over water that mirrors it, under lit clouds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .paint import HEIGHT, WIDTH, Array, blur, mix, noise, pixels, resize, rgb, sample, smoothstep

_SCALE = 1.5  # rendered larger and averaged down: smooth edges
_HORIZON = 372.0
_FOCAL = 1150.0
_SUN = np.asarray([0.36, 0.155, 0.92], np.float32) / np.float32(np.linalg.norm([0.36, 0.155, 0.92]))
_MAP = 1024  # cells of the height field
_SPAN = 24.0  # kilometres that it covers


class Scene:
    """Slow flight sideways over the lake."""

    exposure = 0.92

    def __init__(self) -> None:
        ridges = noise(11, _MAP, 6, 8, 0.5, ridged=True)
        rolling = noise(12, _MAP, 4, 7, 0.5)
        detail = noise(13, _MAP, 64, 5, 0.6)
        x = (np.arange(_MAP, dtype=np.float32) + 0.5) / _MAP * _SPAN
        z = x[:, None]
        across = x[None, :] - _SPAN / 2
        # Far shore rises behind the lake; arms of land come in from the left and from the right.
        shore = 5.2 + 0.9 * np.sin(across * 0.9 + 0.6) + 0.5 * np.sin(across * 2.3) + 1.5 * rolling + 0.5 * detail
        rise = smoothstep(0.0, 7.5, z - shore)
        arms = 1.15 * np.exp(-(((across + 4.6) / 1.9) ** 2) - ((z - 6.0) / 1.3) ** 2)
        arms += 0.95 * np.exp(-(((across - 4.4) / 1.5) ** 2) - ((z - 5.0) / 1.0) ** 2)
        height = rise * (0.55 + 1.35 * np.clip(0.5 + 0.5 * ridges, 0, None) ** 1.5 + 0.55 * rolling) + arms * (
            0.55 + 0.5 * ridges
        )
        peak = 1.9 * np.exp(-(((across + 1.7) / 2.1) ** 2) - ((z - 13.0) / 2.2) ** 2)
        height += peak * (0.62 + 0.5 * ridges) + 0.05 * detail * smoothstep(0.02, 0.3, height)
        height = np.where(z > 3.4, height - 0.04 + 0.03 * detail * smoothstep(0.3, 0.0, height), -0.2)
        self._forest = smoothstep(0.16, -0.05, rolling * 0.5 + ridges * 0.2 + 0.12 * detail) * smoothstep(
            0.85, 0.45, height
        )
        spikes = noise(14, _MAP, 512, 2, 0.7)
        self._height = (height + 0.05 * self._forest * (0.6 + spikes) * (height > 0.01)).astype(np.float32)
        self._albedo, self._light = self._ground(detail, ridges)
        self._clouds = noise(21, 1024, 5, 8, 0.54)
        self._ripples = noise(31, 1024, 40, 5, 0.55)
        self._trees = [_pine(seed) for seed in (3, 5, 8, 13, 21)]

    def _ground(self, detail: Array, ridges: Array) -> tuple[Array, Array]:
        """Colour of the ground, and how much sun each cell gets (shadows walked along the sun's direction)."""
        step = _SPAN / _MAP
        dz, dx = np.gradient(self._height, step)
        normal = np.stack([-dx, np.ones_like(dx), -dz], -1)
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        sun = np.clip(normal @ _SUN, 0, None)
        # The sun stands behind the mountains; light from the bright sky beside it keeps their near sides readable.
        sun = np.maximum(0.8 * sun, 0.62 * np.clip(normal @ rgb(0.86, 0.34, -0.26), 0, None))
        shadow = np.full_like(self._height, -10.0)
        for row in range(_MAP - 2, -1, -1):
            drift = _SUN[0] / _SUN[2]
            carried = np.interp(
                np.arange(_MAP) + drift, np.arange(_MAP), np.maximum(shadow[row + 1], self._height[row + 1])
            )
            shadow[row] = carried - step * _SUN[1] / _SUN[2] * 1.3
        sun = sun * (0.4 + 0.6 * smoothstep(0.06, -0.04, shadow - self._height))
        slope = normal[..., 1]
        rock = mix(rgb(0.17, 0.13, 0.11), rgb(0.36, 0.29, 0.24), (0.5 + 0.5 * detail)[..., None])
        meadow = mix(rgb(0.06, 0.085, 0.028), rgb(0.17, 0.15, 0.045), (0.5 + 0.5 * ridges)[..., None])
        colour = mix(rock, meadow, (smoothstep(0.72, 0.9, slope) * smoothstep(1.5, 0.5, self._height))[..., None])
        colour = mix(colour, rgb(0.014, 0.032, 0.022), self._forest[..., None])
        snow = smoothstep(1.25, 1.75, self._height + 0.22 * detail + 0.5 * (slope - 0.7))
        colour = mix(colour, rgb(0.86, 0.88, 0.95), snow[..., None])
        return colour.astype(np.float32), sun.astype(np.float32)

    def _sky(self, x: Array, y: Array, t: float) -> Array:
        """The sky along the rays of pixels (x, y), y above the horizon."""
        up = np.maximum(_HORIZON - y, 0.5) / _FOCAL
        side = (x - WIDTH / 2) / _FOCAL
        length = np.sqrt(1 + side * side + up * up)
        cosine = np.clip((side * _SUN[0] + up * _SUN[1] + _SUN[2]) / length, 0, 1)
        high = smoothstep(0.0, 0.36, up)
        base = mix(rgb(1.0, 0.44, 0.16), rgb(0.07, 0.16, 0.42), (high**0.62)[..., None])
        base = mix(base, rgb(0.70, 0.28, 0.30), (0.5 * np.exp(-(((up - 0.10) / 0.07) ** 2)))[..., None])
        glow = 0.9 * cosine**24 + 1.8 * cosine**180 + 5.0 * cosine**1800
        base = base * (0.55 + 0.45 * cosine[..., None] ** 3) + glow[..., None] * rgb(1.0, 0.56, 0.22)
        base = base + smoothstep(0.99986, 0.99992, cosine)[..., None] * rgb(60, 42, 22)
        # A cloud layer at constant height, seen in perspective.
        far = 1.0 / (up + 0.045)
        u, v = side * far * 0.11 + 0.012 * t, far * 0.085 + 0.006 * t
        puff = sample(self._clouds, u, v)
        toward = sample(self._clouds, u + 0.022, v + 0.03)
        cover = smoothstep(-0.02, 0.4, puff) * smoothstep(0.0, 0.05, up)
        thick = np.clip(0.4 + 1.5 * (0.5 * puff + 0.5 * toward), 0, 1.6)
        lit = np.exp(-2.3 * thick) * (0.7 + 2.6 * cosine**10)
        cloud = rgb(0.17, 0.155, 0.235) * (0.8 + 0.5 * high[..., None]) + lit[..., None] * rgb(2.3, 1.02, 0.46)
        cloud = cloud + (cosine**60)[..., None] * rgb(1.6, 0.8, 0.34) * (1 - np.clip(thick, 0, 1))[..., None]
        return np.asarray(base + (cloud - base) * (0.94 * cover)[..., None], np.float32)

    def _view(self, t: float, mirrored: bool) -> tuple[Array, NDArray[np.bool_]]:
        """Sky and land, and where the land is; mirrored: as the water sees them, already turned upside up."""
        x, y = pixels(_SCALE)
        picture = self._sky(x + 0 * y, y + 0 * x, t)
        eye_x, eye_z, eye_y = -0.55 + 0.26 * t, 0.10 * t, 0.30 + 0.012 * t
        depth = 3.2 * (23.0 / 3.2) ** np.linspace(0, 1, 900, dtype=np.float32)
        across = eye_x + (x - WIDTH / 2) / _FOCAL * depth[:, None]
        u, v = (across + _SPAN / 2) / _SPAN, np.broadcast_to((eye_z + depth[:, None]) / _SPAN, across.shape)
        ground = sample(self._height, u, v)
        lift = np.where(ground > 0, ground + eye_y, -9.0) if mirrored else np.maximum(ground, 0) - eye_y
        top = _HORIZON - _FOCAL * lift / depth[:, None]
        covered = np.minimum.accumulate(top, axis=0)
        rows = y[:, 0]
        first = np.empty((rows.size, x.shape[1]), np.int32)
        for column in range(x.shape[1]):
            first[:, column] = np.searchsorted(-covered[:, column], -rows)
        hit = first < depth.size
        # Between two steps the land's edge is somewhere: depth by linear interpolation hides the steps.
        columns = np.broadcast_to(np.arange(x.shape[1]), first.shape)[hit]
        index = first[hit]
        before = np.maximum(index - 1, 0)
        t0, t1 = covered[before, columns], covered[index, columns]
        part = np.clip((t0 - np.broadcast_to(y, first.shape)[hit]) / np.maximum(t0 - t1, 1e-4), 0, 1)
        part = np.where(index == 0, 1.0, part)
        far = depth[before] + (depth[index] - depth[before]) * part
        px = eye_x + (np.broadcast_to(x, first.shape)[hit] - WIDTH / 2) / _FOCAL * far
        u, v = (px + _SPAN / 2) / _SPAN, (eye_z + far) / _SPAN
        colour, sun, tall = sample(self._albedo, u, v), sample(self._light, u, v), sample(self._height, u, v)
        lit = colour * (sun[:, None] * rgb(3.5, 1.75, 0.86) + rgb(0.14, 0.19, 0.33))
        side = (np.broadcast_to(x, first.shape)[hit] - WIDTH / 2) / _FOCAL
        near_sun = np.clip((side * _SUN[0] + _SUN[2]) / np.sqrt(1 + side * side), 0, 1) ** 14
        haze = 1 - np.exp(-np.maximum(far - 2.5, 0) * 0.042 * np.exp(-0.6 * np.maximum(tall, 0)))
        air = mix(rgb(0.24, 0.27, 0.42), rgb(1.1, 0.55, 0.27), near_sun[:, None])
        picture[hit] = mix(lit, air, haze[:, None])
        mist = np.exp(-np.maximum(tall, 0) * 14) * smoothstep(5.0, 11.0, far) * 0.34
        picture[hit] = mix(picture[hit], air * 1.05, mist[:, None])
        land = np.zeros(hit.shape, bool)
        land[hit] = tall > 0
        return picture, land

    def frame(self, t: float) -> Array:
        """The picture at ``t`` seconds."""
        picture, land = self._view(t, mirrored=False)
        mirror, _ = self._view(t, mirrored=True)
        x, y = pixels(_SCALE)
        water = y[:, 0] > _HORIZON
        drop = np.maximum(y[water] - _HORIZON, 0.4)
        far = _FOCAL * 0.30 / drop
        wide = (x - WIDTH / 2) / _FOCAL * far + 0.26 * t
        depth = far + 0.10 * t + 0 * x
        u, v = wide * 0.55, depth * 0.55
        wave = sample(self._ripples, u + 0.021 * t, v * 0.9 - 0.05 * t)
        fine = sample(self._ripples, u * 2.7 - 0.03 * t, v * 2.2 - 0.11 * t)
        calm = smoothstep(-0.35, 0.5, sample(self._clouds, u * 0.16 + 0.3, v * 0.12))
        slope = (wave + 0.6 * fine) * (0.25 + 0.75 * calm)
        reach = 5.0 + 46.0 * smoothstep(0, 330, drop)
        rows = np.clip(_HORIZON - drop * 0.97 - reach * (slope * 0.75 + 0.22), 0, _HORIZON - 1)
        columns = np.clip(x + reach * 0.22 * fine, 0, WIDTH - 1)
        i = np.clip(rows * _SCALE, 0, picture.shape[0] - 1).astype(np.int32)
        j = np.clip(columns * _SCALE + 0 * drop, 0, picture.shape[1] - 1).astype(np.int32)
        seen = np.minimum(mirror[i, j], 14.0)
        grazing = np.clip(drop / _FOCAL + 0.10 * np.abs(slope), 0.0, 1.0)
        fresnel = 0.10 + 0.88 * (1 - grazing) ** 5
        body = rgb(0.012, 0.040, 0.060) + 0.10 * rgb(0.3, 0.35, 0.42) * np.clip(slope, 0, 1)[..., None]
        surface = mix(body, seen * rgb(0.93, 0.95, 1.0), fresnel[..., None])
        picture[water] = np.where(land[water][..., None], picture[water], surface)
        picture = resize(picture, WIDTH, HEIGHT, Image.Resampling.BOX)
        return self._foreground(picture, t)

    def _foreground(self, picture: Array, t: float) -> Array:
        """Pines on both sides, nearer than everything else: they pass faster."""
        places = [(-20, 1.02, 0), (96, 0.72, 1), (188, 0.5, 2), (1190, 0.86, 3), (1318, 1.15, 4), (1430, 0.8, 1)]
        for x, size, kind in sorted(places, key=lambda place: place[1]):
            tree = self._trees[kind]
            wide, tall = round(tree.shape[1] * size), round(tree.shape[0] * size)
            left = x - 16.0 * t * size * 1.6 - wide / 2
            alpha = resize(tree, wide, tall)
            shift = left - np.floor(left)
            alpha = alpha * (1 - shift) + np.roll(alpha, 1, 1) * shift
            top, first = HEIGHT + 36 - tall, int(np.floor(left))
            x0, x1, y1 = max(first, 0), min(first + wide, WIDTH), min(top + tall, HEIGHT)
            if x0 >= x1:
                continue
            part = np.clip(alpha[: y1 - top, x0 - first : x1 - first], 0, 1)
            behind = blur(picture[top:y1, x0:x1], 6)
            edge = part * (1 - part) * 4
            colour = rgb(0.012, 0.016, 0.018) + 0.16 * edge[..., None] * behind
            picture[top:y1, x0:x1] += (colour - picture[top:y1, x0:x1]) * part[..., None]
        return picture


def _pine(seed: int) -> Array:
    """Coverage of one fir's silhouette, [640, 300]: whorls of drooping branches with hanging twigs."""
    dice = np.random.default_rng(seed)
    width, height, fine = 300, 640, 3
    image = Image.new("L", (width * fine, height * fine), 0)
    pen = ImageDraw.Draw(image)
    middle, base = width * fine / 2, height * fine
    pen.polygon(
        [(middle - 4 * fine, base), (middle + 4 * fine, base), (middle + fine, 0), (middle - fine, 0)], fill=255
    )
    y = 10.0 * fine
    while y < 0.96 * base:
        part = y / base
        for side in (-1, 1):
            length = (0.30 * part**0.85 * base * 0.72 + 4) * dice.uniform(0.45, 1.0)
            start = y + dice.uniform(-7, 7) * fine
            droop = length * dice.uniform(0.15, 0.5)
            for along in dice.uniform(0.0, 1.0, 14 + int(70 * part)):
                tx = middle + side * length * along
                ty = start + droop * along**1.5 - 0.10 * length * along**6
                hang = dice.uniform(4, 15) * fine * (0.45 + 0.8 * part) * (1.15 - 0.75 * along)
                lean = side * dice.uniform(-1, 7) * fine
                pen.line([(tx, ty), (tx + lean, ty + hang)], fill=255, width=int(dice.uniform(1.2, 3.4) * fine * 0.6))
            tip = (middle + side * length, start + 0.9 * droop)
            pen.line([(middle, start - 0.1 * droop), (middle + side * length * 0.5, start + 0.33 * droop), tip], 255, 3)
        y += dice.uniform(6, 11) * fine * (0.6 + 0.9 * part)
    return np.asarray(image.resize((width, height), Image.Resampling.BOX), np.float32) / 255
