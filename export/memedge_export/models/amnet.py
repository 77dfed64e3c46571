"""AMNet (J. Fajtl, V. Argyriou, D. Monekosso, P. Remagnino, CVPR 2018) and what A. Totev built on it for the MediaEval
2018 task (2021): the mean of its scores, an LSTM over them, and AMNetVid, ConvLSTMs over its attention maps.

Counts: amnet 21,862,661 parameters with ResNet-50, 15,315,717 with ResNet-18, 40,854,789 with ResNet-101; each 4,096
fewer than with torch's LSTM, whose second bias adds nothing. 3.719, 1.689 and 7.431 GMAC a picture. The heads: 37,761
parameters (amnet-rnn) and 230,681 (amnetvid, 464 MMAC a window).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from memedge.errors import UsageError
from memedge_engines.manifest import Node, NodeInput, Target

from ..blocks.linear_chain import collapsed
from ..blocks.resnet2d import BasicBlock, Bottleneck, ResNet2d
from ..blocks.soft_attention import CENTER, GAIN, SoftAttentionLstm
from ..blocks.window_heads import FRAMES, AmNetRnnHead, AmNetVidHead
from ..key_maps import amnet as amnet_keys
from ..key_maps import amnetvid as amnetvid_keys
from . import squash_preset
from .frame import FIRST
from .system import Graph, PartImport, System, graph_node, register_system

_IN224 = squash_preset(224, 224)
_STRIDE_S = 2.0  # S4: frames 0, 48, 96, 144 of 24 a second
_WIDTHS = (64, 128, 256)
_WIDTH = 1024


class AmNet(nn.Module):
    """Frames ``[B,3,224,224]`` to score ``[B,1]``, attention ``[B,3,14,14]`` and step scores ``[B,3]``.

    Args:
        trunk: ``resnet18``, ``resnet50`` or ``resnet101`` to the third stage, or ``vgg16`` to the fourth pool (where
            AMNet's code ends it, though a comment there says relu5_3).
        center, gain: scale of the scores it learns; see :class:`SoftAttentionLstm`.
    """

    def __init__(self, width: float = 1.0, trunk: str = "resnet50", center: float = CENTER, gain: float = GAIN) -> None:
        super().__init__()
        if trunk not in _TRUNKS:
            raise UsageError(f"amnet: option trunk={trunk}; expected one of {', '.join(_TRUNKS)}")
        block, layers = _TRUNKS[trunk]
        self.trunk = ResNet2d(block, layers, [max(8, round(planes * width)) for planes in _WIDTHS])
        self.head = SoftAttentionLstm(self.trunk.features, max(8, round(_WIDTH * width)))
        self.head.set_scale(center, gain)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Score, attention and step scores."""
        found: tuple[Tensor, Tensor, Tensor] = self.head(self.trunk.forward_map(frames))
        return found


_TRUNKS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2)),
    "resnet50": (Bottleneck, (3, 4, 6)),
    "resnet101": (Bottleneck, (3, 4, 23)),
}
_PUBLIC = "AMNet's public LaMem weights"


def _frame_node(name: str, period_s: float) -> Node:
    frames = NodeInput(name="frames", source="source", preprocess=_IN224)
    return graph_node(name, [frames], {"score": "score", "attn": "attention", "step_scores": "contribution"}, period_s)


def _only(targets: Sequence[str], cuts: Sequence[float]) -> str:
    if len(targets) != 1 or cuts:
        raise UsageError(f"AMNet regresses one target; found {', '.join(targets)}", fix="a model for each --target")
    return targets[0]


_AMNET: dict[str, Any] = {
    "imports": (PartImport("", _PUBLIC, amnet_keys.rename, amnet_keys.is_amnet),),
    "torchvision": {"trunk": "resnet50"},
}


@register_system("amnet", period_s=1.0, sampling="S7", **_AMNET)
@register_system("amnet-mean", period_s=0.25, sampling="S28", **_AMNET)
def amnet(
    width: float = 1.0,
    *,
    targets: Sequence[str] = (FIRST,),
    cuts: Sequence[float] = (),
    trunk: str = "resnet50",
    center: float = CENTER,
    gain: float = GAIN,
    period_s: float,
    sampling: Any,
) -> System:
    """A frame a second (amnet), or 28 frames of a clip of 7 s (amnet-mean); the mean of their scores."""
    target = Target(name=_only(targets, cuts), source="model.score", sampling=sampling, primary=True)
    graph = Graph(AmNet(width, trunk, center, gain), float_layers=("head",))
    return System([_frame_node("model", period_s)], {"model": graph}, [target])


def _windowed(target: str, frame: AmNet, head: Graph, inputs: Sequence[tuple[str, str]]) -> System:
    """AMNet on a frame every 2 s, and a head on what it gave for the last four: pairs of input name and output."""
    windows = [
        NodeInput(name=name, source=f"amnet.{output}", last=FRAMES, stride_s=_STRIDE_S) for name, output in inputs
    ]
    return System(
        [_frame_node("amnet", _STRIDE_S), graph_node("head", windows, {"score": "score"}, _STRIDE_S)],
        {"amnet": Graph(frame, float_layers=("head",)), "head": head},
        [Target(name=target, source="head.score", aggregate="last", sampling="S4", primary=True)],
    )


_SCORES, _MAPS = ("scores", "score"), ("maps", "attn")
_WINDOW: dict[str, Any] = {
    "imports": (
        PartImport("amnet", _PUBLIC, amnet_keys.rename, amnet_keys.is_amnet),
        PartImport("head", "AMNetVid's published heads", amnetvid_keys.rename, amnetvid_keys.is_amnetvid),
    ),
    "torchvision": {"amnet.trunk": "resnet50"},
}


@register_system("amnet-rnn", **_WINDOW)
def amnet_rnn(
    width: float = 1.0,
    *,
    targets: Sequence[str] = (FIRST,),
    cuts: Sequence[float] = (),
    trunk: str = "resnet50",
    center: float = CENTER,
    gain: float = GAIN,
    low: float = 0.0,
    high: float = 1.0,
) -> System:
    """An LSTM over the last four scores. ``low``, ``high``: AMNet's least and greatest score over the collection, which
    its scores are scaled by."""
    head = AmNetRnnHead()
    head.scores.set_range(low, high)
    graph = Graph(head, "fp32", "0.1 million multiply-adds: nothing to gain", collapsed)
    return _windowed(_only(targets, cuts), AmNet(width, trunk, center, gain), graph, [_SCORES])


@register_system("amnetvid", **_WINDOW)
def amnetvid(
    width: float = 1.0,
    *,
    targets: Sequence[str] = (FIRST,),
    cuts: Sequence[float] = (),
    trunk: str = "resnet50",
    center: float = CENTER,
    gain: float = GAIN,
    low: float = 0.0,
    high: float = 1.0,
    use_scores: bool = True,
) -> System:
    """ConvLSTMs over the last four attention maps and, unless ``use_scores`` is false, an LSTM over the four scores.
    ``low``, ``high``: as in ``amnet-rnn``."""
    head = AmNetVidHead(use_scores)
    if head.scores is not None:
        head.scores.set_range(low, high)
    graph = Graph(head, "fp16", "rounding of gates and cell states adds up over the steps", collapsed)
    inputs = [_MAPS, _SCORES] if use_scores else [_MAPS]
    return _windowed(_only(targets, cuts), AmNet(width, trunk, center, gain), graph, inputs)
