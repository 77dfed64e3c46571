"""Tiny systems of every kind, built as the zoo's are, for tests of export, quantisation and streaming.

- ``frame``: a residual picture network with a class-free head, once a second;
- ``clip``: 3-D convolutions over eight consecutive frames, exported as 2-D ones;
- ``sequence``: the picture network every half second, and a recurrence over its last four features;
- ``hybrid``: the picture network, a host feature over colours, the caller's numbers, and a head over all three.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from memedge_engines.manifest import Crop, Node, NodeInput, NodeOutput, Preprocess, Resize, Target
from memedge_export import system_graphs
from memedge_export.blocks.as_2d import as_2d
from memedge_export.blocks.clip_layers import ClipMean
from memedge_export.models import squash_preset
from memedge_export.models.frame import FIRST
from memedge_export.models.system import Graph, System, SystemEntry, graph_node
from memedge_export.onnx_export import Exported

SIDE = 32
PICTURE = squash_preset(SIDE, SIDE)
CLIP = Preprocess(
    color="rgb",
    resize=Resize(rule="short_side", size=20),
    crop=Crop(rule="center", size=(16, 16)),
    scale=1 / 255,
    mean=(0.43, 0.4, 0.38),
    std=(0.28, 0.27, 0.27),
    layout="ncthw",
)


class Trunk(nn.Module):
    """``[B,3,32,32]`` to features ``[B,16]``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)

    def conv_norm_pairs(self) -> list[tuple[nn.Module, str, str]]:
        return [(self, "conv1", "bn1"), (self, "conv2", "bn2")]

    def forward(self, frames: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(frames)))
        return torch.relu(x + self.bn2(self.conv2(x))).mean((2, 3))


class FrameNet(nn.Module):
    """Score ``[B,1]`` and features ``[B,16]``."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head = Trunk(), nn.Linear(16, 1)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(frames)
        return torch.sigmoid(self.head(features)), features


class ClipNet(nn.Module):
    """``[B,3,8,16,16]`` to a score ``[B,1]``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv3d(3, 16, 3, (1, 2, 2), 1, bias=False), nn.BatchNorm3d(16)
        self.conv2, self.bn2 = nn.Conv3d(16, 16, 3, 2, 1, bias=False), nn.BatchNorm3d(16)
        self.relu, self.pool, self.head = nn.ReLU(), ClipMean(), nn.Linear(16, 1)

    def conv_norm_pairs(self) -> list[tuple[nn.Module, str, str]]:
        return [(self, "conv1", "bn1"), (self, "conv2", "bn2")]

    def forward(self, clip: Tensor) -> tuple[Tensor]:
        x = self.relu(self.bn1(self.conv1(clip)))
        return (self.head(self.pool(self.relu(self.bn2(self.conv2(x))))),)


class WindowNet(nn.Module):
    """Features ``[B,4,16]`` of four pictures to a score ``[B,1]``, by a recurrence of four written-out steps."""

    def __init__(self) -> None:
        super().__init__()
        self.step, self.head = nn.Linear(32, 16), nn.Linear(16, 1)

    def forward(self, features: Tensor) -> tuple[Tensor]:
        state = torch.zeros_like(features[:, 0])
        for k in range(4):
            state = torch.tanh(self.step(torch.cat([features[:, k], state], 1)))
        return (self.head(state),)


class MixNet(nn.Module):
    """Features ``[B,16]``, a colour vector ``[B,768]`` and the caller's ``[B,2,3]`` to a score ``[B,1]``."""

    def __init__(self) -> None:
        super().__init__()
        self.colors, self.norm, self.head = nn.Linear(768, 8), nn.BatchNorm1d(8), nn.Linear(16 + 8 + 6, 1)

    def forward(self, features: Tensor, colors: Tensor, words: Tensor) -> tuple[Tensor]:
        colors = torch.relu(self.norm(self.colors(colors)))
        return (self.head(torch.cat([features, colors, words.flatten(1)], 1)),)


def _primary(source: str, name: str = FIRST, **fields: Any) -> Target:
    return Target(name=name, source=source, primary=True, **fields)


def _pictures(name: str, period_s: float) -> Node:
    frames = NodeInput(name="frames", source="source", preprocess=PICTURE)
    return graph_node(name, [frames], {"score": "score", "embedding": "embedding"}, period_s)


def frame(width: float = 1.0, *, targets: Sequence[str] = (FIRST,), cuts: Sequence[float] = ()) -> System:
    net = Graph(FrameNet())
    return System([_pictures("model", 1.0)], {"model": net}, [_primary("model.score", targets[0])], last=["head"])


def clip(width: float = 1.0, *, targets: Sequence[str] = (FIRST,), cuts: Sequence[float] = ()) -> System:
    item = NodeInput(name="clip", source="source", preprocess=CLIP, last=8)
    node = graph_node("model", [item], {"score": "score"}, 1.0)
    net = Graph(ClipNet(), form=lambda module: as_2d(module, (3, 8, 16, 16)))
    return System([node], {"model": net}, [_primary("model.score", targets[0])], last=["head"])


def sequence(width: float = 1.0, *, targets: Sequence[str] = (FIRST,), cuts: Sequence[float] = ()) -> System:
    item = NodeInput(name="features", source="picture.embedding", last=4, stride_s=0.5)
    return System(
        [_pictures("picture", 0.5), graph_node("head", [item], {"score": "score"}, 0.5)],
        {"picture": Graph(FrameNet()), "head": Graph(WindowNet(), "fp32", "a thousand multiply-adds")},
        [_primary("head.score", targets[0], aggregate="last", sampling="S4")],
        last=["head.head"],
    )


def hybrid(
    width: float = 1.0, *, targets: Sequence[str] = (FIRST,), cuts: Sequence[float] = (), weight: float = 0.0
) -> System:
    whole = Preprocess(
        color="rgb",
        resize=Resize(rule="none"),
        crop=Crop(rule="none"),
        scale=1.0,
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
    )
    colors = Node(
        name="colors",
        kind="extractor",
        extractor="colorhist-rgb",
        inputs=(NodeInput(name="frames", source="source", preprocess=whole),),
        outputs=(NodeOutput(name="histogram", role="features"),),
        period_s=1.0,
    )
    inputs = [
        NodeInput(name="features", source="picture.embedding"),
        NodeInput(name="colors", source="colors.histogram"),
        NodeInput(name="words", source="caller", default=[weight], shape=(2, 3)),
    ]
    return System(
        [_pictures("picture", 1.0), colors, graph_node("head", inputs, {"score": "score"})],
        {"picture": Graph(FrameNet()), "head": Graph(MixNet(), "fp32", "all but no multiply-adds")},
        [_primary("head.score", targets[0])],
        last=["head.head"],
        extractors={"colorhist-rgb": "1"},
    )


ENTRIES = {
    build.__name__: SystemEntry(f"tiny-{build.__name__}", build, {"weight": 0.0} if build is hybrid else {})
    for build in (frame, clip, sequence, hybrid)
}

_graphs: dict[tuple[Any, ...], Exported] = {}


def each_graph_once(patch: pytest.MonkeyPatch) -> None:
    """torch's exporter takes seconds: the graph of the same weights and shapes is made once, over all test modules."""
    real = system_graphs.export_module

    def remembered(module: nn.Module, examples: Mapping[str, Tensor], outputs: Sequence[str], form: Any) -> Exported:
        shapes = tuple((name, tuple(tensor.shape)) for name, tensor in examples.items())
        state = tuple(float(tensor.double().sum()) for tensor in module.state_dict().values())
        key = (type(module), shapes, tuple(outputs), state)
        if key not in _graphs:
            _graphs[key] = real(module, examples, outputs, form)
        return _graphs[key]

    patch.setattr(system_graphs, "export_module", remembered)
