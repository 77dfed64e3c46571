"""What is drawn into a picture: rolling score, percentile, frame score and a graph of the last window, per bundle.

Everything lies on a dark translucent strip, so that it can be read on any background; bundles are stacked from the
bottom. Bundles that were never trained carry an amber UNTRAINED bar. Attention lies over the frame as a heat map.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..reading import Reading
from ..shown import NewestOutputs
from .base import SinkContext
from .heat import Box, HeatMap

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

UNTRAINED = "UNTRAINED: scores mean nothing"
FILLING = ", filling"
_POINTS = 240
_SPAN = 0.3
_BACK = (10, 12, 16, 185)
_WHITE = (255, 255, 255, 255)
_SOFT = (196, 203, 214, 255)
_LINE = (94, 205, 255, 255)
_DOT = (255, 255, 255, 120)
_GRID = (255, 255, 255, 46)
_AMBER = (255, 178, 36, 255)
_INK = (24, 16, 0, 255)
# Flags that a viewer should see; the others are everyday ones.
_SHOWN_FLAGS = ("black", "frozen", "corrupt", "reconnected", "dropped", "out_of_domain", "static")


class History:
    """The last window of one bundle's scores, thinned to at most 241 points however fast the source is."""

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self._step = window_s / _POINTS
        self.points: deque[tuple[float, float | None, float | None]] = deque()

    def add(self, time_s: float, rolling: float | None, score: float | None) -> None:
        """One reading; a time before the last one starts anew."""
        if self.points and time_s < self.points[-1][0]:
            self.points.clear()
        if self.points and self._cell(time_s) == self._cell(self.points[-1][0]):
            kept = self.points.pop()
            score = kept[2] if score is None else score
        self.points.append((time_s, rolling, score))
        while self.points[0][0] <= time_s - self.window_s:
            self.points.popleft()

    def _cell(self, time_s: float) -> int:
        return math.floor(time_s / self._step)


def value_range(values: list[float]) -> tuple[float, float]:
    """Lower and upper end of a graph, on tenths, at least 0.3 apart, inside 0..1 where the values are."""
    low, high = (min(values), max(values)) if values else (0.35, 0.65)
    low, high = math.floor(low * 10 - 0.05) / 10, math.ceil(high * 10 + 0.05) / 10
    while high - low < _SPAN - 1e-9:
        low, high = low - 0.1, high + 0.1
    if min(values, default=0.0) >= 0 and low < 0:
        low, high = 0.0, max(high, _SPAN)
    if max(values, default=1.0) <= 1 and high > 1:
        low, high = min(low, 1 - _SPAN), 1.0
    return round(low, 1), round(high, 1)


class Overlay:
    """Draws the newest readings of every bundle of one source.

    Args:
        context: of the source; its order of bundles is the order from top to bottom.
    """

    def __init__(self, context: SinkContext) -> None:
        self._context = context
        self._newest: dict[str, Reading] = {}
        self._histories: dict[str, History] = {}
        self._fonts: dict[int, FreeTypeFont | ImageFont] = {}
        self._outputs = {bundle: NewestOutputs(shown) for bundle, shown in context.shown.items()}
        self._heat: tuple[tuple[str, str, float], HeatMap] | None = None

    def update(self, reading: Reading) -> None:
        """The newest reading of its bundle."""
        self._newest[reading.bundle] = reading
        history = self._histories.setdefault(reading.bundle, History(self._context.window_s))
        history.add(reading.time_s, reading.rolling, reading.score)
        if reading.bundle in self._outputs:
            self._outputs[reading.bundle].update(reading)

    def heat(self) -> HeatMap | None:
        """The newest attention that still stands, of the first bundle that gives some; none without."""
        for bundle, outputs in self._outputs.items():
            for shown, time_s, value in outputs.values("attention"):
                key = (bundle, shown.name, time_s)
                if self._heat is None or self._heat[0] != key:
                    self._heat = key, HeatMap(value, shown.contract)
                return self._heat[1]
        return None

    def draw(self, picture: NDArray[np.uint8], size: tuple[int, int] | None = None, box: Box | None = None) -> None:
        """Draw in place.

        Args:
            picture: RGB uint8 ``[height, width, 3]``.
            size: width and height of the frame as it was displayed to the networks; none: the picture's.
            box: where the frame lies on the picture; none: it fills it.
        """
        from PIL import Image

        height, width = picture.shape[:2]
        heat = self.heat()
        if heat is not None:
            heat.draw(picture, size or (width, height), box)
        unit = max(3.0, min(width / 56, height / 32))
        bundles = [b for b in self._context.bundles if b in self._newest] or list(self._newest)
        bottom = height - round(unit * 0.8)
        for bundle in reversed(bundles):
            panel = self._panel(bundle, width - 2 * round(unit * 0.8), unit)
            left, top = round(unit * 0.8), bottom - panel.height
            if top < 0:
                break  # a picture too low for all its bundles shows the last ones
            part = picture[top:bottom, left : left + panel.width]
            base = Image.fromarray(np.ascontiguousarray(part))
            base.paste(panel, mask=panel)
            part[:] = np.asarray(base)
            bottom = top - round(unit * 0.5)

    def _panel(self, bundle: str, width: int, unit: float) -> Image:
        from PIL import Image, ImageDraw

        reading, untrained = self._newest[bundle], bundle in self._context.untrained
        bar = round(unit * 1.7) if untrained else 0
        further = self._outputs[bundle].text() if bundle in self._outputs else ""
        height = round(unit * 5.4) + bar + (round(unit * 1.5) if further else 0)
        panel = Image.new("RGBA", (max(1, width), height), (0, 0, 0, 0))
        draw = ImageDraw.Draw(panel)
        draw.rounded_rectangle((0, 0, width - 1, height - 1), round(unit * 0.5), fill=_BACK)
        if untrained:
            draw.rounded_rectangle((0, 0, width - 1, bar - 1), round(unit * 0.5), fill=_AMBER)
            draw.text((width / 2, bar / 2), UNTRAINED, font=self._font(unit * 1.2), fill=_INK, anchor="mm")
        if further:
            font, place = self._font(unit * 1.05), (unit * 0.9, height - unit * 0.75)
            draw.text(place, _fit(draw, further, font, width - 1.8 * unit), font=font, fill=_SOFT, anchor="ls")
            height -= round(unit * 1.5)
        left = unit * 0.9
        waiting = "" if reading.complete else FILLING
        caption = f"rolling {self._context.window_s:g} s{waiting}"
        left = self._figure(draw, left, bar, unit, _number(reading.rolling), caption, 3.2)
        if reading.percentile is not None and left + 6 * unit < width:
            left = self._figure(draw, left, bar, unit, f"{reading.percentile:.0f}", "percentile", 2.2)
        if left + 6 * unit < width:
            left = self._figure(draw, left, bar, unit, _number(reading.score), "this frame", 2.2)
        if width - left >= 9 * unit:
            self._graph(panel, draw, bundle, (round(left), bar, width, height), unit)
        return panel

    def _figure(
        self, draw: ImageDraw, left: float, top: float, unit: float, text: str, caption: str, size: float
    ) -> float:
        """A large figure above its caption; returns where the next one starts."""
        large, small = self._font(unit * size), self._font(unit * 1.05)
        draw.text((left, top + unit * 3.55), text, font=large, fill=_WHITE, anchor="ls")
        draw.text((left, top + unit * 4.85), caption, font=small, fill=_SOFT, anchor="ls")
        # The room of a filling window's caption is kept, so that nothing moves once it is full.
        widest = caption if "rolling" not in caption else caption.partition(",")[0] + FILLING
        wide = max(draw.textlength(text, font=large), draw.textlength(widest, font=small), unit * 4)
        return left + wide + unit * 1.2

    def _graph(self, panel: Image, draw: ImageDraw, bundle: str, box: tuple[int, int, int, int], unit: float) -> None:
        """Label and time above a graph of the last window: rolling score as a line, frame scores as dots."""
        from PIL import Image, ImageDraw

        reading, history = self._newest[bundle], self._histories[bundle]
        small = self._font(unit * 1.05)
        left, top, right, bottom = box[0], box[1] + unit * 1.75, box[2] - unit * 3.0, box[3] - unit * 0.75
        target = self._context.primary.get(bundle, "")
        flags = [flag for flag in reading.flags if flag in _SHOWN_FLAGS]
        now = f"{reading.time_s:.1f} s"
        room = right - left - draw.textlength(now, font=small) - unit
        label = _fit(draw, "  ".join([" \u00b7 ".join(filter(None, (bundle, target))), *flags]), small, room)
        draw.text((left, box[1] + unit * 1.35), label, font=small, fill=_SOFT, anchor="ls")
        draw.text((right, box[1] + unit * 1.35), now, font=small, fill=_SOFT, anchor="rs")
        values = [v for _, rolling, score in history.points for v in (rolling, score) if v is not None]
        low, high = value_range(values)
        # Drawn at twice the size and reduced: Pillow's lines have steps.
        wide, tall = max(2, round(right - left)) * 2, max(2, round(bottom - top)) * 2
        graph = Image.new("RGBA", (wide, tall), (94, 205, 255, 0))
        pen = ImageDraw.Draw(graph)
        end, thick = reading.time_s, max(2, round(unit * 0.3))

        def place(time_s: float, value: float) -> tuple[float, float]:
            x = (1 - (end - time_s) / history.window_s) * (wide - 1)
            return x, (high - value) / (high - low) * (tall - 1 - 2 * thick) + thick

        for value in (low, high):
            pen.line((*place(end - history.window_s, value), *place(end, value)), fill=_GRID, width=2)
        dot = max(1.0, unit * 0.14)
        for time_s, _, score in history.points:
            if score is not None:
                x, y = place(time_s, score)
                pen.ellipse((x - dot, y - dot, x + dot, y + dot), fill=_DOT)
        line = [place(time_s, rolling) for time_s, rolling, _ in history.points if rolling is not None]
        if len(line) > 1:
            pen.line(line, fill=_LINE, width=thick, joint="curve")
        if line:
            x, y = line[-1]
            pen.ellipse((x - 2 * thick, y - 1.4 * thick, x + 0.8 * thick, y + 1.4 * thick), fill=_LINE)
        panel.alpha_composite(graph.reduce(2), (round(left), round(top)))
        for value, y in ((high, top), (low, bottom)):
            draw.text((right + unit * 0.5, y), f"{value:.1f}", font=self._font(unit * 0.95), fill=_SOFT, anchor="lm")

    def _font(self, size: float) -> FreeTypeFont | ImageFont:
        from PIL import ImageFont

        pixels = max(7, round(size))
        if pixels not in self._fonts:
            if len(self._fonts) > 64:
                self._fonts.clear()
            self._fonts[pixels] = ImageFont.load_default(pixels)
        return self._fonts[pixels]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _fit(draw: ImageDraw, text: str, font: FreeTypeFont | ImageFont, room: float) -> str:
    """The text, or its beginning with an ellipsis where it is longer than ``room`` pixels."""
    if draw.textlength(text, font=font) <= room:
        return text
    while text and draw.textlength(text + "...", font=font) > room:
        text = text[:-1]
    return text + "..." if text else ""
