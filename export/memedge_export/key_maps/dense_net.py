"""torchvision's DenseNet-121 to :class:`memedge_export.blocks.dense_net.DenseNet`, old spellings included."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

# Files of 2017 spell norm.1 and conv.2.
_OLD = re.compile(r"\.(norm|conv)\.([12])\.")


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The classifier and counters of batches are dropped."""
    found = {}
    for name, tensor in state.items():
        plain = _OLD.sub(r".\1\2.", name.removeprefix("module."))
        if plain.startswith("features.") and not plain.endswith("num_batches_tracked"):
            found[f"body.{plain.removeprefix('features.')}"] = tensor
    return found


def is_dense_net(state: Mapping[str, Tensor]) -> bool:
    """Whether a state looks like such a file."""
    return "body.denseblock4.denselayer16.conv2.weight" in rename(state)
