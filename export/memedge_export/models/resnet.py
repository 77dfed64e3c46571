"""ResNet-18 and ResNet-101 with a regression head (Technicolor at MediaEval 2018), and our small ``resnet-s``.

Golden counts at 224 x 224: resnet18 11,177,025 parameters, 1.814 GMAC; resnet101 42,502,209 parameters, 7.799 GMAC.
"""

from __future__ import annotations

from ..blocks.resnet2d import BasicBlock, Bottleneck, ResNet2d
from . import frame_preset, register, squash_preset
from .frame import FrameModel

_IN224 = frame_preset(256, 224)
_WIDTHS = (64, 128, 256, 512)
_SMALL_WIDTHS = (48, 96, 192, 384)


def _scaled(widths: tuple[int, ...], width: float) -> tuple[int, ...]:
    return tuple(max(8, round(w * width)) for w in widths)


@register("resnet18", _IN224, torchvision="resnet18")
def resnet18(width: float = 1.0) -> FrameModel:
    """18 layers: basic blocks 2-2-2-2."""
    return FrameModel(ResNet2d(BasicBlock, (2, 2, 2, 2), _scaled(_WIDTHS, width)))


@register("resnet101", _IN224, torchvision="resnet101")
def resnet101(width: float = 1.0) -> FrameModel:
    """101 layers: bottlenecks 3-4-23-3."""
    return FrameModel(ResNet2d(Bottleneck, (3, 4, 23, 3), _scaled(_WIDTHS, width)))


# The whole picture at 80 x 80: ridge regressions on pretrained features, 5-fold on LNSIM's train part, gave Spearman
# 0.372 this way, 0.346 with a centre crop, and no more at 96 or 112 pixels or in wider formats.
@register("resnet-s", squash_preset(80, 80))
def resnet_s(width: float = 1.0) -> FrameModel:
    """Ours: 10 layers, 3x3 stem at stride 1, one basic block a stage; gives its pooled features as ``embedding``."""
    return FrameModel(ResNet2d(BasicBlock, (1, 1, 1, 1), _scaled(_SMALL_WIDTHS, width), stem="3x3"), embedding=True)
