"""ResNet3D (R. Cohendet et al., ICCV 2019): a residual network of 34 layers of 3x3x3 convolutions over 16 consecutive
frames, fine-tuned from Kinetics (K. Hara et al., CVPR 2018).

Counts: 63,514,049 parameters with shortcuts of type B, 63,340,225 with type A; 12.70 GMAC a clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from memedge_engines.manifest import Node, NodeInput, NodeOutput, Target

from ..blocks.as_2d import as_2d
from ..blocks.video_resnet import Depths, Shortcut, VideoResNet, r3d34
from ..key_maps import resnet3d as keys
from .frame import FIRST
from .presets import R3D112, R3D112_OLD
from .system import Graph, PartImport, System, register_system
from .targets import check_choice, only_target

_FRAMES, _SIDE = 16, 112
_AS_3D = "its 3-D convolutions were kept, and int8 kernels for those are rare; --option conv=2d has the others"


class ResNet3d(nn.Module):
    """Clips ``[B,3,16,112,112]`` to a score ``[B,1]`` and, where wanted, the pooled features ``[B,512]``."""

    def __init__(self, trunk: VideoResNet, embedding: bool) -> None:
        super().__init__()
        self.trunk, self.head = trunk, nn.Linear(trunk.features, 1)
        self.embedding = embedding

    def forward(self, clip: Tensor) -> tuple[Tensor, ...]:
        """Score and, where wanted, features."""
        features = self.trunk(clip)
        score = self.head(features)
        return (score, features) if self.embedding else (score,)


@register_system(
    "resnet3d34",
    imports=(PartImport("trunk", "3D-ResNets-PyTorch's ResNet-34", keys.rename, keys.detect, keys.options),),
    depths=(3, 4, 6, 3),
)
def resnet3d34(
    width: float = 1.0,
    *,
    targets: Sequence[str] = (FIRST,),
    cuts: Sequence[float] = (),
    shortcut: str = "B",
    conv: str = "2d",
    embedding: bool = False,
    depths: Depths,
) -> System:
    """Clips of 16 consecutive frames that start each second, as they are in the source; the mean of their scores.

    ``shortcut``: ``A`` with the normalisation of the public weights of 2017, or ``B`` with that of newer ones; a file
    says itself which it is. ``conv``: exported as 2-D convolutions, which can be int8, or as they are (``3d``).
    """
    name = "resnet3d34"
    check_choice(name, "shortcut", shortcut, ("A", "B"))
    check_choice(name, "conv", conv, ("2d", "3d"))
    preset = R3D112 if shortcut == "B" else R3D112_OLD
    network = ResNet3d(r3d34(cast(Shortcut, shortcut), width, depths), embedding)
    outputs = [NodeOutput(name="score", role="score")]
    if embedding:
        outputs.append(NodeOutput(name="embedding", role="embedding"))
    node = Node(
        name="model",
        kind="graph",
        inputs=(NodeInput(name="clip", source="source", preprocess=preset, last=_FRAMES),),
        outputs=tuple(outputs),
        period_s=1.0,
        anchor="start",
    )
    if conv == "2d":
        graph = Graph(network, form=lambda module: as_2d(module, (3, _FRAMES, _SIDE, _SIDE)), float_layers=("head",))
    else:
        graph = Graph(network, "fp16", _AS_3D)
    return System(
        [node],
        {"model": graph},
        [Target(name=only_target(name, targets, cuts), source="model.score", sampling="C16", primary=True)],
        last=("head",),
    )
