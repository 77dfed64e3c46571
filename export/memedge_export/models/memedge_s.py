"""``memedge-s``: our small model for outdoor scenes; a pretrained network beside fixed filters, one hidden layer."""

from __future__ import annotations

from ..blocks.filter_bank import SIZE, FilterBank
from ..blocks.scene_trunk import SceneTrunk, SmallResNet
from . import IMAGENET_MEAN, IMAGENET_STD, register, squash_preset
from .frame import FrameModel

_STEM = 24
_WIDTHS = (64, 128, 320)
_HIDDEN = 256


def _scaled(width: float, planes: int) -> int:
    return max(8, round(planes * width))


@register("memedge-s", squash_preset(SIZE, SIZE))
def memedge_s(width: float = 1.0) -> FrameModel:
    """Ours: 8 learned convolutions at half size, colour, texture and orientation filters; gives its hidden layer as
    ``embedding``."""
    network = SmallResNet(_scaled(width, _STEM), [_scaled(width, planes) for planes in _WIDTHS])
    bank = FilterBank(IMAGENET_MEAN, IMAGENET_STD, colors=_scaled(width, 96), textures=_scaled(width, 32))
    return FrameModel(SceneTrunk(network, bank, _scaled(width, _HIDDEN)), embedding=True)
