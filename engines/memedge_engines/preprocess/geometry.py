"""Sizes and offsets of the preprocess contract, in torchvision's rules, on the picture as it is displayed.

``short_side`` s: the short side becomes s, the long one int(s * long / short). ``exact``: [height, width]. A centre
crop starts at int(round((side - crop) / 2)) with Python's round (half to even). All sizes are those after rotation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import PreprocessError
from ..manifest import Preprocess

RESIZED_PIXEL_LIMIT = 1 << 24
"""Largest resized picture in pixels (4096 x 4096, 48 MiB of RGB); larger ones come from extreme aspect ratios."""

BETWEEN_PIXEL_LIMIT = 1 << 26
"""Largest picture between the horizontal and the vertical pass of a resize, in pixels."""


@dataclass(frozen=True)
class Geometry:
    """What a contract does to a picture of one displayed size.

    Attributes:
        source_w, source_h: displayed size of the picture.
        resized_w, resized_h: size after the resize rule.
        left, top: offset of the crop in the resized picture.
        out_w, out_h: size of the result.
    """

    resized_w: int
    resized_h: int
    left: int
    top: int
    out_w: int
    out_h: int
    source_w: int
    source_h: int

    @property
    def resizes(self) -> bool:
        """Whether the resize rule changes the size."""
        return (self.resized_w, self.resized_h) != (self.source_w, self.source_h)

    @property
    def averages(self) -> bool:
        """Whether both axes shrink to half or less: rare one-level differences of single source pixels then vanish."""
        return self.source_w >= 2 * self.resized_w and self.source_h >= 2 * self.resized_h

    def unrotated(self, rotation: int) -> Geometry:
        """The same work on the stored picture, which is displayed after ``rotation`` degrees clockwise."""
        right = self.resized_w - self.left - self.out_w
        bottom = self.resized_h - self.top - self.out_h
        if rotation == 0:
            return self
        if rotation == 180:
            return replace(self, left=right, top=bottom)
        left, top = (self.top, right) if rotation == 90 else (bottom, self.left)
        return Geometry(self.resized_h, self.resized_w, left, top, self.out_h, self.out_w, self.source_h, self.source_w)


def geometry(contract: Preprocess, width: int, height: int) -> Geometry:
    """Geometry of ``contract`` on a picture displayed at ``width`` x ``height`` pixels.

    Raises:
        PreprocessError: a rule without its size, a crop larger than the resized picture, or a resized picture above
            :data:`RESIZED_PIXEL_LIMIT`.
    """
    if width < 1 or height < 1:
        raise PreprocessError(f"picture of {width}x{height} pixels; both sides must be at least 1")
    resized_w, resized_h = _resized(contract, width, height)
    if (resized_w, resized_h) != (width, height) and resized_w * resized_h > RESIZED_PIXEL_LIMIT:
        raise PreprocessError(
            f"a picture of {width}x{height} would be resized to {resized_w}x{resized_h}, above the limit of "
            f"{RESIZED_PIXEL_LIMIT} pixels",
            fix="crop the picture to a less extreme aspect ratio",
        )
    between = max(resized_w * height, width * resized_h)
    if (resized_w, resized_h) != (width, height) and between > BETWEEN_PIXEL_LIMIT:
        raise PreprocessError(
            f"resizing {width}x{height} to {resized_w}x{resized_h} needs {between} pixels between its two passes; "
            f"the limit is {BETWEEN_PIXEL_LIMIT}",
            fix="crop the picture to a less extreme aspect ratio",
        )
    crop = contract.crop
    if crop.rule == "none":
        return Geometry(resized_w, resized_h, 0, 0, resized_w, resized_h, width, height)
    if crop.size is None:
        raise PreprocessError("crop rule 'center' without a size; expected [height, width]")
    out_h, out_w = crop.size
    if out_w < 1 or out_h < 1:
        raise PreprocessError(f"crop to {out_w}x{out_h} pixels; both sides must be at least 1")
    if out_w > resized_w or out_h > resized_h:
        raise PreprocessError(
            f"crop to {out_w}x{out_h} is larger than the resized picture, {resized_w}x{resized_h} "
            f"(picture of {width}x{height})"
        )
    left, top = round((resized_w - out_w) / 2), round((resized_h - out_h) / 2)
    return Geometry(resized_w, resized_h, left, top, out_w, out_h, width, height)


def _resized(contract: Preprocess, width: int, height: int) -> tuple[int, int]:
    """(width, height) after the resize rule."""
    rule, size = contract.resize.rule, contract.resize.size
    if rule == "none":
        return width, height
    if rule == "short_side":
        if not isinstance(size, int) or size < 1:
            raise PreprocessError(f"resize rule 'short_side' with size {size}; expected one positive number of pixels")
        short, long = min(width, height), max(width, height)
        scaled = int(size * long / short)
        return (size, scaled) if width <= height else (scaled, size)
    if not isinstance(size, tuple) or min(size) < 1:
        raise PreprocessError(f"resize rule 'exact' with size {size}; expected [height, width], both at least 1")
    return size[1], size[0]
