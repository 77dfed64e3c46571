"""Support vector regression on fixed features (H. Squalli-Houssaini et al., ICASSP 2018), in the form of
:class:`memedge_export.blocks.kernel_head.KernelHead`; nearest neighbours, which the paper tried too, are an option.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from memedge_engines.manifest import NodeInput, Role, Target

from ..blocks.alex_lrn import AlexLrn
from ..blocks.ic_tower import IcTower
from ..blocks.kernel_head import KINDS, VECTORS, KernelHead
from ..blocks.vgg import Vgg
from ..key_maps import memnet as memnet_keys
from ..key_maps import svr as svr_keys
from ..train.fitting import FittedPart
from .frame import FIRST
from .memnet import memnet_input
from .presets import IN224, VSE224
from .system import Graph, PartImport, System, graph_node, register_system
from .targets import check_choice, only_target
from .vgg_ic import TOWER, VGG16, frame_input

if TYPE_CHECKING:
    from ..train.fitting import FitData

_SVR = PartImport(
    "head", "an SVR of scikit-learn (.npz of its arrays)", svr_keys.rename, svr_keys.detect, svr_keys.options
)
_MEMNET = PartImport("trunk", "MemNet's or CaffeNet's weights", memnet_keys.rename_trunk, memnet_keys.is_caffenet)


class Regressed(nn.Module):
    """Frames to a score ``[B,1]`` and the features ``[B,D]`` that it comes from.

    The features are the child ``trunk``, or ``ic`` where they are the captioning embedding.
    """

    def __init__(self, part: str, features: nn.Module, head: KernelHead, embedding: bool) -> None:
        super().__init__()
        self.part = part
        self.add_module(part, features)
        self.head = head
        self.embedding = embedding

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """Score and, where wanted, features."""
        features = self.get_submodule(self.part)(frames)
        return (self.head(features), features) if self.embedding else (self.head(features),)


def _fit(network: System, data: FitData) -> None:
    """Statistics, stored vectors and gamma of the training features."""
    head = network.get_submodule("head")
    assert isinstance(head, KernelHead)
    rows = data.entering("head")
    head.fit_inputs(rows.values, rows.scores, seed=data.seed)


@register_system("memnet-svr", imports=(_MEMNET, _SVR), name="memnet-svr")
@register_system("vgg16-svr", imports=(VGG16, _SVR), torchvision={"trunk": "vgg16"}, name="vgg16-svr", colors="port")
@register_system("ic-svr", imports=(*TOWER, _SVR), name="ic-svr", colors="port")
def regression(
    width: float = 1.0,
    *,
    targets: Sequence[str] = (FIRST,),
    cuts: Sequence[float] = (),
    kind: str = "rbf",
    vectors: int = VECTORS,
    neighbours: int = 10,
    colors: str = "port",
    embedding: bool = False,
    name: str,
) -> System:
    """A frame a second, the mean of 7 s. ``kind``: ``rbf``, ``linear`` or ``neighbours``; ``vectors``: how many are
    stored; ``colors``: as for memnet."""
    target = only_target(name, targets, cuts)
    check_choice(name, "kind", kind, KINDS)
    source: NodeInput
    features: AlexLrn | Vgg | IcTower
    if name == "memnet-svr":
        part, features, source = "trunk", AlexLrn(width), memnet_input(name, colors)
    elif name == "vgg16-svr":
        part, features, source = "trunk", Vgg(16, width), frame_input("frames", IN224)
    else:
        part, features, source = "ic", IcTower(width), frame_input("frames", VSE224)
    stored = max(1, round(vectors * width))
    head = KernelHead(
        features.features,
        stored,
        kind=kind,
        neighbours=min(neighbours, stored),
    )
    network = Regressed(part, features, head, embedding)
    outputs: dict[str, Role] = {"score": "score"}
    if embedding:
        outputs["embedding"] = "embedding"
    floats = ("head", "ic.project") if part == "ic" else ("head",)
    return System(
        [graph_node("model", [source], outputs, 1.0)],
        {"model": Graph(network, float_layers=floats)},
        [Target(name=target, source="model.score", primary=True)],
        last=("head.out",),
        fitted=(FittedPart("head", _fit),),
    )
