"""A harbour city at night: lit towers in three depths, reflections, a bridge with traffic, lights out of focus."""

from __future__ import annotations

import numpy as np

from .paint import HEIGHT, WIDTH, Array, blur, mix, noise, over, pixels, rgb, sample, smoothstep

_FINE = 2  # towers are painted at twice the size and averaged down while they move
_WATER = 470
_WARM = (rgb(1.0, 0.62, 0.26), rgb(1.0, 0.78, 0.46), rgb(0.95, 0.90, 0.78), rgb(0.55, 0.78, 1.0))


class Scene:
    """The camera glides along the quay; near things pass faster than far ones."""

    exposure = 1.0
    bloom = 0.11

    def __init__(self) -> None:
        self._layers = [
            (_towers(71, 2400, 60, (90, 215), 4, 0.40, rgb(0.030, 0.034, 0.060)), 5.0, 0.55),
            (_towers(72, 2600, 38, (90, 300), 5, 0.46, rgb(0.016, 0.018, 0.034)), 11.0, 0.85),
            (_towers(73, 2800, 20, (50, 170), 7, 0.44, rgb(0.008, 0.009, 0.016)), 21.0, 1.15),
        ]
        self._clouds = noise(74, 1024, 5, 7, 0.52)
        self._ripples = noise(75, 1024, 36, 5, 0.58)
        dice = np.random.default_rng(76)
        self._stars = dice.uniform(0, 1, (190, 3)).astype(np.float32)
        self._cars = dice.uniform(0, 1, (34, 4)).astype(np.float32)
        self._lamps = dice.uniform(0, 1, (30, 6)).astype(np.float32)

    def _sky(self, t: float) -> Array:
        x, y = pixels()
        high = np.clip(1 - y / _WATER, 0, 1)
        city = np.exp(-high * 3.4)[..., None]
        sky = mix(rgb(0.006, 0.012, 0.042), rgb(0.012, 0.020, 0.055), high[..., None] * 0 + 0.5) + city * rgb(
            0.20, 0.085, 0.055
        )
        sky = sky + 0 * x[..., None]
        for px, py, size in self._stars:
            cx, cy = int(px * WIDTH), int(py * 300)
            twinkle = 0.7 + 0.3 * np.sin(9 * t + 60 * px)
            sky[cy, cx] += 0.55 * size**3 * twinkle * (1 - cy / 330)
        # The moon with seas on it, behind thin clouds that it lights.
        dx, dy = x - (934 - 1.5 * t), y - 118
        away = np.hypot(dx, dy)
        seas = sample(self._clouds, dx / 190 + 0.2 + 0 * dy, dy / 190 + 0.7 + 0 * dx)
        disc = smoothstep(43.5, 41.5, away)
        limb = np.sqrt(np.clip(1 - (away / 43) ** 2, 0, 1)) ** 0.35
        sky = over(sky, (rgb(0.95, 0.88, 0.74) * (0.80 + 0.75 * seas[..., None]) * limb[..., None]), disc)
        sky = sky + (0.30 * np.exp(-away / 58) + 0.05 * np.exp(-away / 260))[..., None] * rgb(0.55, 0.62, 0.80)
        far = 1 / (high + 0.22)
        puff = sample(self._clouds, (x - 640) / 1500 * far + 0.012 * t, 0.32 * far + 0 * x)
        cover = smoothstep(-0.05, 0.65, puff)
        lit = rgb(0.010, 0.013, 0.030) + city * rgb(0.30, 0.125, 0.075)
        lit = lit + (0.34 * np.exp(-away / 150))[..., None] * rgb(0.6, 0.66, 0.8) * (1 - 0.6 * cover[..., None])
        return over(sky, lit, 0.8 * cover)

    def _city(self, t: float) -> Array:
        picture = self._sky(t)
        for number, ((colour, mask, lights), speed, haze) in enumerate(self._layers):
            offset = 60 + speed * t
            part, cover, glow = (_slide(plane, offset) for plane in (colour, mask, lights))
            flicker = 1.0 + 0.05 * np.sin(7.0 * t + 13 * number)
            front = part + glow * np.float32(flicker * haze)
            tall = front.shape[0]
            picture[_WATER - tall : _WATER] = over(picture[_WATER - tall : _WATER], front, cover)
            if number < 2:
                rise = smoothstep(_WATER - 150, _WATER, pixels()[1])[..., None]
                picture = (
                    picture + (0.055 - 0.02 * number) * rise * rgb(1.0, 0.50, 0.30) * (pixels()[1] < _WATER)[..., None]
                )
        self._bridge(picture, t)
        return picture

    def _bridge(self, picture: Array, t: float) -> None:
        """A suspension bridge in front of the right half, with a lamp at every hanger and cars in both directions."""
        x, y = pixels()
        shift = 26.0 * t
        deck = 432.0
        for tower in (560.0, 1120.0):
            px = tower - shift * 0.9
            body = smoothstep(7.5, 6.3, np.abs(x - px)) * smoothstep(246, 248, y) * (y < _WATER)
            lattice = 0.6 + 0.4 * smoothstep(0.2, 0.6, np.abs(np.sin((y - 250) * 0.11)) + 0 * x)
            light = np.exp(-np.abs(y - 262) / 60) + 0.35 * np.exp(-np.abs(y - deck) / 26)
            picture[:] = over(
                picture, rgb(0.55, 0.36, 0.20) * (light * lattice)[..., None] + rgb(0.012, 0.010, 0.012), body
            )
        middle, half = 840.0 - shift * 0.9, 280.0
        off = (x - middle) / half
        span = np.abs(off) <= 1
        outside = np.where(off > 1, (off - 1) / 1.2, (-1 - off) / 1.2)
        cable = np.where(span, 395 - 145 * off**2, 0) + np.where(span, 0, 250 + 182 * np.clip(outside, 0, 1) ** 0.8)
        line = smoothstep(1.5, 0.5, np.abs(y - cable)) * (cable < deck)
        picture[:] = over(picture, rgb(0.24, 0.17, 0.12) + 0 * picture, 0.85 * line)
        hanger = (
            smoothstep(0.9, 0.2, np.abs((x - middle) - 17.5 * np.round((x - middle) / 17.5))) * (y > cable) * (y < deck)
        )
        picture[:] = over(picture, rgb(0.09, 0.07, 0.06) + 0 * picture, 0.5 * hanger * (cable < deck))
        road = smoothstep(4.5, 3.2, np.abs(y - deck - 2)) + 0 * x
        picture[:] = over(picture, rgb(0.10, 0.062, 0.036) + 0 * picture, 0.95 * road)
        for place in np.arange(-40, 60):
            px = middle + 17.5 * place
            if -5 < px < WIDTH + 5:
                offset = (px - middle) / half
                self._dot(picture, px, deck - 6, 1.25, rgb(3.4, 2.1, 1.0))
                if abs(offset) <= 1 and place % 2 == 0:
                    self._dot(picture, px, 395 - 145 * offset**2 - 1, 1.0, rgb(1.2, 1.5, 2.1))
        for start, pace, lane, kind in self._cars:
            forward = lane > 0.5
            speed = (52 + 46 * pace) * (1 if forward else -1) - 26 * 0.9
            px = (start * 1500 + speed * t) % 1500 - 110
            colour = rgb(5.2, 4.7, 3.9) if forward else rgb(5.6, 0.45, 0.2)
            for gap in (0.0, 3.4):
                self._dot(
                    picture, px + gap, deck + (1.6 if forward else -0.6), 1.15, colour * np.float32(0.5 + 0.5 * kind)
                )

    @staticmethod
    def _dot(picture: Array, px: float, py: float, radius: float, colour: Array) -> None:
        """Adds one small light, at its place between the pixels."""
        x0, y0 = int(px) - 5, int(py) - 5
        if x0 < 0 or y0 < 0 or x0 + 11 > WIDTH or y0 + 11 > HEIGHT:
            return
        dx = np.arange(x0, x0 + 11, dtype=np.float32)[None, :] + 0.5 - px
        dy = np.arange(y0, y0 + 11, dtype=np.float32)[:, None] + 0.5 - py
        picture[y0 : y0 + 11, x0 : x0 + 11] += np.exp(-(dx * dx + dy * dy) / (radius * radius))[..., None] * colour

    def _water(self, city: Array, t: float) -> Array:
        """Reflections drawn out downwards and broken by waves; smaller waves farther away."""
        picture = city
        x, y = pixels()
        drop = y[_WATER:] - _WATER
        above = city[_WATER - 420 : _WATER][::-1]
        drawn = 0.35 * blur(above, 3) + 0.65 * blur(np.minimum(above, 9), 13, axes=(0,))
        drawn = 0.6 * drawn + 0.4 * blur(np.minimum(above, 9), 46, axes=(0,))
        far = 90.0 / (drop + 7)
        wave = sample(self._ripples, (x - 640) / 1000 * far + 0.026 * t, 0.75 * far - 0.030 * t + 0 * x)
        fine = sample(self._ripples, (x - 640) / 420 * far - 0.02 * t, 1.9 * far - 0.085 * t + 0 * x)
        reach = 3 + 0.085 * drop
        rows = np.clip(drop * 1.25 + reach * (2.4 * wave + 1.7 * fine), 0, 419)
        columns = np.clip(x + reach * (0.45 * wave + 0.8 * fine), 0, WIDTH - 1)
        seen = drawn[rows.astype(np.int32), columns.astype(np.int32)]
        facing = 0.32 + 0.50 * np.exp(-drop / 120) + 0.34 * np.clip(wave + fine, -0.6, 1.2)
        picture[_WATER:] = rgb(0.002, 0.005, 0.012) + seen * np.clip(facing, 0.03, 1.4)[..., None] * rgb(0.9, 0.95, 1.0)
        edge = np.exp(-np.abs(y - _WATER - 1.0) / 1.6)
        return picture * (1 - 0.75 * edge[..., None])

    def _discs(self, picture: Array, t: float) -> Array:
        """Lamps on the near quay, far out of focus: bright-edged discs that overlap."""
        x, y = pixels()
        for px, py, size, hue, strength, pace in self._lamps:
            radius = 20 + 50 * size**1.6
            cx = (px * 1720 - (62 + 80 * size) * t * (0.8 + 0.4 * pace)) % 1720 - 200
            cy = 595 + 120 * (py - 0.3) + 9 * np.sin(t * 1.1 + 6 * hue)
            x0, x1 = int(max(cx - radius - 2, 0)), int(min(cx + radius + 3, WIDTH))
            y0, y1 = int(max(cy - radius - 2, 0)), int(min(cy + radius + 3, HEIGHT))
            if x0 >= x1 or y0 >= y1:
                continue
            away = np.hypot(x[:, x0:x1] - cx, y[y0:y1] - cy) / radius
            disc = smoothstep(1.0, 1.0 - 2.4 / radius, away) * (0.62 + 0.55 * smoothstep(0.62, 1.0, away))
            colour = (rgb(1.0, 0.52, 0.18), rgb(1.0, 0.26, 0.16), rgb(0.26, 0.75, 0.95), rgb(1.0, 0.80, 0.45))[
                int(hue * 3.999)
            ]
            picture[y0:y1, x0:x1] += (0.16 + 0.30 * strength) * disc[..., None] * colour
        return picture

    def frame(self, t: float) -> Array:
        """The picture at ``t`` seconds."""
        return self._discs(self._water(self._city(t), t), t)


def _slide(plane: Array, offset: float) -> Array:
    """The part of a layer that is seen at ``offset`` pixels, at the clip's size."""
    left = offset * _FINE
    first = int(left)
    width = WIDTH * _FINE
    part = plane[:, first : first + width + 1]
    share = np.float32(left - first)
    part = part[:, :-1] * (1 - share) + part[:, 1:] * share
    height = part.shape[0] // _FINE
    shaped = part.reshape(height, _FINE, WIDTH, _FINE, *part.shape[2:])
    return np.asarray(shaped.mean((1, 3)), np.float32)


def _towers(
    seed: int, width: int, count: int, heights: tuple[int, int], cell: int, lit: float, wall: Array
) -> tuple[Array, Array, Array]:
    """A row of towers: walls and window lights [h, w, 3], coverage [h, w], at ``_FINE`` times the clip's size."""
    dice = np.random.default_rng(seed)
    tall = heights[1] + 60
    h, w = tall * _FINE, width * _FINE
    colour, light = np.zeros((h, w, 3), np.float32), np.zeros((h, w, 3), np.float32)
    cover = np.zeros((h, w), np.float32)
    rows = np.arange(h, dtype=np.float32)
    for left in np.sort(dice.uniform(-40, w / _FINE, count * 2)):
        wide = int(dice.uniform(3.6, 9.5)) * cell
        high = int(dice.uniform(*heights) * (0.55 + 0.45 * dice.uniform()))
        x0, y0 = int(left) * _FINE, h - high * _FINE
        x1 = min(x0 + wide * _FINE, w)
        if x0 < 0 or x1 - x0 < cell * _FINE * 2:
            continue
        base = wall * np.float32(dice.uniform(0.6, 1.5))
        side = smoothstep(x0, x1, np.arange(x0, x1, dtype=np.float32))
        # The street's light climbs the walls.
        climb = np.exp(-(h - rows[y0:]) / (46 * _FINE))[:, None, None]
        colour[y0:, x0:x1] = base * (1.25 - 0.6 * side[None, :, None]) + climb * rgb(0.085, 0.042, 0.022)
        cover[y0:, x0:x1] = 1
        light[y0:, x0:x1] = 0
        pane_w, pane_h = cell * _FINE, int(cell * dice.choice([0.7, 1.0, 1.25])) * _FINE
        columns, floors = (x1 - x0) // pane_w, (h - y0) // pane_h
        share = lit * dice.uniform(0.45, 1.25)
        taste = _WARM[int(dice.choice(4, p=[0.4, 0.32, 0.18, 0.1]))]
        on = dice.uniform(size=(floors, columns)) < share
        on &= dice.uniform(size=(floors, 1)) > 0.12
        level = (dice.uniform(0.15, 1.0, (floors, columns)) ** 2 * 1.5 * on).astype(np.float32)
        tint = taste * dice.uniform(0.8, 1.2, (floors, columns, 3)).astype(np.float32)
        pane = np.zeros((pane_h, pane_w), np.float32)
        pane[max(1, pane_h // 5) : pane_h - max(1, pane_h // 5), max(1, pane_w // 6) : pane_w - max(1, pane_w // 6)] = 1
        pane *= np.linspace(1.15, 0.7, pane_h, dtype=np.float32)[:, None]
        grid = np.kron(level[..., None] * tint, pane[..., None])
        light[y0 + 3 : y0 + 3 + grid.shape[0], x0 : x0 + grid.shape[1]] = grid[: h - y0 - 3]
        if dice.uniform() < 0.35:
            mast = int(dice.uniform(14, 44)) * _FINE
            cx = (x0 + x1) // 2
            top = max(0, y0 - mast)
            cover[top:y0, cx - 1 : cx + 1] = 1
            colour[top:y0, cx - 1 : cx + 1] = base
        if dice.uniform() < 0.4:
            crown = (rgb(0.2, 0.75, 1.3), rgb(1.4, 0.35, 0.5), rgb(1.3, 0.85, 0.35))[int(dice.integers(3))]
            light[y0 : y0 + 2 * _FINE, x0:x1] = crown * np.float32(0.9)
    return colour, cover, light
