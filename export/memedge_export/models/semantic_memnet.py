"""SemanticMemNet (A. Newman, C. Fosco, V. Casser, A. Lee, B. McNamara, A. Oliva, ECCV 2020): the mean of three streams
over a clip of 3 s: DenseNet-121 on seven frames, I3D on 45 frames, I3D on the optical flow between them.

The 45 frames have 44 fields between them. The captioning head is of training only and is not built. Counts: 6,954,881 +
12,289,314 + 12,267,362 parameters; 2.833 GMAC a frame, 80.5 GMAC a clip, 74.2 for 45 fields of flow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from memedge.errors import UsageError
from memedge_engines import features as _features  # noqa: F401 - registers flow-clip
from memedge_engines.manifest import Decay, Node, NodeInput, NodeOutput, Preprocess, Target

from ..blocks.as_2d import as_2d
from ..blocks.clip_layers import ClipMean
from ..blocks.dense_net import DenseNet
from ..blocks.i3d import I3dNet
from ..key_maps import dense_net as dense_net_keys
from ..key_maps import i3d as i3d_keys
from .frame import FIRST
from .presets import i3d_clip, i3d_grey, keras224
from .system import Graph, PartImport, System, graph_node, register_system
from .targets import check_choice, only_target

STREAMS = ("frames", "video", "flow")
CLIP_S, RATE, FRAMES = 3.0, 15, 7
_FP16 = "3-D convolutions: int8 kernels are rare and gain little (models.md 6.3)"


class FrameStream(nn.Module):
    """A frame ``[B,3,H,W]`` to a score ``[B,1]``."""

    def __init__(self, width: float) -> None:
        super().__init__()
        self.trunk = DenseNet(width)
        self.head = nn.Linear(self.trunk.features, 1)

    def forward(self, frames: Tensor) -> tuple[Tensor]:
        """Sigmoid of one linear layer on the pooled features."""
        return (torch.sigmoid(self.head(self.trunk(frames))),)


class ClipStream(nn.Module):
    """A clip ``[B,C,T,S,S]`` to the score ``[B,1]`` after 180 items of the memory game and its slope ``[B,1]``."""

    def __init__(self, channels: int, size: int, width: float, dropout: float) -> None:
        super().__init__()
        self.trunk = I3dNet(channels, width)
        self.pool = nn.AvgPool3d((2, -(-size // 32), -(-size // 32)), 1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Conv3d(self.trunk.features, 2, 1)
        self.mean = ClipMean()

    def forward(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """tanh of the mean over the steps in time."""
        both = torch.tanh(self.mean(self.head(self.dropout(self.pool(self.trunk(clip))))))
        return both[:, :1], both[:, 1:]


class StreamMean(nn.Module):
    """Scores of frames ``[B,7,1]`` where there are some, then score and slope ``[B,1]`` of each clip stream, to the
    mean score and, where there are clip streams, the mean slope."""

    def __init__(self, frames: bool) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Score, slope."""
        scores = [inputs[0].mean(1)] if self.frames else []
        clips = inputs[int(self.frames) :]
        scores += clips[::2]
        slopes = clips[1::2]
        score = torch.stack(scores).mean(0)
        return (score, torch.stack(list(slopes)).mean(0)) if slopes else (score,)


def _clip_node(name: str, preset: Preprocess, frames: int, outputs: tuple[NodeOutput, ...], **host: Any) -> Node:
    item = NodeInput(name="clip", source="source", preprocess=preset, last=frames, stride_s=1 / RATE)
    kind: Any = "extractor" if host else "graph"
    return Node(name=name, kind=kind, inputs=(item,), outputs=outputs, period_s=CLIP_S, anchor="start", **host)


_BOTH = (NodeOutput(name="score", role="contribution"), NodeOutput(name="alpha", role="features"))
# Memento10k's clips of 3 s followed each other; the networks learn the score after 180 of them.
_SLOPE = NodeOutput(name="alpha", role="decay", decay=Decay(lag=180, item_s=CLIP_S))
_MEMENTO = "DenseNet-121 of ImageNet (torchvision)"
_I3D = "I3D of Kinetics (piergiaj's PyTorch or the Keras port)"


@register_system(
    "semantic-memnet",
    imports=(
        PartImport("frames.trunk", _MEMENTO, dense_net_keys.rename, dense_net_keys.is_dense_net),
        PartImport("video.trunk", _I3D, i3d_keys.rename, lambda s: i3d_keys.detect(s) and i3d_keys.channels(s) == 3),
        PartImport(
            "flow.trunk",
            f"{_I3D}, on flow",
            i3d_keys.rename,
            lambda s: i3d_keys.detect(s) and i3d_keys.channels(s) == 2,
        ),
    ),
    torchvision={"frames.trunk": "densenet121"},
)
def semantic_memnet(
    width: float = 1.0,
    *,
    targets: Sequence[str] = (FIRST,),
    cuts: Sequence[float] = (),
    streams: str = ",".join(STREAMS),
    flow: str = "dis",
    size: int = 224,
) -> System:
    """Frames every 3/7 s, clips of 45 frames that start every 3 s.

    ``streams``: which of frames, video, flow (``frames,video`` for devices without OpenCV); each can be trained alone.
    ``flow``: how OpenCV computes it: ``dis``, ``tvl1`` (as published, slow, contributed module) or ``farneback``.
    ``size``: side of the pictures that the networks see, 224 as published.
    """
    target = only_target("semantic-memnet", targets, cuts)
    check_choice("semantic-memnet", "flow", flow, ("dis", "tvl1", "farneback"))
    wanted = [name.strip() for name in streams.split(",") if name.strip()]
    if not wanted or len(set(wanted)) < len(wanted) or not set(wanted) <= set(STREAMS):
        raise UsageError(f"semantic-memnet: option streams={streams}; expected some of {','.join(STREAMS)}")
    if size < 64:
        raise UsageError(f"semantic-memnet: option size={size}; expected 64 or more")
    frames = round(CLIP_S * RATE)
    nodes: list[Node] = []
    graphs: dict[str, Graph] = {}
    inputs: list[NodeInput] = []
    if "frames" in wanted:
        item = NodeInput(name="frames", source="source", preprocess=keras224(size))
        nodes.append(graph_node("frames", [item], {"score": "contribution"}, CLIP_S / FRAMES))
        graphs["frames"] = Graph(FrameStream(width), float_layers=("head",))
        inputs.append(NodeInput(name="frames", source="frames.score", last=FRAMES))
    if "video" in wanted:
        nodes.append(_clip_node("video", i3d_clip(size), frames, _BOTH))
        graphs["video"] = _graph(3, frames, size, width, 0.3)
        inputs += _pair("video")
    if "flow" in wanted:
        fields = (NodeOutput(name="flow", role="features"),)
        options: dict[str, Any] = {"method": flow, "crop": size, "version": 1}
        nodes.append(_clip_node("fields", i3d_grey(size), frames, fields, extractor="flow-clip", options=options))
        nodes.append(
            Node(name="flow", kind="graph", inputs=(NodeInput(name="flow", source="fields.flow"),), outputs=_BOTH)
        )
        graphs["flow"] = _graph(2, frames - 1, size, width, 0.5)
        inputs += _pair("flow")
    clips = [name for name in wanted if name != "frames"]
    outputs = [NodeOutput(name="score", role="score"), *([_SLOPE] if clips else [])]
    after = next((name for name in ("flow", "video") if name in wanted), None)
    nodes.append(Node(name="streams", kind="graph", inputs=tuple(inputs), outputs=tuple(outputs), after=after))
    graphs["streams"] = Graph(StreamMean("frames" in wanted), "fp32", "a mean of three numbers")
    return System(
        nodes,
        graphs,
        [Target(name=target, source="streams.score", window_s=CLIP_S, sampling="C45", primary=True)],
        extractors={"flow-clip": "1"} if "flow" in wanted else {},
    )


def _pair(stream: str) -> list[NodeInput]:
    return [NodeInput(name=f"{stream}_{name}", source=f"{stream}.{name}") for name in ("score", "alpha")]


def _graph(channels: int, frames: int, size: int, width: float, dropout: float) -> Graph:
    network = ClipStream(channels, size, width, dropout)
    return Graph(network, "fp16", _FP16, lambda module: as_2d(module, (channels, frames, size, size)))
