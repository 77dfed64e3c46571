"""The named presets of published systems: what a picture becomes before a network sees it, as data."""

from __future__ import annotations

from memedge_engines.manifest import Crop, Preprocess, Resize

from . import IMAGENET_MEAN, IMAGENET_STD, frame_preset


def _squashed(size: int, crop: int | None = None) -> tuple[Resize, Crop]:
    """Exactly ``size`` x ``size`` pixels; of them the ``crop`` x ``crop`` in the middle."""
    return (
        Resize(rule="exact", size=(size, size)),
        Crop(rule="none") if crop is None else Crop(rule="center", size=(crop, crop)),
    )


IN224 = frame_preset(256, 224)


def caffe227(crop: int | None = 227, size: int = 256) -> Preprocess:
    """MemNet's own: 256 x 256, the middle, BGR of 0..255 less the means of Caffe's ImageNet; ``crop`` none: all of
    it."""
    resize, cut = _squashed(size, crop)
    return Preprocess(
        color="bgr",
        resize=resize,
        crop=cut,
        scale=1.0,
        mean=(104.007, 116.669, 122.679),
        std=(1.0, 1.0, 1.0),
    )


def port227(crop: int | None = 227, size: int = 256) -> Preprocess:
    """The same geometry for MemNet's PyTorch port: RGB with ImageNet's normalisation."""
    resize, cut = _squashed(size, crop)
    return Preprocess(color="rgb", resize=resize, crop=cut, scale=1 / 255, mean=IMAGENET_MEAN, std=IMAGENET_STD)


VSE224 = Preprocess(
    color="bgr",
    resize=Resize(rule="short_side", size=256),
    crop=Crop(rule="center", size=(224, 224)),
    scale=1.0,
    mean=(103.939, 116.779, 123.68),
    std=(1.0, 1.0, 1.0),
)
"""VGG-19 below the visual-semantic embedding of R. Kiros."""
