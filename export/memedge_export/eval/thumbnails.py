"""Small pictures of records for a page of one's own: the picture itself, or a video's middle frame, as a data URI."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray

from memedge.errors import FrameError, PreprocessError, SourceError
from memedge.sources import SourceOptions, open_source
from memedge_engines.preprocess import to_rgb

from ..data.pictures import read_picture
from ..data.records import Record

_SIDE = 240
_QUALITY = 80


def thumbnail(record: Record, unit: str) -> str | None:
    """A JPEG of at most 240 x 240 pixels as ``data:image/jpeg;base64,...``; none where the file cannot be read."""
    from PIL import Image

    try:
        picture = middle_frame(record) if unit == "video" else read_picture(record.path)
    except (SourceError, FrameError, PreprocessError):
        return None
    image = Image.fromarray(picture)
    image.thumbnail((_SIDE, _SIDE))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"


def middle_frame(record: Record) -> NDArray[np.uint8]:
    """The frame in the middle of a video's duration, RGB uint8 ``[H, W, 3]``.

    Raises:
        SourceError: the video cannot be read, or holds no frames.
    """
    with open_source(str(record.path)) as source:
        duration = source.open().duration_s or 0.0
    with open_source(str(record.path), SourceOptions(from_s=duration / 2)) as source:
        for frame in source.frames():
            try:
                return to_rgb(frame).copy()
            finally:
                frame.release()
    raise SourceError(f"{record.path}: no frames; expected at least one")
