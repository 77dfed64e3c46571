"""A rainy crossing from above: a crowd of umbrellas over wet paving that mirrors neon light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .paint import HEIGHT, WIDTH, Array, blur, mix, noise, over, pixels, rgb, sample, smoothstep

_LIGHT = rgb(-0.45, -0.62, 0.64)  # x, y on the picture, z towards the camera
_PALETTE = (
    rgb(0.62, 0.028, 0.030),
    rgb(0.85, 0.34, 0.020),
    rgb(0.88, 0.62, 0.06),
    rgb(0.045, 0.30, 0.22),
    rgb(0.030, 0.135, 0.42),
    rgb(0.42, 0.06, 0.24),
    rgb(0.70, 0.68, 0.62),
    rgb(0.030, 0.032, 0.040),
    rgb(0.10, 0.46, 0.52),
    rgb(0.80, 0.30, 0.34),
)


@dataclass(frozen=True)
class Walker:
    """One person under one umbrella: place at 0 s and walk, in pixels and pixels a second."""

    x: float
    y: float
    vx: float
    vy: float
    radius: float
    ribs: int
    turn: float
    spin: float
    colour: int
    second: int
    pattern: int
    pace: float


class Scene:
    """The camera hangs above the crossing and slowly turns."""

    exposure = 0.62
    bloom = 0.09

    def __init__(self) -> None:
        self._wet = noise(81, 1024, 5, 6, 0.55)
        self._grit = noise(82, 1024, 96, 4, 0.7)
        self._cloth = noise(83, 512, 9, 5, 0.55)
        self._paving = self._pave()
        self._crowd = self._gather()
        dice = np.random.default_rng(85)
        self._rings = dice.uniform(0, 1, (420, 4)).astype(np.float32)
        self._streaks = dice.uniform(0, 1, (520, 4)).astype(np.float32)

    def _pave(self) -> Array:
        """Granite setts laid in fans, with the broad stripes of a crossing: [1024, 2048, 3]."""
        y, x = np.mgrid[0:1024, 0:2048].astype(np.float32)
        cell = 32.0
        row = np.floor(y / cell)
        u = x / (cell * 1.5) + 0.5 * (row % 2) + 0.10 * np.sin(row * 7.3)
        column = np.floor(u)
        edge = np.minimum(np.minimum(u - column, 1 - (u - column)) * cell * 1.5, np.minimum(y % cell, cell - y % cell))
        tone = np.sin(column * 127.1 + row * 311.7) * 43758.5453
        tone = tone - np.floor(tone)
        wear = np.tile(self._grit, (1, 2))
        stone = mix(rgb(0.040, 0.043, 0.050), rgb(0.105, 0.102, 0.104), tone[..., None]) * (1 + 0.4 * wear[..., None])
        joint = smoothstep(3.4, 1.2, edge + 0.8 * wear)
        band = smoothstep(0.46, 0.475, np.abs((x / 256) % 1 - 0.5) * 2) * (y > 290) * (y < 735)
        paint = band * smoothstep(-0.55, -0.15, np.tile(self._wet, (1, 2)) + 0.35 * wear)
        stone = mix(stone, rgb(0.30, 0.29, 0.27) * (0.8 + 0.25 * tone[..., None]), (0.86 * paint)[..., None])
        return np.asarray(mix(stone, rgb(0.010, 0.010, 0.012), (0.8 * joint)[..., None]), np.float32)

    def _gather(self) -> list[Walker]:
        """People on two crossing streams, placed apart from each other at the clip's middle."""
        dice = np.random.default_rng(84)
        crowd: list[Walker] = []
        for _ in range(9000):
            x, y = float(dice.uniform(-190, WIDTH + 190)), float(dice.uniform(-150, HEIGHT + 150))
            radius = float(dice.uniform(50, 82))
            if any(np.hypot(x - w.x, y - w.y) < (radius + w.radius) * 0.88 for w in crowd):
                continue
            way = 1 if dice.uniform() < 0.5 else -1
            speed = float(dice.uniform(24, 52))
            heading = float(dice.normal(0, 0.30))
            crowd.append(
                Walker(
                    x,
                    y,
                    way * speed * float(np.cos(heading)),
                    speed * float(np.sin(heading)),
                    radius,
                    int(dice.choice([8, 8, 8, 10])),
                    float(dice.uniform(0, 6.28)),
                    float(dice.normal(0, 0.10)),
                    int(dice.choice(10, p=[0.16, 0.11, 0.12, 0.09, 0.11, 0.09, 0.08, 0.12, 0.07, 0.05])),
                    int(dice.integers(10)),
                    int(dice.choice(4, p=[0.5, 0.22, 0.15, 0.13])),
                    float(dice.uniform(1.6, 2.2)),
                )
            )
            if len(crowd) == 64:
                break
        return crowd

    def _ground(self, t: float, cast: Array, mirrored: Array) -> Array:
        x, y = pixels()
        u, v = (x + 190) / 2048 + 0 * y, (y + 150) / 1024 + 0 * x
        stone = sample(self._paving, u, v)
        wet = sample(self._wet, u * 1.7, v * 0.85)
        puddle = smoothstep(0.10, 0.34, wet)
        dx, dy = self._ripples(t)
        sky = rgb(0.20, 0.24, 0.32) * (1 - 0.55 * cast[..., None])
        # Two shop signs and a traffic light, far up beside the street, mirrored by the wet ground.
        shine = np.zeros((HEIGHT, WIDTH, 3), np.float32)
        for cx, cy, wide, tall, colour in (
            (210, 90, 160, 330, rgb(1.5, 0.16, 0.55)),
            (1120, 620, 190, 360, rgb(0.10, 0.85, 1.10)),
            (760, 40, 120, 210, rgb(1.5, 0.75, 0.20)),
            (420, 700, 130, 220, rgb(1.3, 0.62, 0.16)),
        ):
            px = x + 60 * dx
            py = y + 60 * dy
            shine += np.exp(-(((px - cx) / wide) ** 2) - ((py - cy) / tall) ** 2)[..., None] * colour
        gritty = 0.5 + 0.5 * sample(self._grit, u * 4, v * 2)
        film = 0.10 + 0.16 * gritty
        mirror = (
            mirrored * 0.55
            + sky * (0.5 + 3.0 * np.clip(dx + dy, -0.1, 0.25))[..., None]
            + shine * (1 - 0.4 * cast[..., None])
        )
        light = rgb(0.62, 0.68, 0.82) * (1 - 0.72 * cast)[..., None] + 0.35 * shine
        ground = stone * light * (1 - 0.35 * puddle[..., None])
        return ground + mirror * mix(film, 0.52, puddle)[..., None]

    def _ripples(self, t: float) -> tuple[Array, Array]:
        """Slopes of the rings that drops make: two planes."""
        dx, dy = np.zeros((HEIGHT, WIDTH), np.float32), np.zeros((HEIGHT, WIDTH), np.float32)
        x, y = pixels()
        for start, px, py, size in self._rings:
            age = (t * 1.25 + start * 3) % 1.0
            turn = int(t * 1.25 + start * 3)
            cx, cy = (px * 997 + turn * 0.37) % 1 * WIDTH, (py * 991 + turn * 0.61) % 1 * HEIGHT
            radius = 2 + (10 + 12 * size) * age
            x0, x1 = int(max(cx - radius - 4, 0)), int(min(cx + radius + 5, WIDTH))
            y0, y1 = int(max(cy - radius - 4, 0)), int(min(cy + radius + 5, HEIGHT))
            ex, ey = x[:, x0:x1] - cx, y[y0:y1] - cy
            away = np.hypot(ex, ey) + 1e-3
            wave = (
                np.exp(-(((away - radius) / 1.8) ** 2)) * np.sin((away - radius) * 1.6 + 0.8) * (1 - age) ** 1.2 * 0.5
            )
            dx[y0:y1, x0:x1] += wave * ex / away
            dy[y0:y1, x0:x1] += wave * ey / away
        return dx, dy

    def _umbrella(self, walker: Walker, t: float) -> tuple[Array, Array, int, int, float]:
        """One umbrella's colour and coverage in its own window, the window's corner and the height of its bob."""
        step = np.sin(6.28 * walker.pace * t + walker.turn)
        bob = 0.012 * abs(step)
        radius = walker.radius * (1 + bob)
        cx = walker.x + walker.vx * (t - 2) + 2.0 * step * np.sign(walker.vy)
        cy = walker.y + walker.vy * (t - 2) + 1.6 * step
        x0, y0, side = int(cx - radius) - 3, int(cy - radius) - 3, int(2 * radius) + 7
        x = (np.arange(side, dtype=np.float32) + 0.5 + x0 - cx)[None, :] / radius
        y = (np.arange(side, dtype=np.float32) + 0.5 + y0 - cy)[:, None] / radius
        # The shaft leans ahead: the dome's middle is off centre.
        speed = max(np.hypot(walker.vx, walker.vy), 1e-3)
        lean_x, lean_y = 0.10 * walker.vx / speed, 0.10 * walker.vy / speed
        away = np.hypot(x, y)
        qx, qy = x - lean_x * (1 - away), y - lean_y * (1 - away)
        q = np.hypot(qx, qy)
        angle = np.arctan2(qy, qx) + walker.turn + walker.spin * t
        panel = angle * walker.ribs / (2 * np.pi)
        inside = panel - np.floor(panel) - 0.5
        rim = 1.0 - 0.085 * (1 - (2 * inside) ** 2) - 0.012
        cover = smoothstep(1.25 / radius, -1.25 / radius, away - rim)
        # A dome whose panels sag between the ribs.
        sag = 0.30 * np.sin(2 * np.pi * inside) * q
        slope = 0.30 + 0.95 * q**1.6
        ca, sa = qx / np.maximum(q, 1e-3), qy / np.maximum(q, 1e-3)
        normal = np.stack([ca * slope - sa * sag, sa * slope + ca * sag, np.ones_like(q)], -1)
        wrinkle = sample(self._cloth, angle / 6.2832 * 2 + walker.turn, q * 0.8 + 0 * angle)
        normal[..., 0] += 0.10 * wrinkle
        normal[..., 1] -= 0.08 * wrinkle
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        first, second = _PALETTE[walker.colour], _PALETTE[walker.second]
        index = np.floor(panel).astype(np.int32)
        if walker.pattern == 1:
            share = (index % 2).astype(np.float32)
        elif walker.pattern == 2:
            share = smoothstep(0.70, 0.72, q) * smoothstep(0.86, 0.84, q)
        elif walker.pattern == 3:
            gx, gy = qx * 4.2 + 0.5, qy * 4.2
            gx = gx + 0.5 * (np.floor(gy) % 2)
            share = smoothstep(0.26, 0.21, np.hypot(gx - np.floor(gx) - 0.5, gy - np.floor(gy) - 0.5))
        else:
            share = np.zeros_like(q)
        colour = mix(first, second * np.float32(0.9) + rgb(0.03, 0.03, 0.03), share[..., None])
        facing = np.clip(normal @ _LIGHT, 0, 1)
        sky = 0.55 + 0.45 * normal[..., 2]
        rib = smoothstep(0.030, 0.008, (0.5 - np.abs(inside)) * q) * (q > 0.06)
        shade = (
            colour
            * (0.95 * facing + 0.42 * sky)[..., None]
            * (1 + 0.12 * wrinkle[..., None])
            * (1 - 0.42 * rib[..., None])
        )
        half = _LIGHT + rgb(0, 0, 1)
        half /= np.linalg.norm(half)
        beads = smoothstep(
            0.42, 0.7, sample(self._grit, x * 0.16 + walker.turn + 0 * y, y * 0.16 + walker.spin + 0 * x)
        )
        gloss = np.clip(normal @ half, 0, 1) ** 46
        shade = shade + (0.85 * gloss + 0.22 * beads * facing)[..., None] * rgb(0.85, 0.92, 1.05)
        neon = np.clip(normal @ rgb(0.75, 0.25, 0.35), 0, 1) ** 5
        shade = shade + neon[..., None] * rgb(0.05, 0.22, 0.26)
        tip = smoothstep(0.045, 0.02, q)
        shade = mix(shade, rgb(0.30, 0.30, 0.31) * (0.4 + facing[..., None]), tip[..., None])
        return shade.astype(np.float32), cover.astype(np.float32), x0, y0, float(step)

    def frame(self, t: float) -> Array:
        """The picture at ``t`` seconds."""
        cast = np.zeros((HEIGHT, WIDTH), np.float32)
        mirrored = np.zeros((HEIGHT, WIDTH, 3), np.float32)
        drawn = [self._umbrella(walker, t) for walker in self._crowd]
        for colour, cover, x0, y0, _ in drawn:
            _paste(cast, np.ones_like(cover), cover, x0 + 20, y0 + 26)
            _paste(mirrored, colour, cover, x0 - 10, y0 + 34)
        picture = self._ground(t, blur(cast, 10), blur(mirrored, 7))
        for walker, (_, _, _, _, step) in zip(self._crowd, drawn, strict=True):
            self._feet(picture, walker, t, step)
        order = np.argsort([walker.radius for walker in self._crowd])
        for number in order:
            colour, cover, x0, y0, _ = drawn[number]
            _paste(picture, colour, 0.55 * cover, x0 + 9, y0 + 11, shadow=True)
            _paste(picture, colour, cover, x0, y0)
        return self._rain(picture, t)

    @staticmethod
    def _feet(picture: Array, walker: Walker, t: float, step: float) -> None:
        """A coat's back and two shoes that swing: what shows behind and ahead of the rim."""
        x, y = pixels()
        speed = max(np.hypot(walker.vx, walker.vy), 1e-3)
        ax, ay = walker.vx / speed, walker.vy / speed
        cx, cy = walker.x + walker.vx * (t - 2), walker.y + walker.vy * (t - 2)
        for side in (-1, 1):
            reach = walker.radius * (0.86 + 0.30 * side * step)
            px, py = cx + ax * reach - ay * side * 11, cy + ay * reach + ax * side * 11
            x0, x1, y0, y1 = int(px) - 16, int(px) + 17, int(py) - 16, int(py) + 17
            if x0 < 0 or y0 < 0 or x1 > WIDTH or y1 > HEIGHT:
                continue
            ex, ey = x[:, x0:x1] - px, y[y0:y1] - py
            along, across = ex * ax + ey * ay, -ex * ay + ey * ax
            shoe = smoothstep(1.1, 0.85, np.hypot(along / 13, across / 5.5))
            tone = rgb(0.030, 0.022, 0.018) + 0.10 * smoothstep(0.5, 0.0, np.hypot(along / 9, across / 3))[..., None]
            picture[y0:y1, x0:x1] = over(picture[y0:y1, x0:x1], tone, shoe)

    def _rain(self, picture: Array, t: float) -> Array:
        """Drops between the camera and the crowd: short bright lines that run away from the middle as they fall."""
        for start, angle, far, light in self._streaks:
            fall = (t * 2.4 + start) % 1.0
            turn = int(t * 2.4 + start)
            way = 6.2832 * ((angle + 0.618 * turn) % 1)
            reach = (60 + 900 * far) * (1.3 - 0.5 * fall)
            cx, cy = WIDTH / 2 + reach * np.cos(way), HEIGHT / 2 + reach * np.sin(way)
            length = int(5 + 13 * (1 - fall) * far)
            for point in range(length):
                px, py = int(cx - point * np.cos(way)), int(cy - point * np.sin(way))
                if 0 <= px < WIDTH and 0 <= py < HEIGHT:
                    picture[py, px] += (0.05 + 0.13 * light) * (1 - point / length) * rgb(0.9, 1.0, 1.15)
        return picture


def _paste(picture: Array, colour: Array, cover: Array, x0: int, y0: int, shadow: bool = False) -> None:
    """Puts ``colour`` with ``cover`` at (x0, y0), clipped to the picture; a shadow only darkens."""
    height, width = cover.shape
    left, top = max(x0, 0), max(y0, 0)
    right, low = min(x0 + width, picture.shape[1]), min(y0 + height, picture.shape[0])
    if left >= right or top >= low:
        return
    part = cover[top - y0 : low - y0, left - x0 : right - x0]
    target = picture[top:low, left:right]
    if shadow:
        target *= (1 - part)[..., None]
        return
    what = colour[top - y0 : low - y0, left - x0 : right - x0]
    if target.ndim == 2:
        np.maximum(target, part * what, out=target)
    else:
        target += (what - target) * part[..., None]
