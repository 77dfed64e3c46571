"""AMNet (J. Fajtl, V. Argyriou, D. Monekosso, P. Remagnino, CVPR 2018) and what A. Totev built on it for the MediaEval
2018 task (2021): the mean of its scores, an LSTM over them, and AMNetVid, ConvLSTMs over its attention maps.

Counts: amnet 21,862,661 parameters with ResNet-50, 15,315,717 with ResNet-18, 40,854,789 with ResNet-101; each 4,096
fewer than with torch's LSTM, whose second bias adds nothing. 3.719, 1.689 and 7.431 GMAC a picture. The heads: 37,761
parameters (amnet-rnn) and 230,681 (amnetvid; 464 MMAC a window, 85 of them products with a zero state that are left
out).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from memedge.errors import UsageError
from memedge_engines.manifest import Node, NodeInput, Target

from ..blocks.linear_chain import collapsed
from ..blocks.resnet2d import BasicBlock, Bottleneck, ResNet2d
from ..blocks.soft_attention import SoftAttentionLstm
from ..blocks.vgg import vgg_body
from ..blocks.widths import scaled
from ..blocks.window_heads import FRAMES, AmNetRnnHead, AmNetVidHead, ScoreRange
from ..key_maps import amnet as amnet_keys
from ..key_maps import amnetvid as amnetvid_keys
from ..train.fitting import FitData, FittedPart
from . import squash_preset
from .frame import FIRST
from .system import Graph, PartImport, System, graph_node, register_system
from .targets import check_choice, only_target

_IN224 = squash_preset(224, 224)
_STRIDE_S = 2.0  # S4: frames 0, 48, 96, 144 of 24 a second
_WIDTHS = (64, 128, 256)
_WIDTH = 1024
_RESNETS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2)),
    "resnet50": (Bottleneck, (3, 4, 6)),
    "resnet101": (Bottleneck, (3, 4, 23)),
}


class AmNet(nn.Module):
    """Frames ``[B,3,224,224]`` to score ``[B,1]``, attention ``[B,3,14,14]`` and step scores ``[B,3]``.

    Args:
        trunk: ``resnet18``, ``resnet50`` or ``resnet101`` to the third stage, or ``vgg16`` to the fourth pool (where
            AMNet's code ends it, though a comment there says relu5_3).
    """

    def __init__(self, width: float = 1.0, trunk: str = "resnet50") -> None:
        super().__init__()
        self.trunk: ResNet2d | nn.Sequential
        if trunk in _RESNETS:
            block, layers = _RESNETS[trunk]
            self.trunk = ResNet2d(block, layers, [scaled(planes, width) for planes in _WIDTHS])
            features = self.trunk.features
        else:
            check_choice("AMNet", "trunk", trunk, (*_RESNETS, "vgg16"))
            self.trunk, features = vgg_body(16, width, stages=4), scaled(512, width)
        self.head = SoftAttentionLstm(features, scaled(_WIDTH, width))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Score, attention and step scores."""
        features = self.trunk.forward_map(frames) if isinstance(self.trunk, ResNet2d) else self.trunk(frames)
        found: tuple[Tensor, Tensor, Tensor] = self.head(features)
        return found


def _frame_node(name: str, period_s: float) -> Node:
    frames = NodeInput(name="frames", source="source", preprocess=_IN224)
    return graph_node(name, [frames], {"score": "score", "attn": "attention", "step_scores": "contribution"}, period_s)


def _fit_scale(network: System, data: FitData) -> None:
    """The mean score of the training data becomes the centre of the scale."""
    network.get_submodule("head.scale").get_buffer("center").fill_(data.statistics.mean)


_PUBLIC = "AMNet's public LaMem weights"
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
    period_s: float,
    sampling: Any,
) -> System:
    """A frame a second (amnet), or 28 frames of a clip of 7 s (amnet-mean); the mean of their scores."""
    return System(
        [_frame_node("model", period_s)],
        {"model": Graph(AmNet(width, trunk), float_layers=("head",))},
        [Target(name=only_target("AMNet", targets, cuts), source="model.score", sampling=sampling, primary=True)],
        fitted=[FittedPart("head.scale", _fit_scale)],
    )


_UNKNOWN = (0.0, 1.0)  # stands for a range that nobody measured
_SCORES, _MAPS = ("scores", "score"), ("maps", "attn")
_WINDOW: dict[str, Any] = {
    "imports": (
        PartImport("amnet", _PUBLIC, amnet_keys.rename, amnet_keys.is_amnet),
        PartImport(
            "head",
            "AMNetVid's published heads (with options low and high)",
            amnetvid_keys.rename,
            amnetvid_keys.is_amnetvid,
        ),
    ),
    "torchvision": {"amnet.trunk": "resnet50"},
}


def _known(low: float, high: float) -> tuple[float, float] | None:
    """The range of scores where options say it; without, training fits it. UsageError for one that does not rise."""
    if (low, high) != _UNKNOWN and not low < high:
        raise UsageError(f"--option low={low:g} and high={high:g}; expected AMNet's least and greatest score")
    return None if (low, high) == _UNKNOWN else (low, high)


def _fit_range(network: System, data: FitData) -> None:
    """Least and greatest score that AMNet gives the training data."""
    found = network.get_submodule("head.scores.range")
    assert isinstance(found, ScoreRange)
    scores = data.entering("head.scores.range").values
    found.set_range(float(scores.min()), float(scores.max()))


def _windowed(target: str, frame: AmNet, head: Graph, inputs: Sequence[tuple[str, str]], fitted: bool) -> System:
    """AMNet on a frame every 2 s, and a head on what it gave for the last four: pairs of input name and output."""
    windows = [
        NodeInput(name=name, source=f"amnet.{output}", last=FRAMES, stride_s=_STRIDE_S) for name, output in inputs
    ]
    return System(
        [_frame_node("amnet", _STRIDE_S), graph_node("head", windows, {"score": "score"}, _STRIDE_S)],
        {"amnet": Graph(frame, float_layers=("head",)), "head": head},
        [Target(name=target, source="head.score", aggregate="last", sampling="S4", primary=True)],
        fitted=[FittedPart("head.scores.range", _fit_range)] if fitted else [],
    )


@register_system("amnet-rnn", **_WINDOW)
def amnet_rnn(
    width: float = 1.0,
    *,
    targets: Sequence[str] = (FIRST,),
    cuts: Sequence[float] = (),
    trunk: str = "resnet50",
    low: float = _UNKNOWN[0],
    high: float = _UNKNOWN[1],
) -> System:
    """An LSTM over the last four scores. ``low``, ``high``: AMNet's least and greatest score over the collection, which
    its scores are scaled by, for heads that were trained elsewhere."""
    known = _known(low, high)
    head = Graph(AmNetRnnHead(known), "fp32", "0.1 million multiply-adds: nothing to gain", collapsed)
    return _windowed(only_target("AMNet", targets, cuts), AmNet(width, trunk), head, [_SCORES], known is None)


@register_system("amnetvid", **_WINDOW)
def amnetvid(
    width: float = 1.0,
    *,
    targets: Sequence[str] = (FIRST,),
    cuts: Sequence[float] = (),
    trunk: str = "resnet50",
    low: float = _UNKNOWN[0],
    high: float = _UNKNOWN[1],
    use_scores: bool = True,
) -> System:
    """ConvLSTMs over the last four attention maps and, unless ``use_scores`` is false, an LSTM over the four scores.
    ``low``, ``high``: as in ``amnet-rnn``."""
    known = _known(low, high)
    reason = "rounding of gates and cell states adds up over the steps"
    head = Graph(AmNetVidHead(use_scores, known), "fp16", reason, collapsed)
    inputs = [_MAPS, _SCORES] if use_scores else [_MAPS]
    return _windowed(
        only_target("AMNet", targets, cuts), AmNet(width, trunk), head, inputs, use_scores and known is None
    )
