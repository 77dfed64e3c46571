"""Pictures: decoded by Pillow, without draft mode, turned as EXIF says.

To RGB as Pillow's ``convert("RGB")``: grey repeated, CMYK by the plain formula, palettes by their colours, alpha
dropped (not composited). 16-bit grey is scaled to 8 bits with rounding: ``(v * 255 + 32767) // 65535``; where Pillow
itself hands out 8 bits (16-bit RGB) its high byte is used. 32-bit integers count as 16-bit ones and floats as 0..255,
both clipped. Of an animation (``.gif``, ``.webp``, ``.png``) the first picture counts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memedge_engines.frame import Frame

from ..errors import PictureError, SourceError
from .base import DEFAULT_PIXEL_LIMIT, Source, SourceInfo, SourceOptions

if TYPE_CHECKING:
    from PIL import Image

_header_lock = threading.Lock()


def load_picture(path: str | Path, pixel_limit: int = DEFAULT_PIXEL_LIMIT) -> NDArray[np.uint8]:
    """A picture file as upright RGB uint8 ``[height, width, 3]``.

    Args:
        path: any format that Pillow reads.
        pixel_limit: larger pictures are refused from their header, before anything is decoded.

    Raises:
        PictureError: missing, unreadable, empty, no picture, truncated, damaged, or above the limit.
    """
    from PIL import ImageOps

    file = Path(path).expanduser()
    image = _open(file, str(path), pixel_limit)
    with image:
        try:
            image.load()
        except MemoryError:
            raise PictureError(f"{path}: not enough memory for {image.width}x{image.height} pixels") from None
        except Exception as error:  # Pillow's plugins raise whatever their format's damage leads to
            raise PictureError(f"{path}: damaged or truncated picture: {error or type(error).__name__}") from None
        try:
            upright = ImageOps.exif_transpose(image)
        except Exception:  # a damaged EXIF block says nothing; the pixels are good
            upright = image
        return to_rgb8(upright)


def _open(file: Path, name: str, pixel_limit: int) -> Image.Image:
    """Read the header. Raises PictureError."""
    from PIL import Image, UnidentifiedImageError

    from .decoder import check_file

    try:
        check_file(file, name)
    except SourceError as error:
        raise PictureError(error.message, fix=error.fix) from None
    # Pillow's own limit warns or raises in `open`; ours replaces it for this one call.
    with _header_lock:
        theirs, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(file)
        except UnidentifiedImageError:
            raise PictureError(f"{name}: not a picture that Pillow can read, or damaged from its start") from None
        except Exception as error:
            raise PictureError(f"{name}: cannot be read: {error or type(error).__name__}") from None
        finally:
            Image.MAX_IMAGE_PIXELS = theirs
    if image.width * image.height > pixel_limit:
        size = f"{image.width}x{image.height}"
        image.close()
        raise PictureError(f"{name}: {size} pixels; the limit is {pixel_limit} pixels", fix="reduce the picture first")
    return image


def to_rgb8(image: Image.Image) -> NDArray[np.uint8]:
    """RGB uint8 ``[height, width, 3]`` of a decoded Pillow picture of any mode."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image).astype(np.float64 if image.mode == "F" else np.int64)
        if image.mode == "F":
            grey = np.clip(np.nan_to_num(values), 0, 255).astype(np.uint8)
        else:
            grey = ((np.clip(values, 0, 65535) * 255 + 32767) // 65535).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"), np.uint8)


class PictureSource(Source):
    """A picture as a source of one frame at 0 s."""

    def __init__(self, path: str | Path, options: SourceOptions | None = None, label: str | None = None) -> None:
        self._path = path
        self._options = options or SourceOptions()
        self._label = label or str(path)
        self._picture: NDArray[np.uint8] | None = None
        self._info: SourceInfo | None = None
        self._closed = False
        self._taken = False

    def open(self) -> SourceInfo:
        """Decode the picture. Raises PictureError."""
        if self._info is None:
            if self._closed:
                raise SourceError(f"{self._label}: opened after it was closed")
            self._picture = load_picture(self._path, self._options.pixel_limit)
            height, width, _ = self._picture.shape
            self._info = SourceInfo(self._label, "picture", False, width, height, None, 0.0, 1)
        return self._info

    def frames(self) -> Iterator[Frame]:
        """One frame."""
        self.open()
        if self._taken:
            raise SourceError(f"{self._label}: its frames were taken before; open it anew")
        self._taken = True
        return self._once()

    def _once(self) -> Iterator[Frame]:
        picture, self._picture = self._picture, None
        if picture is not None and not self._closed:
            yield Frame.from_rgb(picture, arrival_ns=time.monotonic_ns())

    def close(self) -> None:
        """Forget the picture."""
        self._closed = True
        self._picture = None
