"""Perceptrons on fixed features: Technicolor's at MediaEval 2018, one hidden layer of 100 and ReLU, and VideoMem's
baselines (R. Cohendet et al., ICCV 2019), tanh.

Parameters of the heads: c3d-mlp and c3d-mlp-videomem 10,301, hmp-mlp 607,701, colorhist-mlp 77,001, inceptionv3-mlp
100,201, lbp-mlp 12,401 (6,101 with 59 bins), aesthetics-mlp 11,101 on the released values, c3d-lbp-aesthetics-mlp
33,401, hmp-mlp-videomem 60,881, c3d-hmp-mlp 617,801. On our 40 aesthetic values there are fewer: 4,201 and 26,501.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from memedge_engines.manifest import NodeInput, Target

from ..blocks.feature_head import FeatureHead, ScoredFeature
from ..blocks.inception_v3 import InceptionV3
from ..blocks.mlp_head import Activation
from ..blocks.standardise import Standardise
from ..blocks.widths import scaled
from ..key_maps import c3d as c3d_keys
from ..key_maps import inception_v3 as inception_keys
from ..train.fitting import FittedPart
from . import feature_inputs
from .feature_inputs import FeatureInput, released
from .frame import FIRST
from .presets import INCEPTION299, native
from .system import Graph, PartImport, System, graph_node, register_system
from .targets import check_choice, only_target

if TYPE_CHECKING:
    from ..train.fitting import FitData

_HIDDEN = (100,)
_TINY = "a few thousand multiply-adds: nothing to gain, and 8 bits would squeeze the scores"
_INCEPTION = PartImport("trunk", "torchvision's Inception-v3", inception_keys.rename, inception_keys.is_inception_v3)
_C3D = (
    PartImport("c3d.trunk", "a PyTorch port of C3D", c3d_keys.rename, c3d_keys.detect_torch, c3d_keys.options),
    PartImport(
        "c3d.trunk", "the TensorFlow port of C3D", c3d_keys.rename, c3d_keys.detect_tensorflow, c3d_keys.options
    ),
)


def _fit(path: str) -> FittedPart:
    """Mean and deviation of the training features."""

    def fit(network: System, data: FitData) -> None:
        part = network.get_submodule(path)
        assert isinstance(part, Standardise)
        part.fit([data.entering(path).values.flatten(0, -2)])

    return FittedPart(path, fit)


def _on(
    inputs: Sequence[FeatureInput],
    target: str,
    width: float,
    sampling: Literal["K3", "HMP3", "all"],
    hidden: Sequence[int] = _HIDDEN,
    act: Activation = "relu",
) -> System:
    """A head on features: a score whenever one of them is new. ``K3``: the mean of the scores of key frames; else the
    newest score is that of the last 7 s."""
    head = FeatureHead([i.form for i in inputs], [i.size for i in inputs], [scaled(h, width) for h in hidden], act)
    graphs = {name: graph for one in inputs for name, graph in one.graphs.items()}
    path = "head.standardise" if graphs else "standardise"
    aggregate: Literal["mean", "last"] = "mean" if sampling == "K3" else "last"
    return System(
        [
            *(node for one in inputs for node in one.nodes),
            graph_node("head", [i.item for i in inputs], {"score": "score"}),
        ],
        {**graphs, "head": Graph(head, "fp32", _TINY)},
        [Target(name=target, source="head.score", aggregate=aggregate, sampling=sampling, primary=True)],
        last=(f"{'head.' if graphs else ''}head.{len(hidden)}",),
        extractors=feature_inputs.extractors_of(inputs),
        fitted=(_fit(path),),
    )


def _live(name: str, features: str) -> bool:
    check_choice(name, "features", features, ("live", "files"))
    return features == "live"


@register_system("hmp-mlp", name="hmp-mlp", hidden=_HIDDEN, act="relu")
@register_system("hmp-mlp-videomem", name="hmp-mlp-videomem", hidden=(10, 10), act="tanh")
def hmp_mlp(
    width: float = 1.0,
    *,
    targets: Sequence[str] = (FIRST,),
    cuts: Sequence[float] = (),
    features: str = "live",
    rate: int = 12,
    name: str,
    hidden: Sequence[int],
    act: Activation,
) -> System:
    """Motion patterns of the last 7 s. ``features``: ``live``, or ``files`` as MediaEval 2018 released them (for
    training; no live extractor equals them); ``rate``: frames a second that are looked at, published: every frame."""
    target = only_target(name, targets, cuts)
    one = feature_inputs.hmp(name, rate) if _live(name, features) else released("HMP", 6075)
    return _on([one], target, width, "HMP3", hidden, act)


@register_system("colorhist-mlp")
def colorhist_mlp(
    width: float = 1.0,
    *,
    targets: Sequence[str] = (FIRST,),
    cuts: Sequence[float] = (),
    features: str = "live",
    extractor: str = "colorhist-rgb",
    swap: bool = False,
) -> System:
    """Colour histograms of three key frames. ``extractor``: ``colorhist-rgb`` or ``colorhist-hsv``; ``swap``: blue
    first, as in the released files."""
    name = "colorhist-mlp"
    target = only_target(name, targets, cuts)
    check_choice(name, "extractor", extractor, ("colorhist-rgb", "colorhist-hsv"))
    if not _live(name, features):
        return _on([released("ColorHistogram", 768, key_frames=True)], target, width, "all")
    options = {"swap": swap} if extractor == "colorhist-rgb" else {}
    return _on([feature_inputs.key_frame(extractor, native("rgb"), **options)], target, width, "K3")


@register_system("lbp-mlp")
def lbp_mlp(
    width: float = 1.0,
    *,
    targets: Sequence[str] = (FIRST,),
    cuts: Sequence[float] = (),
    features: str = "live",
    extractor: str = "lbp122",
    full_size: bool = False,
) -> System:
    """Local binary patterns of three key frames. ``extractor``: ``lbp122`` or ``lbp59``; ``full_size``: of the whole
    picture instead of a short side of 480."""
    name = "lbp-mlp"
    target = only_target(name, targets, cuts)
    if not _live(name, features):
        return _on([released("LBP", 122, key_frames=True)], target, width, "all")
    return _on([feature_inputs.lbp(name, extractor, full_size)], target, width, "K3")


def _aesthetics(name: str, features: str, average: str) -> list[FeatureInput]:
    check_choice(name, "average", average, ("mean", "median", "both"))
    if _live(name, features):
        return feature_inputs.aesthetics(average)
    kinds = ("mean", "median") if average == "both" else (average,)
    return [released(f"aesthetic_{kind}", 109) for kind in kinds]


@register_system("aesthetics-mlp")
def aesthetics_mlp(
    width: float = 1.0,
    *,
    targets: Sequence[str] = (FIRST,),
    cuts: Sequence[float] = (),
    features: str = "live",
    average: str = "mean",
) -> System:
    """Aesthetics of every tenth frame, averaged over 7 s: our 40 values, or the 109 of the files. ``average``:
    ``mean``, ``median`` or ``both``."""
    target = only_target("aesthetics-mlp", targets, cuts)
    return _on(_aesthetics("aesthetics-mlp", features, average), target, width, "all")


@register_system("inceptionv3-mlp", imports=(_INCEPTION,), torchvision={"trunk": "inception_v3"})
def inceptionv3_mlp(
    width: float = 1.0,
    *,
    targets: Sequence[str] = (FIRST,),
    cuts: Sequence[float] = (),
    features: str = "live",
    output: str = "softmax",
) -> System:
    """Inception-v3's 1,000 classes of three key frames, prepared as the network was trained (the released files are
    not). ``output``: ``softmax``, or ``pool``, its 2,048 pooled features."""
    name = "inceptionv3-mlp"
    target = only_target(name, targets, cuts)
    check_choice(name, "output", output, ("softmax", "pool"))
    if not _live(name, features):
        return _on([released("InceptionV3", 1000, key_frames=True)], target, width, "all")
    trunk = InceptionV3("pool" if output == "pool" else "softmax", width)
    network = ScoredFeature(trunk, trunk.features, [scaled(h, width) for h in _HIDDEN])
    frames = NodeInput(name="frames", source="source", preprocess=INCEPTION299)
    floats = ("head", "standardise") if trunk.fc is None else ("head", "standardise", "trunk.fc")
    return System(
        [graph_node("model", [frames], {"score": "score"}, feature_inputs.KEY_FRAME_S)],
        {"model": Graph(network, float_layers=floats)},
        [Target(name=target, source="model.score", sampling="K3", primary=True)],
        last=("head.1",),
        fitted=(_fit("standardise"),),
    )


_CLIPS: dict[str, Any] = {"imports": _C3D}


@register_system("c3d-mlp", **_CLIPS, name="c3d-mlp", act="relu")
@register_system("c3d-mlp-videomem", **_CLIPS, name="c3d-mlp-videomem", act="tanh")
def c3d_mlp(
    width: float = 1.0,
    *,
    targets: Sequence[str] = (FIRST,),
    cuts: Sequence[float] = (),
    features: str = "live",
    pool5: str = "after",
    clip: str = "first",
    name: str,
    act: Activation,
) -> System:
    """C3D's probabilities of 101 actions. ``clip``: of the ``first`` 16 frames of 7 s, as published, or the ``newest``;
    ``pool5``: as the weights were trained (``after``: TensorFlow's port, ``both``: PyTorch's), which a file says
    itself."""
    target = only_target(name, targets, cuts)
    one = feature_inputs.c3d(width, pool5, clip) if _live(name, features) else released("C3D", 101)
    return _on([one], target, width, "all", act=act)


@register_system("c3d-lbp-aesthetics-mlp", **_CLIPS)
def c3d_lbp_aesthetics_mlp(
    width: float = 1.0,
    *,
    targets: Sequence[str] = (FIRST,),
    cuts: Sequence[float] = (),
    features: str = "live",
    extractor: str = "lbp122",
    full_size: bool = False,
    average: str = "mean",
    pool5: str = "after",
    clip: str = "first",
) -> System:
    """C3D, local binary patterns of three key frames and aesthetics. Options as of the single systems; ``clip``: C3D's
    of the ``first`` 16 frames of 7 s, as published, or the ``newest``; ``pool5``: as the weights were trained
    (``after``: TensorFlow's port, ``both``: PyTorch's)."""
    name = "c3d-lbp-aesthetics-mlp"
    target = only_target(name, targets, cuts)
    tail = _aesthetics(name, features, average)
    if not _live(name, features):
        return _on([released("C3D", 101), released("LBP", 122, key_frames=True), *tail], target, width, "all")
    patterns = feature_inputs.lbp(name, extractor, full_size, together=True)
    return _on([feature_inputs.c3d(width, pool5, clip), patterns, *tail], target, width, "all")


@register_system("c3d-hmp-mlp", **_CLIPS)
def c3d_hmp_mlp(
    width: float = 1.0,
    *,
    targets: Sequence[str] = (FIRST,),
    cuts: Sequence[float] = (),
    features: str = "live",
    rate: int = 12,
    pool5: str = "after",
    clip: str = "first",
) -> System:
    """C3D and motion patterns, tanh. Options as of the others."""
    name = "c3d-hmp-mlp"
    target = only_target(name, targets, cuts)
    if _live(name, features):
        inputs = [feature_inputs.c3d(width, pool5, clip), feature_inputs.hmp(name, rate)]
    else:
        inputs = [released("C3D", 101), released("HMP", 6075)]
    return _on(inputs, target, width, "all", act="tanh")
