"""AMNet's public LaMem weights: a dict whose ``model`` has torchvision's trunk and flat names of the head.

The trunk is whole in the file, though only three stages of a ResNet are used; ``num_batches_tracked`` is not in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from ..blocks.soft_attention import ScoreScale

_TRUNK = "core_cnn.core_cnn."
_UNUSED = re.compile(r"(layer4|fc)\.")
_HEAD = {
    "inconv": "annot.conv",
    "bn1": "annot.bn",
    "hs1": "init_h",
    "hc1": "init_c",
    "e1": "att_static",
    "eh1": "att_query",
    "eh3": "att_score",
    "regnet1": "reg.0",
    "regnet4": "reg.1",
}


def is_amnet(state: Mapping[str, Tensor]) -> bool:
    """Whether names are those of AMNet's code."""
    return any(name.startswith(_TRUNK) for name in state)


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of :class:`memedge_export.models.amnet.AmNet`; the LSTM's two biases are summed, the scale of scores is
    the code's own."""
    scale = ScoreScale().state_dict()
    found = {f"head.scale.{name}": tensor for name, tensor in scale.items()}
    for name, tensor in state.items():
        layer, _, part = name.partition(".")
        if name.startswith(_TRUNK):
            inner = name.removeprefix(_TRUNK)
            if not _UNUSED.match(inner):
                found[f"trunk.{inner}"] = tensor
        elif layer in _HEAD:
            found[f"head.{_HEAD[layer]}.{part}"] = tensor
        elif part == "weight_ih_l0":
            found["head.cell.input.weight"] = tensor
        elif part == "weight_hh_l0":
            found["head.cell.recurrent.weight"] = tensor
        elif part in ("bias_ih_l0", "bias_hh_l0"):
            before = found.get("head.cell.input.bias")
            found["head.cell.input.bias"] = tensor if before is None else before + tensor
    return found
