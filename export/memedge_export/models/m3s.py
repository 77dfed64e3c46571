"""M3-S, modular memorability (T. Dumont, J. S. Hevia, C. L. Fosco, CVPR 2023): low-level values, HRNet's and CSN's
features, and how far these stand out from the training set; every combination of the four modules.

Counts: HRNet 65,325,120 parameters and 21.18 GMAC, CSN 32,196,992 and 158.24 GMAC (10.47 with 16 frames of 112 x 112),
head 1,894,529; 99,416,641 and 179.4 GMAC a clip in all. What is fitted (components of HOG, clusters) counts as buffers.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from torch import Tensor, nn

from memedge_engines.features import declared
from memedge_engines.manifest import Node, NodeInput, NodeOutput, Preprocess, Role, Target

from ..blocks.as_2d import as_2d
from ..blocks.distance_measures import MEASURES, Distinctiveness
from ..blocks.distinctiveness import PcaWhiten
from ..blocks.hrnet import HrnetV2
from ..blocks.m3s_head import RAW, M3sHead
from ..blocks.standardise import Standardise
from ..blocks.video_resnet import CsnBottleneck, VideoResNet
from ..blocks.widths import scaled
from ..key_maps import csail_hrnet, m3s_head, vmz_csn
from ..train.distinctiveness import RADIUS, fit_components, fit_part
from ..train.fitting import FittedPart
from . import squash_preset
from .frame import FIRST
from .presets import csn, plain256
from .system import Graph, PartImport, System, graph_node, register_system
from .targets import check_choice, only_target

if TYPE_CHECKING:
    from ..train.fitting import FitData

PERIOD_S = 3.0
_NEAREST = "only which of its cluster centres is nearest is read, and 8 bits move pictures from one to another"
_RATE = 15
_HOG = 34_596
# Of HOG's 34,596 numbers: half a gigabyte.
_MOST_HOGS = 4000
_SCALARS = {"brightness": "brightness", "contrast": "contrast", "motion": "flow-magnitude", "blurriness": "blurriness"}


@dataclass(frozen=True)
class Clip:
    """What CSN sees of three seconds: ``frames`` of ``side`` x ``side`` pixels, evenly spaced from the first one on."""

    frames: int
    side: int

    @property
    def stride_s(self) -> float:
        """Seconds between two of them."""
        return PERIOD_S / self.frames

    def low_frames(self, low_hz: int) -> int:
        """Frames that low-level values are taken of, ``low_hz`` a second from the clip's first to its last."""
        return int((self.frames - 1) * self.stride_s * low_hz + 1e-6) + 1


CLIPS = {"45x256": Clip(45, 256), "16x112": Clip(16, 112)}


class Components(PcaWhiten):
    """HOG ``[B,34596]`` to its ten whitened components, as an only output."""

    def forward(self, hog: Tensor) -> tuple[Tensor]:  # type: ignore[override]
        """The components ``[B,10]``."""
        return (super().forward(hog),)


class Mid(HrnetV2):
    """HRNet's features as an only output."""

    def forward(self, frames: Tensor) -> tuple[Tensor]:  # type: ignore[override]
        """The features ``[B,720]``."""
        return (super().forward(frames),)


class High(VideoResNet):
    """ip-CSN-152's features as an only output."""

    def __init__(self, width: float = 1.0, depths: Sequence[int] = (3, 8, 36, 3)) -> None:
        super().__init__(CsnBottleneck, CsnBottleneck.expansion, depths, "flat", width)

    def forward(self, clip: Tensor) -> tuple[Tensor]:  # type: ignore[override]
        """The features ``[B,2048]``."""
        return (super().forward(clip),)


@dataclass(frozen=True)
class Parts:
    """The networks that a combination of modules is made of.

    Attributes:
        letters: modules, of ``lmhs``. mid, high: trunks, where a module needs them.
        clip: what CSN sees. mid_frames: frames that HRNet sees of it, evenly spaced from its first one on.
        flat: CSN is exported with 2-D operators. low_hz: frames a second that low-level values are taken of.
    """

    letters: str
    mid: Mid | None
    high: High | None
    sims: dict[str, Distinctiveness]
    clip: Clip = CLIPS["45x256"]
    mid_frames: int = 1
    flat: bool = False
    low_hz: int = _RATE


def system(parts: Parts, target: str) -> System:
    """The dataflow: low-level values 15 times a second, HRNet and CSN every 3 s, the head after each clip."""
    nodes: list[Node] = []
    graphs: dict[str, Graph] = {}
    inputs: list[NodeInput] = []
    fitted: list[FittedPart] = []
    extractors: dict[str, str] = {}
    if "l" in parts.letters:
        made = _low(parts.clip.low_frames(parts.low_hz), 1 / parts.low_hz)
        nodes += made
        graphs["pca"] = Graph(Components(_HOG), "fp32", "fitted components of a histogram: 0.3 million multiply-adds")
        fitted.append(FittedPart("pca", fit_components("pca", _MOST_HOGS)))
        names = [node.extractor for node in made if node.kind == "extractor"]
        extractors = {name: _version(name) for name in names if name is not None}
        inputs += [_value(name, f"{name}_mean.{name}") for name in ("hog", *_SCALARS)]
        inputs.append(NodeInput(name="bytes_per_s", source="caller", default=[0.0], shape=(1,)))
    sizes = {}
    after = "motion_mean" if "l" in parts.letters else None
    if parts.mid is not None:
        nodes += _mid(parts.mid_frames)
        graphs["mid"] = Graph(parts.mid) if "m" in parts.letters else Graph(parts.mid, "fp16", _NEAREST)
        sizes["mid"] = parts.mid.features
        inputs.append(_value("mid", f"{nodes[-1].name}.features"))
        after = after or nodes[-1].name
    if parts.high is not None:
        nodes.append(_high(parts.clip))
        graphs["high"] = _csn(parts.high, parts.clip, parts.flat)
        sizes["high"] = parts.high.features
        inputs.append(_value("high", "high.features"))
        after = "high"
    head = M3sHead(parts.letters, sizes, parts.sims)
    roles: dict[str, Role] = {"score": "score", "embedding": "embedding"}
    roles |= dict.fromkeys(head.contributions, "contribution")
    nodes.append(_after(graph_node("head", inputs, roles), after))
    graphs["head"] = Graph(head, "fp32", "two million multiply-adds and an ArgMax: nothing to gain")
    fitted += [FittedPart(f"head.sims.{kind}", fit_part(f"head.sims.{kind}", RADIUS[kind])) for kind in head.sims]
    if head.standard is not None:
        fitted.append(FittedPart("head.standard", _fit_raw))
    # HRNet alone sees a clip's first frame only, and so does its score of a video.
    sampling: Any = "F1" if parts.letters == "m" and parts.mid_frames == 1 else "C45"
    scored = Target(
        name=target, source="head.score", aggregate="last", window_s=PERIOD_S, sampling=sampling, primary=True
    )
    return System(nodes, graphs, [scored], last=("head.mlp.2",), extractors=extractors, fitted=fitted)


def _value(name: str, source: str) -> NodeInput:
    return NodeInput(name=name, source=source)


def _after(node: Node, name: str | None) -> Node:
    return msgspec.structs.replace(node, after=name)


def _version(extractor: str) -> str:
    found = declared(extractor)
    return "" if found is None else str(found.version)


def _extractor(name: str, extractor: str, picture: Preprocess, period_s: float, frames: int = 1) -> Node:
    item = NodeInput(
        name="frames",
        source="source",
        preprocess=picture,
        last=frames,
        stride_s=1 / _RATE if frames > 1 else 0.0,
        padding="wait" if frames > 1 else "repeat_oldest",
    )
    return Node(
        name=name,
        kind="extractor",
        extractor=extractor,
        inputs=(item,),
        outputs=(NodeOutput(name=name, role="features"),),
        period_s=period_s,
        options={"version": int(_version(extractor))},
    )


def _mean(name: str, source: str, frames: int, stride_s: float, output: str | None = None) -> Node:
    return Node(
        name=f"{name}_mean",
        kind="aggregate",
        extractor="mean",
        inputs=(NodeInput(name="values", source=source, last=frames, stride_s=stride_s),),
        outputs=(NodeOutput(name=output or name, role="features"),),
        period_s=stride_s,
    )


def _low(frames: int, period_s: float) -> list[Node]:
    """HOG and its components, brightness, contrast, motion and blurriness of single frames, and their means over a
    clip. Motion is the flow from the frame 1/15 s before; the clip's first frame has none."""
    found = [
        _extractor("hog", "hog", plain256(), period_s),
        graph_node("pca", [_value("hog", "hog.hog")], {"components": "features"}),
    ]
    for name, extractor in _SCALARS.items():
        if name == "motion":
            found.append(_extractor(name, extractor, plain256("gray", "ncthw"), period_s, 2))
        else:
            found.append(_extractor(name, extractor, plain256(), period_s))
    found.append(_mean("hog", "pca.components", frames, period_s))
    found += [_mean(name, f"{name}.{name}", frames - (name == "motion"), period_s) for name in _SCALARS]
    return found


def _mid(frames: int) -> list[Node]:
    period_s = PERIOD_S / frames
    item = NodeInput(name="frames", source="source", preprocess=squash_preset(256, 256))
    node = graph_node("mid", [item], {"features": "features"}, period_s)
    return [node] if frames == 1 else [node, _mean("mid", "mid.features", frames, period_s, "features")]


def _high(clip: Clip) -> Node:
    item = NodeInput(name="clip", source="source", preprocess=csn(clip.side), last=clip.frames, stride_s=clip.stride_s)
    node = graph_node("high", [item], {"features": "features"}, PERIOD_S)
    return msgspec.structs.replace(node, anchor="start")


def _csn(high: High, clip: Clip, flat: bool) -> Graph:
    def form(module: nn.Module) -> nn.Module:
        return as_2d(module, (3, clip.frames, clip.side, clip.side))

    reason = "depthwise 3-D convolutions: 8 bits gain nothing there"
    return Graph(high, "fp16", reason, form if flat else None)


@torch.no_grad()
def _fit_raw(network: System, data: FitData) -> None:
    """Mean and deviation of the raw values; of the size, over the videos whose size is known."""
    standard = network.get_submodule("head.standard")
    assert isinstance(standard, Standardise)
    rows = data.entering("head.standard").values
    standard.fit([rows])
    known = rows[rows[:, RAW - 1] > 0, RAW - 1]
    several = len(known) > 1 and float(known.std(correction=0)) > 0
    standard.mean[RAW - 1] = known.mean() if len(known) else 0.0
    standard.std[RAW - 1] = known.std(correction=0) if several else 1.0


_IMPORTS = {
    "mid": PartImport("mid", "CSAIL's HRNetV2-W48 encoder", csail_hrnet.rename, csail_hrnet.detect),
    "high": PartImport("high", "VMZ's ip-CSN-152", vmz_csn.rename, vmz_csn.detect_ip),
    "head": PartImport("head.mlp", "M3-S's released head", m3s_head.rename, m3s_head.detect, m3s_head.options),
}
_LETTERS = "lmhs"
_NAMES = {"lmhs": "m3s", "l": "m3s-low", "m": "m3s-mid", "h": "m3s-high", "s": "m3s-sim"}
COMBINATIONS = {
    _NAMES.get(letters, f"m3s-{letters}"): letters
    for count in range(len(_LETTERS), 0, -1)
    for letters in map("".join, itertools.combinations(_LETTERS, count))
}
"""Ids, and which modules they have."""


def m3s(
    width: float = 1.0,
    *,
    targets: Sequence[str] = (FIRST,),
    cuts: Sequence[float] = (),
    letters: str,
    clip: str = "45x256",
    mid_frames: int = 1,
    low_hz: int = _RATE,
    as_2d: bool = False,
    sim_of: str = "both",
    measure: str = "clusters",
    mid_slots: int = 434,
    high_slots: int = 418,
    noise_quirk: bool = False,
    faithful_labels: bool = False,
) -> System:
    """A clip of 3 s. ``clip``: ``45x256``, or ``16x112`` for small devices; ``mid_frames``: 1, 5 or 9 that HRNet sees;
    ``low_hz``: 15, 5 or 3 frames a second that low-level values are taken of, on the CPU in any case;
    ``as_2d``: CSN with 2-D operators. Distinctiveness: ``sim_of`` ``both``, ``mid`` or ``high`` features; ``measure``;
    slots of clusters (376 and 323 for VideoMem's released heads), noise included unless ``noise_quirk``;
    ``faithful_labels``: see :class:`ClusterOneHot`."""
    name = next(name for name, has in COMBINATIONS.items() if has == letters)
    check_choice(name, "clip", clip, tuple(CLIPS))
    check_choice(name, "mid_frames", str(mid_frames), ("1", "5", "9"))
    check_choice(name, "low_hz", str(low_hz), ("15", "5", "3"))
    check_choice(name, "sim_of", sim_of, ("both", "mid", "high"))
    check_choice(name, "measure", measure, MEASURES)
    of = ("mid", "high") if sim_of == "both" else (sim_of,)
    wanted = {kind for kind in ("mid", "high") if kind[0] in letters or ("s" in letters and kind in of)}
    mid = Mid(max(4, round(48 * width)), scaled(64, width)) if "mid" in wanted else None
    high = High(width) if "high" in wanted else None
    sizes = {"mid": mid.features if mid else 0, "high": high.features if high else 0}
    slots = {"mid": mid_slots, "high": high_slots}
    sims = {
        kind: Distinctiveness(
            sizes[kind],
            slots[kind] + noise_quirk,
            measure,
            noise_quirk=noise_quirk,
            faithful_labels=faithful_labels,
        )
        for kind in (of if "s" in letters else ())
    }
    return system(
        Parts(letters, mid, high, sims, CLIPS[clip], mid_frames, as_2d, low_hz), only_target(name, targets, cuts)
    )


for _id, _modules in COMBINATIONS.items():
    _parts = [p for kind, p in _IMPORTS.items() if kind == "head" or kind[0] in _modules or "s" in _modules]
    register_system(_id, imports=_parts, letters=_modules)(m3s)
