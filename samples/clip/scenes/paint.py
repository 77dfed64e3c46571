"""What the scenes share: seeded noise, texture look-ups, blurs, and the film-like finish.

Pictures are float32 arrays [height, width, 3] in linear light; 1.0 is paper white, highlights may be brighter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]

WIDTH, HEIGHT = 1280, 720


def rgb(*values: float) -> Array:
    """A colour."""
    return np.asarray(values, np.float32)


def smoothstep(low: float, high: float, x: Any) -> Any:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def mix(a: Any, b: Any, t: Any) -> Any:
    """From ``a`` to ``b``."""
    return a + (b - a) * t


def resize(plane: Array, width: int, height: int, how: Image.Resampling = Image.Resampling.BICUBIC) -> Array:
    """One plane or three, scaled with Pillow's antialiased filters."""
    if plane.ndim == 3:
        return np.stack([resize(plane[..., c], width, height, how) for c in range(plane.shape[2])], axis=-1)
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane, np.float32)).resize((width, height), how), np.float32)


def noise(seed: int, size: int, cells: int, octaves: int = 6, gain: float = 0.5, ridged: bool = False) -> Array:
    """Tileable fractal noise [size, size], mean about 0, range about -1..1; ``cells``: of the first octave."""
    dice = np.random.default_rng(seed)
    total = np.zeros((size, size), np.float32)
    strength, norm = 1.0, 0.0
    for _ in range(octaves):
        if cells > size:
            break
        grid = dice.uniform(-1.0, 1.0, (cells, cells)).astype(np.float32)
        pad = 3
        wrapped = np.pad(grid, pad, mode="wrap")
        step = size / cells
        box = (pad, pad, pad + cells, pad + cells)
        layer = (
            np.asarray(Image.fromarray(wrapped).resize((size, size), Image.Resampling.BICUBIC, box=box), np.float32)
            if step > 1
            else grid
        )
        total += strength * ((1.0 - 2.0 * np.abs(layer)) if ridged else layer)
        norm += strength
        strength *= gain
        cells *= 2
    return total * np.float32(1.6 / norm)


def sample(texture: Array, u: Array, v: Array) -> Array:
    """``texture`` [n, m] or [n, m, c] at wrapped positions u (0..1 across), v (0..1 down), bilinear."""
    rows, columns = texture.shape[:2]
    x = (u - np.floor(u)) * columns - 0.5
    y = (v - np.floor(v)) * rows - 0.5
    x0, y0 = np.floor(x), np.floor(y)
    fx, fy = (x - x0).astype(np.float32), (y - y0).astype(np.float32)
    i0, j0 = x0.astype(np.int32) % columns, y0.astype(np.int32) % rows
    i1, j1 = (i0 + 1) % columns, (j0 + 1) % rows
    if texture.ndim == 3:
        fx, fy = fx[..., None], fy[..., None]
    top = texture[j0, i0] * (1 - fx) + texture[j0, i1] * fx
    low = texture[j1, i0] * (1 - fx) + texture[j1, i1] * fx
    return np.asarray(top * (1 - fy) + low * fy, np.float32)


def _box(plane: Array, radius: int, axis: int) -> Array:
    pad = [(0, 0)] * plane.ndim
    pad[axis] = (radius + 1, radius)
    total = np.cumsum(np.pad(plane, pad, mode="edge"), axis=axis, dtype=np.float64)
    width = 2 * radius + 1
    high = np.take(total, range(width, total.shape[axis]), axis)
    low = np.take(total, range(total.shape[axis] - width), axis)
    return np.asarray((high - low) / width, np.float32)


def blur(picture: Array, sigma: float, axes: tuple[int, ...] = (0, 1)) -> Array:
    """Close to a Gaussian of ``sigma`` pixels: three boxes along each axis; large ones at reduced size."""
    if sigma < 0.5:
        return picture
    height, width = picture.shape[:2]
    if sigma > 12 and len(axes) == 2:
        small = resize(picture, max(1, width // 4), max(1, height // 4), Image.Resampling.BOX)
        return resize(blur(small, sigma / 4), width, height)
    radius = max(1, round(float(np.sqrt(sigma * sigma + 0.08333))))
    for axis in axes:
        for _ in range(3):
            picture = _box(picture, radius, axis)
    return picture


def over(base: Array, colour: Array, alpha: Array) -> Array:
    """``colour`` with coverage ``alpha`` [h, w] in front of ``base``."""
    return base + (colour - base) * alpha[..., None]


def pixels(scale: float = 1.0) -> tuple[Array, Array]:
    """Pixel centres, in the clip's pixels: columns [1, w] and rows [h, 1] of a picture ``scale`` times its size."""
    x = (np.arange(round(WIDTH * scale), dtype=np.float32) + 0.5) / np.float32(scale)
    y = (np.arange(round(HEIGHT * scale), dtype=np.float32) + 0.5) / np.float32(scale)
    return x[None, :], y[:, None]


_GRAIN = noise(977, 1024, 512, octaves=2)


def finish(
    picture: Array, index: int, exposure: float = 1.0, bloom: float = 0.06, grain: float = 0.007
) -> NDArray[np.uint8]:
    """Bloom, a film-like tone curve, vignette and grain; sRGB bytes."""
    light = np.maximum(picture, 0) * np.float32(exposure)
    if bloom:
        bright = np.minimum(np.maximum(light - 0.7, 0), 12.0)
        light = light + bloom * (2.2 * blur(bright, 9) + 1.4 * blur(bright, 34))
    x, y = pixels()
    far = ((x - WIDTH / 2) / WIDTH) ** 2 + ((y - HEIGHT / 2) / HEIGHT) ** 2
    light = light * (1.0 - 0.42 * smoothstep(0.1, 0.6, far))[..., None]
    # The widely used rational fit of the ACES curve.
    curve = light * (2.51 * light + 0.03) / (light * (2.43 * light + 0.59) + 0.14)
    curve = np.clip(curve, 0.0, 1.0)
    srgb = np.where(curve <= 0.0031308, 12.92 * curve, 1.055 * np.power(np.maximum(curve, 1e-6), 1 / 2.4) - 0.055)
    dice = np.random.default_rng(index)
    dy, dx = (int(v) for v in dice.integers(0, 1024, 2))
    film = np.roll(_GRAIN, (dy, dx), (0, 1))
    film = np.concatenate([film, film[:, :256]], axis=1)[:HEIGHT, :WIDTH]
    srgb = srgb + grain * film[..., None] * (0.35 + srgb * (1 - srgb) * 2.6)
    return np.asarray(np.clip(srgb * 255.0 + 0.5, 0, 255), np.uint8)
