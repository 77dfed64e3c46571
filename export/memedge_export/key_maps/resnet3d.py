"""3D-ResNets-PyTorch (K. Hara et al.): ResNet-34 with 3x3x3 convolutions, trained on Kinetics and its successors.

Our :func:`..blocks.video_resnet.r3d34` has its names. Files of 2017 have shortcuts without parameters (type A) and were
trained on pictures of 0..255 less a mean; newer ones have convolutions there (type B).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

_STEM, _SHORTCUT = "conv1.weight", "layer2.0.downsample.0.weight"


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The trunk's tensors; the classifier of 400 or 700 classes is dropped."""
    names = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return {name: tensor for name, tensor in names.items() if not name.startswith("fc.")}


def detect(state: Mapping[str, Tensor]) -> bool:
    """Whether the state looks like such a file."""
    found = rename(state)
    return _STEM in found and found[_STEM].ndim == 5 and found[_STEM].shape[2] == 7


def options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The type of its shortcuts."""
    return {"shortcut": "B" if _SHORTCUT in rename(state) else "A"}
