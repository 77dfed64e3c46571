"""Pictures for training and evaluation: decoded once, kept as bytes within a stated budget, turned into tensors by
contract."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from torch import Tensor

from memedge.sources.picture import load_picture
from memedge_engines.frame import Frame
from memedge_engines.manifest import Crop, Preprocess, Resize
from memedge_engines.preprocess import Preprocessor
from memedge_engines.preprocess import to_tensor as tensor_of

Picture = NDArray[np.uint8]


def read_picture(path: Path) -> Picture:
    """A picture file as upright RGB, uint8 ``[H, W, 3]``, through the runtime's own reader. Raises PictureError."""
    return load_picture(path)


def fitted(picture: Picture, preprocess: Preprocess) -> Picture:
    """The picture resized and cropped by a contract, through the runtime's own fast path: uint8 ``[h, w, C]``."""
    return Preprocessor(preprocess).picture(Frame.from_rgb(picture))


def recolored(picture: Picture, preprocess: Preprocess) -> Picture:
    """An RGB picture in the contract's colours, its size as it is: uint8 ``[h, w, C]``."""
    if preprocess.color == "rgb":
        return picture
    bare = replace(preprocess, resize=Resize(rule="none"), crop=Crop(rule="none"))
    return Preprocessor(bare).picture(Frame.from_rgb(np.ascontiguousarray(picture)))


def normalise(batch: NDArray[np.uint8], preprocess: Preprocess) -> Tensor:
    """uint8 ``[N, h, w, C]`` to the contract's float32 ``[N, C, h, w]``: (level * scale - mean) / std."""
    return torch.from_numpy(tensor_of(list(batch), preprocess))


def to_tensor(picture: Picture, preprocess: Preprocess) -> Tensor:
    """One picture, uint8 ``[H, W, 3]``, as the contract's float32 ``[C, h, w]``."""
    return normalise(fitted(picture, preprocess)[None], preprocess)[0]


class PictureCache:
    """Decoded pictures with their short side reduced to ``short_side`` pixels (never enlarged), least recently used
    out first. Thread-safe.

    Args:
        limit_bytes: pictures are kept up to this many bytes; the rest is decoded again each time.
    """

    def __init__(self, short_side: int, limit_bytes: int = 1 << 30) -> None:
        self.short_side = short_side
        self.limit_bytes = limit_bytes
        self._kept: OrderedDict[Path, Picture] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __call__(self, path: Path) -> Picture:
        """The reduced picture, RGB uint8 ``[h, w, 3]``. Raises PictureError."""
        with self._lock:
            kept = self._kept.get(path)
            if kept is not None:
                self._kept.move_to_end(path)
                return kept
        picture = reduced(read_picture(path), self.short_side)
        with self._lock:
            if path not in self._kept:
                self._kept[path] = picture
                self._bytes += picture.nbytes
            while self._bytes > self.limit_bytes and self._kept:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= dropped.nbytes
        return picture


def reduced(picture: Picture, short_side: int) -> Picture:
    """The picture with its short side reduced to ``short_side``, or as it is when that is smaller already."""
    from PIL import Image

    height, width = picture.shape[:2]
    if min(height, width) <= short_side:
        return picture
    size = (
        (short_side, int(short_side * height / width))
        if width < height
        else (int(short_side * width / height), short_side)
    )
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))
