"""The systems of H. Squalli-Houssaini, N. Duong, M. Gwenaelle, C.-H. Demarty (ICASSP 2018): fixed features of VGG-16
and of an image-captioning embedding, and heads that sort pictures into classes of memorability.

Counts with four classes: vgg16-ic 280,780,292 parameters and 35.1 GMAC (with a shared trunk 141,210,052 and 15.5),
vgg16-mlp 136,424,388 and 15.5, ic-mlp 144,356,548 and 19.6.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from memedge_engines.manifest import NodeInput, Preprocess, Role, Target

from ..blocks.dsve import DsveTower
from ..blocks.fusion_head import FusionHead
from ..blocks.ic_tower import IcProjection, IcTower
from ..blocks.mlp_head import MlpHead
from ..blocks.prob_aggregate import ProbAggregate
from ..blocks.vgg import Vgg
from ..blocks.widths import scaled
from ..key_maps import dsve as dsve_keys
from ..key_maps import vgg as vgg_keys
from ..key_maps import vse as vse_keys
from . import squash_preset
from .frame import FIRST
from .presets import IN224, VSE224
from .system import Graph, PartImport, System, graph_node, register_system
from .targets import check_choice, only_target

CUTS = (0.68, 0.77, 0.85)
"""Between the four classes of the paper, on LaMem's scores."""
_DROPOUT = 0.5
_ACTIVATIONS = ("relu", "tanh")
Tower = IcTower | IcProjection | DsveTower
VGG16 = PartImport("trunk", "VGG-16 of ImageNet (torchvision's or Caffe's names)", vgg_keys.rename, vgg_keys.is_vgg16)
TOWER = (
    PartImport("ic.trunk", "VGG-19 of ImageNet (torchvision's or Caffe's names)", vgg_keys.rename, vgg_keys.is_vgg19),
    PartImport("ic.project", "the visual-semantic embedding of R. Kiros (.npz)", vse_keys.rename, vse_keys.detect),
)
_DSVE = PartImport("ic", "DSVE's checkpoint", dsve_keys.rename_image, dsve_keys.is_dsve)


class FixedFeatures(nn.Module):
    """What a head sees of one frame, a vector each: VGG-16's fc7, the captioning embedding, or both.

    Args:
        trunk: of the frame as VGG-16 takes it, or none.
        ic: the embedding: of the last view of the frame, or of the trunk's features; or none.
    """

    def __init__(self, trunk: Vgg | None, ic: Tower | None) -> None:
        super().__init__()
        self.trunk = trunk
        self.ic = ic
        self.sizes = [part.features for part in (trunk, ic) if part is not None]

    def vectors(self, views: Sequence[Tensor]) -> list[Tensor]:
        """One vector ``[B, sizes[i]]`` each; the last one is the embedding where there is one."""
        found = [] if self.trunk is None else [self.trunk(views[0])]
        if self.ic is not None:
            shared = isinstance(self.ic, IcProjection) and not isinstance(self.ic, IcTower)
            found.append(self.ic(found[0] if shared else views[-1]))
        return found


class Classified(FixedFeatures):
    """Views of one frame to score ``[B,1]``, class probabilities ``[B,K]`` and, where wanted, the score stretched to
    0..1 ``[B,1]`` and the last vector ``[B,D]``.

    Args:
        cuts: the K - 1 rising cuts between the classes.
    """

    def __init__(
        self,
        trunk: Vgg | None,
        ic: Tower | None,
        head: FusionHead | MlpHead,
        cuts: Sequence[float],
        *,
        score01: bool,
        embedding: bool,
    ) -> None:
        super().__init__(trunk, ic)
        self.head = head
        self.aggregate = ProbAggregate(cuts)
        self.cuts = tuple(cuts)
        self.wanted = (score01, embedding)

    @property
    def outputs(self) -> dict[str, Role]:
        """Name and role of each output, in order."""
        more: tuple[tuple[str, Role], ...] = (("score01", "score"), ("embedding", "embedding"))
        wanted = [pair for pair, there in zip(more, self.wanted, strict=True) if there]
        return {"score": "score", "class_probs": "class_probs", **dict(wanted)}

    def forward(self, *views: Tensor) -> tuple[Tensor, ...]:
        """The outputs, in order."""
        vectors = self.vectors(views)
        probabilities = torch.softmax(self.head(*vectors), 1)
        score = self.aggregate(probabilities)
        more = ((score - self.cuts[0]) / (1 - self.cuts[0]), vectors[-1])
        return (score, probabilities, *(rows for rows, there in zip(more, self.wanted, strict=True) if there))


def frame_input(name: str, preset: Preprocess) -> NodeInput:
    """One view of the present frame."""
    return NodeInput(name=name, source="source", preprocess=preset)


def _system(network: Classified, inputs: Sequence[NodeInput], target: str, float_layers: Sequence[str]) -> System:
    """A frame a second, the mean of 7 s."""
    return System(
        [graph_node("model", inputs, network.outputs, 1.0)],
        {"model": Graph(network, float_layers=("head", *float_layers))},
        [Target(name=target, source="model.score", primary=True)],
        cuts=network.cuts,
    )


@register_system("vgg16-ic", imports=(VGG16, *TOWER, _DSVE), torchvision={"trunk": "vgg16"})
def vgg16_ic(
    width: float = 1.0,
    *,
    targets: Sequence[str] = (FIRST,),
    cuts: Sequence[float] = (),
    ic: str = "vgg19",
    hidden: int = 512,
    merged: int = 128,
    act: str = "relu",
    score01: bool = False,
    embedding: bool = False,
) -> System:
    """VGG-16 and the captioning embedding of the same frame.

    ``ic``: where the embedding comes from: ``vgg19``, a trunk of its own (as published); ``shared``, the features of
    VGG-16, for edge devices (its projection has to be trained on them); ``dsve``, the tower of ic-image.
    """
    target = only_target("vgg16-ic", targets)
    check_choice("vgg16-ic", "ic", ic, ("vgg19", "shared", "dsve"))
    check_choice("vgg16-ic", "act", act, _ACTIVATIONS)
    trunk = Vgg(16, width)
    tower: Tower = IcProjection(trunk.features, width)
    inputs = [frame_input("frames", IN224)]
    if ic == "vgg19":
        tower = IcTower(width)
        inputs.append(frame_input("frames_ic", VSE224))
    elif ic == "dsve":
        tower = DsveTower(width)
        inputs.append(frame_input("frames_ic", squash_preset(256, 256)))
    cuts = tuple(cuts) or CUTS
    head = FusionHead(
        (trunk.features, tower.features),
        scaled(hidden, width),
        scaled(merged, width),
        len(cuts) + 1,
        act="tanh" if act == "tanh" else "relu",
        dropout=_DROPOUT,
    )
    network = Classified(trunk, tower, head, cuts, score01=score01, embedding=embedding)
    return _system(network, inputs, target, () if ic == "dsve" else ("ic.project",))


@register_system("vgg16-mlp", imports=(VGG16,), torchvision={"trunk": "vgg16"}, name="vgg16-mlp")
@register_system("ic-mlp", imports=TOWER, name="ic-mlp")
def one_feature(
    width: float = 1.0,
    *,
    targets: Sequence[str] = (FIRST,),
    cuts: Sequence[float] = (),
    hidden: int = 512,
    merged: int = 128,
    act: str = "relu",
    score01: bool = False,
    embedding: bool = False,
    name: str,
) -> System:
    """VGG-16 alone, or the captioning embedding alone. Two classes as in the paper: a loss with ``count`` 2."""
    target = only_target(name, targets)
    check_choice(name, "act", act, _ACTIVATIONS)
    trunk, tower = (Vgg(16, width), None) if name == "vgg16-mlp" else (None, IcTower(width))
    inside = (trunk or tower).features  # type: ignore[union-attr]
    cuts = tuple(cuts) or CUTS
    sizes = (inside, scaled(hidden, width), scaled(merged, width), len(cuts) + 1)
    head = MlpHead(sizes, act="tanh" if act == "tanh" else "relu", dropout=_DROPOUT)
    network = Classified(trunk, tower, head, cuts, score01=score01, embedding=embedding)
    inputs = [frame_input("frames", VSE224 if trunk is None else IN224)]
    return _system(network, inputs, target, ("ic.project",) if trunk is None else ())
