"""The named presets of published systems: what a picture becomes before a network sees it, as data."""

from __future__ import annotations

from typing import Literal

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


def keras224(size: int = 224) -> Preprocess:
    """Exactly ``size`` x ``size``, RGB of 0..1: the frames of SemanticMemNet."""
    resize, cut = _squashed(size)
    return Preprocess(color="rgb", resize=resize, crop=cut, scale=1 / 255, mean=(0.0,) * 3, std=(1.0,) * 3)


def i3d_clip(size: int = 224) -> Preprocess:
    """The middle ``size`` x ``size`` of a picture an eighth larger (224 of 256), RGB of -1..1: I3D's clips."""
    resize, cut = _squashed(size * 8 // 7, size)
    mean, std = (1.0,) * 3, (1.0,) * 3
    return Preprocess(color="rgb", resize=resize, crop=cut, scale=1 / 127.5, mean=mean, std=std, layout="ncthw")


def i3d_grey(size: int = 224) -> Preprocess:
    """Grey pictures of 0..255, an eighth larger than ``size``, that flow is computed on before its middle is cut."""
    resize, cut = _squashed(size * 8 // 7)
    return Preprocess(color="gray", resize=resize, crop=cut, scale=1.0, mean=(0.0,), std=(1.0,), layout="ncthw")


def csn(size: int = 256) -> Preprocess:
    """Exactly ``size`` x ``size``, RGB with the normalisation of VMZ's video networks: CSN's clips."""
    resize, cut = _squashed(size)
    mean, std = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)
    return Preprocess(color="rgb", resize=resize, crop=cut, scale=1 / 255, mean=mean, std=std, layout="ncthw")


def plain256(color: Literal["rgb", "gray"] = "rgb", layout: Literal["nchw", "ncthw"] = "nchw") -> Preprocess:
    """Exactly 256 x 256, levels of 0..255: what M3-S's low-level values are taken of."""
    resize, cut = _squashed(256)
    count = 3 if color == "rgb" else 1
    mean, std = (0.0,) * count, (1.0,) * count
    return Preprocess(color=color, resize=resize, crop=cut, scale=1.0, mean=mean, std=std, layout=layout)


def native(color: Literal["rgb", "gray"]) -> Preprocess:
    """Pixels as they are, for host features: ``gray-native`` of HMP, and RGB."""
    return _levels(color, Resize(rule="none"))


def gray480() -> Preprocess:
    """Grey, short side 480, nothing cut off: for local binary patterns, whose work grows with the picture."""
    return _levels("gray", Resize(rule="short_side", size=480))


def _levels(color: Literal["rgb", "gray"], resize: Resize) -> Preprocess:
    channels = 1 if color == "gray" else 3
    return Preprocess(
        color=color, resize=resize, crop=Crop(rule="none"), scale=1.0, mean=(0.0,) * channels, std=(1.0,) * channels
    )


INCEPTION299 = Preprocess(
    color="rgb",
    resize=Resize(rule="exact", size=(299, 299)),
    crop=Crop(rule="none"),
    scale=1 / 255,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
"""Inception-v3: exactly 299 x 299, RGB in -1..1."""

_R3D_RESIZE, _R3D_CROP = Resize(rule="short_side", size=112), Crop(rule="center", size=(112, 112))
R3D112 = Preprocess(
    color="rgb",
    resize=_R3D_RESIZE,
    crop=_R3D_CROP,
    scale=1 / 255,
    mean=(0.4345, 0.4051, 0.3775),
    std=(0.2768, 0.2713, 0.2737),
    layout="ncthw",
)
"""3D-ResNets-PyTorch, weights of 2018 and later: clips."""

R3D112_OLD = Preprocess(
    color="rgb",
    resize=_R3D_RESIZE,
    crop=_R3D_CROP,
    scale=1.0,
    mean=(114.7748, 107.7354, 99.4750),
    std=(1.0, 1.0, 1.0),
    layout="ncthw",
)
"""The same for the weights of 2017: 0..255 less the channels' means."""

C3D112 = Preprocess(
    color="bgr",
    resize=Resize(rule="short_side", size=112),
    crop=Crop(rule="center", size=(112, 112)),
    scale=1.0,
    mean=(95.14, 102.86, 107.76),
    std=(1.0, 1.0, 1.0),
    layout="ncthw",
)
"""C3D: clips, BGR of 0..255 less the channels' means."""
