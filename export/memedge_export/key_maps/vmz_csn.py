"""Facebook's VMZ: channel-separated networks of 152 layers (ip- and ir-CSN), as its PyTorch models store them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_BLOCK = re.compile(r"(layer[1-4]\.\d+)\.(.+)\.([^.]+)$")
_STEM = {"stem.0": "conv1", "stem.1": "bn1"}
# ip-CSN has the convolution of 1x1x1 and its norm before the depthwise one, ir-CSN has not.
_INSIDE = {
    **{"conv1.0": "conv1", "conv1.1": "bn1", "conv3.0": "conv3", "conv3.1": "bn3", "conv2.1": "bn2"},
    **{"conv2.0.0": "mix", "conv2.0.1": "mix_bn", "conv2.0.2": "conv2"},
    **{"conv2.0": "conv2", "downsample.0": "downsample.0", "downsample.1": "downsample.1"},
}


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of :class:`..blocks.video_resnet.VideoResNet`; the classifier is dropped."""
    found = {}
    for full, tensor in state.items():
        name = full.removeprefix("module.")
        layer, _, leaf = name.rpartition(".")
        inner = _BLOCK.match(name)
        if layer in _STEM:
            found[f"{_STEM[layer]}.{leaf}"] = tensor
        elif inner and inner[2] in _INSIDE:
            found[f"{inner[1]}.{_INSIDE[inner[2]]}.{leaf}"] = tensor
    return found


def detect_ip(state: Mapping[str, Tensor]) -> bool:
    """Whether the state looks like an interaction-preserved network (ip-CSN)."""
    return _has(state, "layer1.0.conv2.0.2.weight")


def detect_ir(state: Mapping[str, Tensor]) -> bool:
    """Whether the state looks like an interaction-reduced network (ir-CSN)."""
    return _has(state, "layer1.0.conv2.0.weight") and _has(state, "stem.0.weight")


def _has(state: Mapping[str, Tensor], name: str) -> bool:
    return name in state or f"module.{name}" in state
