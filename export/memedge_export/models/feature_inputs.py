"""Features as heads take them: the nodes that make them live, or the files that MediaEval 2018 handed out.

A head belongs to one extractor. Systems name it with its version (``System.extractors``); what was trained on the
released files has no live extractor, since none of them can be computed again to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from memedge.errors import UsageError
from memedge_engines import features
from memedge_engines.manifest import Node, NodeInput, NodeOutput, Preprocess

from ..blocks.as_2d import as_2d
from ..blocks.c3d import UCF101, C3dNet
from ..blocks.feature_head import FeatureNode, Form
from .presets import C3D112, gray480, native
from .system import Graph
from .targets import check_choice

WINDOW_S = 7
KEY_FRAME_S = 7 / 3
"""Seconds between key frames: frames 0, 56 and 112 of a published clip of 168 frames, 24 a second."""
KEY_FRAMES = 3
AESTHETICS_S = 10 / 24
"""Seconds between frames whose aesthetics are averaged: every tenth of 24 a second, 17 of a published clip."""
_AESTHETICS = 17
_CLIP = 16
RELEASED = "mediaeval2018-"
"""Before the names of released features in ``System.extractors``."""


@dataclass(frozen=True)
class FeatureInput:
    """One feature.

    Attributes:
        item: the head's input.
        size: numbers of one vector.
        form: how the head takes it.
        nodes: that make it, in order.
        graphs: of those that are graph nodes.
        extractor: name and version; none for a network, whose weights are part of the system.
    """

    item: NodeInput
    size: int
    form: Form = "vector"
    nodes: tuple[Node, ...] = ()
    graphs: Mapping[str, Graph] = field(default_factory=dict)
    extractor: tuple[str, str] | None = None


def released(feature: str, size: int, *, key_frames: bool = False) -> FeatureInput:
    """A feature of MediaEval 2018's files, which the caller gives (:mod:`memedge_export.data.released_inputs`):
    float32 ``[size]``, of key frames ``[3, size]``."""
    shape = (KEY_FRAMES, size) if key_frames else (size,)
    item = NodeInput(name=feature, source="caller", shape=shape)
    return FeatureInput(item, size, "rows" if key_frames else "vector", extractor=(RELEASED + feature, "1"))


def _host(
    name: str, extractor: str, source: str | Preprocess, period_s: float = 0.0, **options: float | str | bool
) -> Node:
    """A host node of one input and one output; ``source``: pictures of a preset, or ``node.output``."""
    known = features.declared(extractor)
    contract = source if isinstance(source, Preprocess) else None
    item = NodeInput(name="x", source="source" if contract else str(source), preprocess=contract)
    return Node(
        name=name,
        kind="aggregate" if known is None else "extractor",
        extractor=extractor,
        inputs=(item,),
        outputs=(NodeOutput(name="features", role="features"),),
        period_s=period_s,
        options={**options, **({} if known is None else {"version": known.version})},
    )


def _windowed(node: Node, last: int, stride_s: float = 0.0) -> Node:
    item = node.inputs[0]
    changed = NodeInput(name=item.name, source=item.source, last=last, stride_s=stride_s)
    return Node(
        name=node.name,
        kind=node.kind,
        extractor=node.extractor,
        inputs=(changed,),
        outputs=node.outputs,
        period_s=node.period_s,
        options=node.options,
    )


def _of(extractor: str) -> tuple[str, str]:
    known = features.declared(extractor)
    assert known is not None
    return extractor, str(known.version)


def key_frame(extractor: str, contract: Preprocess, *, together: bool = False, **options: bool) -> FeatureInput:
    """An extractor run on a key frame every 7/3 s; ``together``: the head takes the last three at once."""
    known = features.declared(extractor)
    assert known is not None
    assert known.dim is not None
    node = _host("feature", extractor, contract, KEY_FRAME_S, **options)
    item = NodeInput(name="features", source="feature.features", last=KEY_FRAMES if together else 1)
    return FeatureInput(item, known.dim, "rows" if together else "vector", (node,), extractor=_of(extractor))


def lbp(system: str, kind: str, full_size: bool, *, together: bool = False) -> FeatureInput:
    """Local binary patterns of the picture at short side 480, or of the whole; ``kind``: ``lbp122`` or ``lbp59``."""
    check_choice(system, "extractor", kind, ("lbp122", "lbp59"))
    return key_frame(kind, native("gray") if full_size else gray480(), together=together)


def hmp(system: str, rate: int) -> FeatureInput:
    """Histogram of motion patterns over the last 7 s, at each of ``rate`` frames a second."""
    if not 1 <= rate <= 12:
        raise UsageError(f"{system}: option rate={rate}; expected 1 to 12 frames a second")
    step_s = 1 / rate
    # The counts of a frame span its two neighbours: 7 s of frames are two counts fewer.
    count = WINDOW_S * rate - 2
    nodes = (
        _host("hmp-blocks", "hmp-blocks", native("gray"), step_s),
        _windowed(_host("hmp-codes", "hmp-codes", "hmp-blocks.features"), 3),
        _windowed(_host("hmp", "hmp", "hmp-codes.features", step_s), count, step_s),
    )
    return FeatureInput(NodeInput(name="hmp", source="hmp.features"), 6075, nodes=nodes, extractor=_of("hmp"))


def aesthetics(average: str) -> list[FeatureInput]:
    """``aes-lite`` of every tenth frame of 24 a second, averaged over 7 s; ``both``: mean and median."""
    frame = _host("aesthetics", "aes-lite", native("rgb"), AESTHETICS_S)
    found: list[FeatureInput] = []
    for kind in ("mean", "median") if average == "both" else (average,):
        node = _host(f"aesthetics-{kind}", kind, "aesthetics.features", AESTHETICS_S)
        nodes = ((frame,) if not found else ()) + (_windowed(node, _AESTHETICS, AESTHETICS_S),)
        item = NodeInput(name=f"aesthetics_{kind}", source=f"{node.name}.features")
        found.append(FeatureInput(item, 40, nodes=nodes, extractor=_of("aes-lite")))
    return found


def c3d(width: float, pool5: str, clip: str) -> FeatureInput:
    """C3D's probabilities of 101 actions in 16 frames, a clip a second; of the last 7 s the first clip, as published,
    or the newest (``clip``)."""
    check_choice("C3D", "pool5", pool5, ("after", "both"))
    check_choice("C3D", "clip", clip, ("first", "newest"))
    frames = NodeInput(name="clip", source="source", preprocess=C3D112, last=_CLIP)
    node = Node(
        name="c3d",
        kind="graph",
        inputs=(frames,),
        outputs=(NodeOutput(name="features", role="features"),),
        period_s=1.0,
        anchor="start",
    )
    network = FeatureNode(C3dNet(UCF101, pool5, width=width))  # type: ignore[arg-type]
    graph = Graph(network, form=lambda module: as_2d(module, (3, _CLIP, 112, 112)), float_layers=("trunk.fc8",))
    item = NodeInput(name="c3d", source="c3d.features", last=WINDOW_S if clip == "first" else 1)
    return FeatureInput(item, UCF101, "oldest" if clip == "first" else "vector", (node,), {"c3d": graph})


def extractors_of(inputs: Sequence[FeatureInput]) -> dict[str, str]:
    """Name to version of all of them."""
    return dict(one.extractor for one in inputs if one.extractor is not None)
