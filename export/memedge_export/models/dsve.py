"""Systems on DSVE's embedding of pictures (and of titles): ic-image and ic-image-text of Technicolor at MediaEval 2018,
semantic and semantic-attention of VideoMem (R. Cohendet et al., ICCV 2019).

Counts: ic-image 69,064,009 parameters, ic-image-text 127,115,209 (57,811,200 of them run once a title), 37.7 GMAC a
picture at 400 x 400, 15.4 at 256 x 256; semantic 70,053,633, semantic-attention 70,055,682, 15.4 GMAC.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from memedge_engines.manifest import NodeInput, Role, Target

from ..blocks.dsve import RESNET50, RESNET152, DsveTower
from ..blocks.mlp_head import MlpHead
from ..blocks.sru import TOKENS, WORD, NeutralEmbedding, SruStack
from ..key_maps import dsve as keys
from ..train.fitting import FittedPart
from . import squash_preset
from .frame import FIRST
from .system import Graph, PartImport, System, graph_node, register_system
from .targets import check_choice, only_target

if TYPE_CHECKING:
    from ..train.fitting import FitData

_PRESETS = {"in256-squash": squash_preset(256, 256), "in400-squash": squash_preset(400, 400)}
_BACKBONES = {"resnet152": RESNET152, "resnet50": RESNET50}
_IC_HIDDEN, _SEMANTIC_HIDDEN = 100, 512
_PUBLIC = "DSVE's checkpoint"


class DsveScore(nn.Module):
    """Frames ``[B,3,H,W]``, and where the head wants it a text's embedding, to a score ``[B,1]``; then the attention
    ``[B,1,h,w]``, and the embeddings of picture and text, where they are wanted."""

    def __init__(self, trunk: DsveTower, head: MlpHead, *, embedding: bool = False) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head
        self.embedding = embedding

    def forward(self, frames: Tensor, text: Tensor | None = None) -> tuple[Tensor, ...]:
        """The outputs, in order."""
        image, attention = self.trunk.attend(frames)
        score = self.head(image if text is None else torch.cat((image, text), 1))
        embeddings = (image, text) if self.embedding else ()
        return tuple(output for output in (score, attention, *embeddings) if output is not None)


class TextTower(nn.Module):
    """Word vectors and their mask to the text's embedding, or the neutral one, as an only output."""

    def __init__(self, width: float) -> None:
        super().__init__()
        self.tower = SruStack(width)
        self.neutral = NeutralEmbedding(self.tower.features)

    def forward(self, tokens: Tensor, token_mask: Tensor) -> tuple[Tensor]:
        """The embedding ``[B, features]``."""
        return (self.neutral(self.tower(tokens, token_mask), token_mask),)


def _fit_neutral(network: System, data: FitData) -> None:
    neutral = network.get_submodule("text.neutral")
    assert isinstance(neutral, NeutralEmbedding)
    neutral.fit(data.entering("text.neutral").values)


def _trunk(system: str, width: float, backbone: str, attention: bool = False) -> DsveTower:
    check_choice(system, "backbone", backbone, tuple(_BACKBONES))
    return DsveTower(width, layers=_BACKBONES[backbone], attention=attention)


def _frames(system: str, preset: str) -> NodeInput:
    check_choice(system, "preset", preset, tuple(_PRESETS))
    return NodeInput(name="frames", source="source", preprocess=_PRESETS[preset])


def _outputs(trunk: DsveTower, embedding: bool, *, text: bool = False) -> dict[str, Role]:
    roles: dict[str, Role] = {"score": "score"}
    if trunk.attention is not None:
        roles["attn"] = "attention"
    if embedding:
        roles["embedding"] = "embedding"
    if embedding and text:
        roles["text_embedding"] = "features"
    return roles


def _graph(network: DsveScore) -> Graph:
    # What follows WELDON pooling belongs to the head; a softmax over places is no work for 8 bits.
    return Graph(network, float_layers=("head", "trunk.fc", "trunk.attention"))


_IMAGE = PartImport("trunk", _PUBLIC, keys.rename_image, keys.is_dsve)
_ATTENDED = PartImport("trunk", _PUBLIC, keys.rename_attended, keys.is_dsve)
_RESNET = {"trunk.base": "resnet152"}


@register_system("semantic", imports=(_IMAGE,), torchvision=_RESNET, attention=False)
@register_system("semantic-attention", imports=(_ATTENDED,), torchvision=_RESNET, attention=True)
def semantic(
    width: float = 1.0,
    *,
    targets: Sequence[str] = (FIRST,),
    cuts: Sequence[float] = (),
    preset: str = "in256-squash",
    backbone: str = "resnet152",
    embedding: bool = False,
    attention: bool,
) -> System:
    """One frame a second, the mean of 7 s; everything is trained. ``preset``: ``in256-squash``, or ``in400-squash`` as
    DSVE was read out; ``backbone``: ``resnet50`` is lighter (ours); ``embedding``: the picture's embedding, too."""
    name = "semantic-attention" if attention else "semantic"
    trunk = _trunk(name, width, backbone, attention)
    head = MlpHead((trunk.features, _SEMANTIC_HIDDEN, 1), dropout=0.5, out_act="sigmoid")
    return System(
        [graph_node("model", [_frames(name, preset)], _outputs(trunk, embedding), 1.0)],
        {"model": _graph(DsveScore(trunk, head, embedding=embedding))},
        [Target(name=only_target(name, targets, cuts), source="model.score", primary=True)],
        last=("head.1",),
    )


@register_system("ic-image", imports=(_IMAGE,), torchvision=_RESNET)
def ic_image(
    width: float = 1.0,
    *,
    targets: Sequence[str] = (FIRST,),
    cuts: Sequence[float] = (),
    preset: str = "in400-squash",
    backbone: str = "resnet152",
    embedding: bool = False,
) -> System:
    """One frame a second, the mean of 7 s; the embedding is fixed. Options as of ``semantic``; ``in256-squash`` is
    faster."""
    trunk = _trunk("ic-image", width, backbone)
    return System(
        [graph_node("model", [_frames("ic-image", preset)], _outputs(trunk, embedding), 1.0)],
        {"model": _graph(DsveScore(trunk, MlpHead((trunk.features, _IC_HIDDEN, 1)), embedding=embedding))},
        [Target(name=only_target("ic-image", targets, cuts), source="model.score", primary=True)],
        last=("head.1",),
    )


@register_system(
    "ic-image-text",
    imports=(
        PartImport("image.trunk", _PUBLIC, keys.rename_image, keys.is_dsve),
        PartImport("text.tower", _PUBLIC, keys.rename_text, keys.is_dsve),
    ),
    torchvision={"image.trunk.base": "resnet152"},
)
def ic_image_text(
    width: float = 1.0,
    *,
    targets: Sequence[str] = (FIRST,),
    cuts: Sequence[float] = (),
    preset: str = "in400-squash",
    backbone: str = "resnet152",
    embedding: bool = False,
) -> System:
    """The same beside the embedding of the video's title, which the caller gives: run once a title. Without one the
    text tower gives its neutral embedding. ``embedding``: both embeddings, which the loss ``embedding-ranking`` of the
    recipe ``dsve-towers`` needs."""
    name = "ic-image-text"
    trunk, text = _trunk(name, width, backbone), TextTower(width)
    words = [
        NodeInput(name="tokens", source="caller", shape=(TOKENS, WORD), default=[0.0]),
        NodeInput(name="token_mask", source="caller", shape=(TOKENS,), default=[0.0]),
    ]
    both = [_frames(name, preset), NodeInput(name="text", source="text.embedding")]
    head = MlpHead((trunk.features + text.tower.features, _IC_HIDDEN, 1))
    once = "it runs once a title; its gates and its recurrence are no work for 8 bits"
    return System(
        [
            # Features, not an embedding: what is out of domain is said of pictures.
            graph_node("text", words, {"embedding": "features"}),
            graph_node("image", both, _outputs(trunk, embedding, text=True), 1.0),
        ],
        {
            "text": Graph(text, lowest="fp16", reason=once),
            "image": _graph(DsveScore(trunk, head, embedding=embedding)),
        },
        [Target(name=only_target(name, targets, cuts), source="image.score", primary=True)],
        last=("image.head.1",),
        fitted=(FittedPart("text.neutral", _fit_neutral),),
    )
