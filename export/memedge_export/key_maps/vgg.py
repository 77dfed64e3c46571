"""VGG weights: torchvision's ``features.N`` / ``classifier.N`` and Caffe's ``convB_I`` / ``fcN`` to :class:`Vgg`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_CONVOLUTION = re.compile(r"^conv([1-5])_([1-4])\.(weight|bias)$")
_DENSE = {"classifier.0": "fc6", "classifier.3": "fc7"}


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Either kind; the classifier of 1000 classes (``classifier.6``, ``fc8``) is dropped."""
    names = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    places = _places(names)
    found = {}
    for name, tensor in names.items():
        head, _, leaf = name.rpartition(".")
        if name.startswith("features."):
            found[f"body.{name.removeprefix('features.')}"] = tensor
        elif head in _DENSE:
            found[f"{_DENSE[head]}.{leaf}"] = tensor
        elif head in places:
            found[f"body.{places[head]}.{leaf}"] = tensor
        elif head in ("fc6", "fc7"):
            found[name] = tensor
    return found


def _places(names: Mapping[str, Tensor]) -> dict[str, int]:
    """Caffe's names of the convolutions in ``names`` to their numbers in torchvision's ``features``: each convolution
    is followed by a ReLU, each stage by a pool."""
    layers = sorted({(int(m[1]), int(m[2])) for m in map(_CONVOLUTION.match, names) if m})
    return {f"conv{stage}_{number}": 2 * position + stage - 1 for position, (stage, number) in enumerate(layers)}


def is_vgg16(state: Mapping[str, Tensor]) -> bool:
    """Whether a state looks like a file of VGG-16."""
    return _last(state, "features.28.weight", "conv5_3.weight") and not is_vgg19(state)


def is_vgg19(state: Mapping[str, Tensor]) -> bool:
    """Whether a state looks like a file of VGG-19."""
    return _last(state, "features.34.weight", "conv5_4.weight")


def _last(state: Mapping[str, Tensor], *names: str) -> bool:
    return any(name in state and state[name].ndim == 4 and tuple(state[name].shape[2:]) == (3, 3) for name in names)
