"""A close look at a glass ball among fruit, ceramics and metal on a wooden table: ray traced, with shallow focus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from .paint import HEIGHT, WIDTH, Array, blur, mix, noise, over, pixels, resize, rgb, sample, smoothstep

_SCALE = 1.5
_FOCAL = 1560.0
_KEY = rgb(-0.62, 0.62, 0.34) / np.float32(np.linalg.norm([0.62, 0.62, 0.34]))  # towards the window
_KEY_LIGHT = rgb(2.9, 2.45, 1.95)


@dataclass(frozen=True)
class Ball:
    """One sphere: ``stuff`` is its material; ``sharp`` ones lie in the plane of focus."""

    centre: tuple[float, float, float]
    radius: float
    stuff: str
    sharp: bool


_BALLS = (
    Ball((0.0, 1.0, 0.0), 1.0, "glass", True),
    Ball((1.52, 0.5, -0.52), 0.5, "copper", True),
    Ball((-1.18, 0.3, -0.98), 0.3, "green glass", True),
    Ball((-2.02, 0.84, 1.25), 0.84, "orange", False),
    Ball((2.25, 0.80, 1.9), 0.80, "ceramic", False),
    Ball((0.30, 0.78, 3.9), 0.78, "orange", False),
)


def _unit(v: Array) -> Array:
    return v / np.sqrt(np.maximum((v * v).sum(-1, keepdims=True), 1e-12))


class Scene:
    """The camera drifts around the glass ball."""

    exposure = 0.95

    def __init__(self) -> None:
        self._room = self._paint_room()
        self._soft_room = blur(self._room, 10)
        self._wood, self._wood_bump = self._paint_wood()
        self._peel = noise(41, 512, 64, 3, 0.55)
        self._dents = noise(42, 512, 14, 2, 0.4)
        self._veins = noise(43, 512, 4, 5, 0.5, ridged=True)

    def _paint_room(self) -> Array:
        """What surrounds the table, as seen along every direction: [512, 1024, 3], longitude across, latitude down."""
        x = (np.arange(1024, dtype=np.float32) / 1024)[None, :]
        y = (np.arange(512, dtype=np.float32) / 512)[:, None]
        walls = mix(rgb(0.10, 0.075, 0.055), rgb(0.035, 0.030, 0.032), smoothstep(0.2, 0.75, y + 0 * x)[..., None])
        mottle = noise(51, 1024, 6, 5)[:512]
        room = walls * (1 + 0.35 * mottle[..., None])
        # A tall window in four panes to the left behind the table; beyond it a garden.
        garden = mix(rgb(1.5, 1.75, 1.9), rgb(0.28, 0.55, 0.16), smoothstep(0.28, 0.46, y + 0.05 * mottle)[..., None])
        for left, right in ((0.255, 0.305), (0.313, 0.363)):
            for top, low in ((0.17, 0.305), (0.318, 0.455)):
                pane = smoothstep(left, left + 0.003, x) * smoothstep(right, right - 0.003, x)
                pane = pane * smoothstep(top, top + 0.005, y) * smoothstep(low, low - 0.005, y)
                room = over(room, 3.4 * garden * (1 + 0.5 * mottle[..., None]), pane)
        # A warm lamp to the right, its glow on the wall, and a shelf with plants.
        lamp = np.exp(-((x - 0.70) ** 2 + ((y - 0.36) * 0.6) ** 2) / 0.0045)
        room = room + lamp[..., None] * rgb(0.75, 0.36, 0.13)
        shade = smoothstep(0.020, 0.016, np.hypot(x - 0.70, (y - 0.37) * 0.55))
        room = over(room, rgb(9.0, 5.2, 2.2), shade)
        leaves = smoothstep(0.05, 0.5, noise(52, 1024, 36, 3)[:512]) * smoothstep(0.10, 0.02, np.abs(y - 0.44))
        leaves = leaves * smoothstep(0.40, 0.46, x) * smoothstep(0.64, 0.58, x)
        room = over(room, rgb(0.10, 0.21, 0.05), leaves)
        # Ahead of the camera: dark green plants, and a string of lights that the lens turns into soft discs.
        ahead = np.minimum(x, 1 - x)
        hedge = (
            smoothstep(-0.3, 0.5, noise(53, 1024, 20, 4)[:512])
            * smoothstep(0.16, 0.10, ahead)
            * smoothstep(0.40, 0.47, y)
        )
        room = over(room, rgb(0.035, 0.075, 0.03) * (1 + mottle[..., None]), hedge)
        dice = np.random.default_rng(54)
        for place in np.linspace(-0.15, 0.15, 27):
            px, py = place + dice.normal(0, 0.002), 0.497 + 0.016 * np.sin(place * 47) + dice.normal(0, 0.006)
            off = np.hypot(np.abs(np.abs(x - px % 1)), (y - py) * 0.5)
            warm = mix(rgb(15.0, 6.5, 1.9), rgb(14.0, 9.5, 5.0), np.float32(dice.uniform()))
            room = room + smoothstep(0.0034, 0.0018, off)[..., None] * warm * np.float32(dice.uniform(0.4, 1.0))
        return np.asarray(room, np.float32)

    def _paint_wood(self) -> tuple[Array, Array]:
        """Colour [1024, 1024, 3] and relief of a table of planks."""
        size = 1024
        grain = noise(61, size, 4, 8, 0.6)
        long = resize(noise(62, size, 16, 6, 0.62)[:, :128], size, size)
        y = np.arange(size, dtype=np.float32)[:, None] / size
        plank = np.floor(y * 6)
        tint = np.random.default_rng(63).uniform(0.72, 1.18, 6).astype(np.float32)[plank.astype(np.int32) % 6]
        rings = np.sin((y * 60 + 2.3 * grain + 5 * plank + 2.0 * long) * 2.2)
        fine = resize(noise(64, size, 256, 3, 0.7)[:, :64], size, size)
        tone = np.clip(0.5 + 0.2 * rings + 0.26 * long + 0.2 * fine, 0, 1)
        colour = mix(rgb(0.085, 0.036, 0.016), rgb(0.36, 0.185, 0.085), tone[..., None]) * tint[..., None]
        seam = smoothstep(0.012, 0.004, np.abs(y * 6 - np.round(y * 6)) + 0 * grain)
        colour = mix(colour, rgb(0.012, 0.006, 0.004), 0.9 * seam[..., None])
        return np.asarray(colour, np.float32), np.asarray(0.5 * fine + 0.5 * long - 1.5 * seam, np.float32)

    def _surroundings(self, ray: Array, soft: bool = False) -> Array:
        u = np.arctan2(ray[:, 0], -ray[:, 2]) / np.float32(2 * np.pi) + 0.5
        v = np.arccos(np.clip(ray[:, 1], -1, 1)) / np.float32(np.pi)
        return sample(self._soft_room if soft else self._room, 1.0 - u, np.clip(v, 0.002, 0.998))

    def _table(self, at: Array, ray: Array, depth: int) -> Array:
        """Light from the table at points ``at`` towards where ``ray`` came from."""
        u, v = at[:, 0] * 0.105 + 0.31, at[:, 2] * 0.105 + 0.13
        colour = sample(self._wood, u, v)
        key, sky = np.ones(len(at), np.float32), np.ones(len(at), np.float32)
        focus = np.zeros((len(at), 3), np.float32)
        for ball in _BALLS:
            to = np.asarray(ball.centre, np.float32) - at
            along = to @ _KEY
            distance = np.sqrt(np.maximum((to * to).sum(-1), 1e-9))
            off = np.sqrt(np.maximum(distance**2 - along**2, 0))
            soft = 0.10 + 0.16 * np.maximum(along, 0)
            shade = smoothstep(ball.radius + soft, ball.radius - soft, off) * (along > 0)
            if "glass" in ball.stuff:
                tint = rgb(0.35, 1.0, 0.5) if ball.stuff != "glass" else rgb(1.0, 0.97, 0.9)
                spot = np.exp(-((off / (0.30 * ball.radius)) ** 2)) * 2.6 + 0.25 * np.exp(
                    -((off / (0.7 * ball.radius)) ** 2)
                )
                focus += (spot * (along > 0))[:, None] * tint
                shade = shade * 0.86
            key = key * (1 - shade)
            sky = sky * (1 - np.clip(to[:, 1] / distance, 0, 1) * np.minimum((ball.radius / distance) ** 2, 1) * 0.92)
        lit = colour * ((key[:, None] + focus) * _KEY_LIGHT * _KEY[1] + sky[:, None] * rgb(0.34, 0.29, 0.27))
        if depth <= 0:
            return lit
        bump = sample(self._wood_bump, u, v)
        bounce = ray * rgb(1, -1, 1)
        bounce[:, 0] += 0.03 * bump
        bounce[:, 2] += 0.05 * bump
        cosine = np.clip(-ray[:, 1], 0, 1)
        gloss = (0.04 + 0.75 * (1 - cosine) ** 5) * (0.75 + 0.25 * np.clip(bump, -1, 1))
        return lit + gloss[:, None] * np.minimum(self._trace(at + bounce * 1e-3, _unit(bounce), 0), 3.0)

    def _ball(self, ball: Ball, at: Array, ray: Array, depth: int) -> Array:
        """Light from a sphere's surface."""
        normal = (at - np.asarray(ball.centre, np.float32)) / np.float32(ball.radius)
        u = np.arctan2(normal[:, 0], normal[:, 2]) / np.float32(2 * np.pi)
        v = np.arccos(np.clip(normal[:, 1], -1, 1)) / np.float32(np.pi)
        if "glass" in ball.stuff:
            return self._glass(ball, at, normal, ray, depth)
        if ball.stuff == "copper":
            step = 0.004
            du = sample(self._dents, u + step, v) - sample(self._dents, u - step, v)
            dv = sample(self._dents, u, v + step) - sample(self._dents, u, v - step)
            normal = _unit(normal + 0.9 * np.stack([du, dv, -du], -1))
            bounce = ray - 2 * (ray * normal).sum(-1, keepdims=True) * normal
            seen = self._trace(at + normal * 1e-3, _unit(bounce), depth - 1)
            edge = (1 - np.clip(-(ray * normal).sum(-1), 0, 1)) ** 5
            return seen * mix(rgb(0.98, 0.56, 0.36), rgb(1, 0.95, 0.9), edge[:, None])
        pores = 0.0
        if ball.stuff == "orange":
            step = 0.003
            du = sample(self._peel, u * 2 + step, v + 0.0) - sample(self._peel, u * 2 - step, v)
            dv = sample(self._peel, u * 2, v + step) - sample(self._peel, u * 2, v - step)
            pores = 0.06 * np.clip(sample(self._peel, u * 2, v), -1, 1)[:, None]
            normal = _unit(normal + 0.32 * np.stack([du, dv, du], -1))
            colour = rgb(0.86, 0.27, 0.022) * (1 + pores) + rgb(0.05, 0.05, 0) * np.clip(normal[:, 1:2], 0, 1)
            stem = smoothstep(0.09, 0.04, v + 0.01 * np.sin(u * 31))
            colour = mix(colour, rgb(0.09, 0.12, 0.03), stem[:, None])
            gloss = 0.25
        else:
            vein = smoothstep(0.60, 0.78, sample(self._veins, u, v))
            colour = mix(rgb(0.014, 0.075, 0.26), rgb(0.95, 0.60, 0.18), vein[:, None])
            gloss = 1.0
        facing = normal @ _KEY
        lit = np.clip(facing, 0, 1) + 0.12 * np.clip(facing + 0.4, 0, 1)
        height = np.clip(at[:, 1] / (2 * ball.radius), 0, 1)
        ambient = mix(rgb(0.17, 0.10, 0.06), rgb(0.36, 0.33, 0.33), (0.5 + 0.5 * normal[:, 1:2])) * (
            0.3 + 0.7 * height[:, None]
        )
        bounce = _unit(ray - 2 * (ray * normal).sum(-1, keepdims=True) * normal)
        edge = (1 - np.clip(-(ray * normal).sum(-1), 0, 1)) ** 5
        seen = np.minimum(self._surroundings(bounce, soft=gloss < 1), 8)
        return colour * (lit[:, None] * _KEY_LIGHT + ambient) + ((0.04 + 0.7 * edge) * gloss)[:, None] * seen

    def _glass(self, ball: Ball, at: Array, normal: Array, ray: Array, depth: int) -> Array:
        """In and out again by Snell's law; mirrored light by Schlick's formula."""
        ratio = 1 / 1.5
        cosine = np.clip(-(ray * normal).sum(-1, keepdims=True), 0, 1)
        inside = ray * ratio + normal * (ratio * cosine - np.sqrt(1 - ratio**2 * (1 - cosine**2)))
        way = -2 * ((at - np.asarray(ball.centre, np.float32)) * inside).sum(-1, keepdims=True)
        leave = at + inside * way
        back = -(leave - np.asarray(ball.centre, np.float32)) / np.float32(ball.radius)
        cosine_out = np.clip(-(inside * back).sum(-1, keepdims=True), 0, 1)
        bent = np.maximum(1 - 2.25 * (1 - cosine_out**2), 0)
        away = _unit(inside * 1.5 + back * (1.5 * cosine_out - np.sqrt(bent)))
        through = self._trace(leave + away * 1e-3, away, depth - 1)
        if ball.stuff != "glass":
            through = through * np.exp(-way * rgb(3.4, 0.35, 2.2))
        bounce = _unit(ray + 2 * cosine * normal)
        mirrored = self._trace(at + normal * 1e-3, bounce, 0)
        return mix(through * rgb(0.97, 0.985, 0.98), np.minimum(mirrored, 14), 0.04 + 0.96 * (1 - cosine) ** 5)

    def _trace(self, at: Array, ray: Array, depth: int, sharp: bool | None = None) -> Array:
        """Light that comes back along ``ray`` from what it meets; ``sharp`` limits the balls that it can meet."""
        nearest = np.where(ray[:, 1] < -1e-4, -at[:, 1] / np.minimum(ray[:, 1], -1e-4), np.float32(1e9))
        nearest = np.where((nearest > 1e-3) & (nearest * ray[:, 2] + at[:, 2] < 8.5), nearest, np.float32(1e9))
        which = np.where(nearest < 1e8, -1, -2)
        for number, ball in enumerate(_BALLS):
            if sharp is not None and ball.sharp != sharp:
                continue
            to = at - np.asarray(ball.centre, np.float32)
            b = (to * ray).sum(-1)
            root = b * b - (to * to).sum(-1) + ball.radius**2
            meet = -b - np.sqrt(np.maximum(root, 0))
            nearer = (root > 0) & (meet > 2e-3) & (meet < nearest)
            nearest = np.where(nearer, meet, nearest)
            which = np.where(nearer, number, which)
        colour = np.empty_like(ray)
        sky = which == -2
        colour[sky] = self._surroundings(ray[sky])
        for number in (-1, *range(len(_BALLS))):
            mask = which == number
            if mask.any():
                points = at[mask] + ray[mask] * nearest[mask][:, None]
                if number == -1:
                    colour[mask] = self._table(points, ray[mask], depth)
                else:
                    colour[mask] = self._ball(_BALLS[number], points, ray[mask], depth)
        return colour

    def frame(self, t: float) -> Array:
        """The picture at ``t`` seconds."""
        angle = -0.24 + 0.105 * t
        eye = rgb(6.9 * np.sin(angle), 2.35 - 0.06 * t, -6.9 * np.cos(angle)) * np.float32(1.0 - 0.012 * t)
        ahead = _unit(rgb(0.08, 0.80, 0.1) - eye)
        right = _unit(np.cross(rgb(0, 1, 0), ahead))
        up = np.cross(ahead, right)
        x, y = pixels(_SCALE)
        rays = (x - WIDTH / 2)[..., None] * right - (y - HEIGHT / 2)[..., None] * up + _FOCAL * ahead
        rays = _unit(rays.astype(np.float32))
        shape = rays.shape
        rays = rays.reshape(-1, 3)
        origin = np.broadcast_to(eye, rays.shape)
        behind = self._trace(origin, rays, 1, sharp=False).reshape(shape)
        behind = np.minimum(resize(behind, WIDTH, HEIGHT, Image.Resampling.BOX), 12.0)
        picture = self._defocus(behind, eye, ahead, right, up)

        near, cover = np.zeros_like(rays), np.zeros(len(rays), np.float32)
        hit = np.zeros(len(rays), bool)
        for ball in _BALLS:
            if ball.sharp:
                to = eye - np.asarray(ball.centre, np.float32)
                b = rays @ to
                hit |= b * b - to @ to + ball.radius**2 > 0
        near[hit] = self._trace(origin[hit], rays[hit], 3, sharp=None)
        cover[hit] = 1
        alpha = resize(cover.reshape(shape[:2]), WIDTH, HEIGHT, Image.Resampling.BOX)
        front = resize(np.minimum(near, 16).reshape(shape), WIDTH, HEIGHT, Image.Resampling.BOX)
        return picture * (1 - alpha[..., None]) + front

    def _defocus(self, picture: Array, eye: Array, ahead: Array, right: Array, up: Array) -> Array:
        """Blur that grows with the distance from the plane of focus; on the table that distance depends on the row."""
        x, y = pixels()
        rays = _unit(
            ((x - WIDTH / 2)[..., None] * right - (y - HEIGHT / 2)[..., None] * up + _FOCAL * ahead).astype(np.float32)
        )
        drop = rays[..., 1]
        far = np.where(drop < -1e-3, np.minimum(-eye[1] / np.minimum(drop, -1e-3), 40.0), 40.0)
        focus = np.linalg.norm(eye - rgb(0, 0.5, -0.7))
        wide = np.clip(60.0 * np.abs(1 / focus - 1 / np.clip(far, 1, 60)) * 2.6, 0, 16)
        for ball in _BALLS:
            if not ball.sharp:
                to = np.asarray(ball.centre, np.float32) - eye
                along = (rays @ to).astype(np.float32)
                away = np.sqrt(np.maximum(to @ to - along**2, 0))
                mine = min(60.0 * abs(1 / focus - 1 / float(np.linalg.norm(to))) * 2.6, 16.0)
                inside = smoothstep(ball.radius * 1.12, ball.radius * 0.98, away)
                wide = wide * (1 - inside) + mine * inside
        levels = [0.0, 1.2, 2.4, 4.5, 8.0, 16.0]
        stack = [picture, *(blur(picture, sigma) for sigma in levels[1:])]
        result = np.zeros_like(picture)
        for number, level in enumerate(levels):
            lower = levels[number - 1] if number else -1.0
            upper = levels[number + 1] if number + 1 < len(levels) else 1e9
            rising = np.clip((wide - lower) / (level - lower), 0, 1)
            falling = np.clip((upper - wide) / (upper - level), 0, 1)
            result += np.minimum(rising, falling)[..., None] * stack[number]
        return result
