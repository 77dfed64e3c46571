"""The released heads of M3-S (``modular-memorability``): three linear layers over joined modules.

They take raw, HRNet's, CSN's, one-hot of HRNet's cluster, one-hot of CSN's, in this order, which is ours. The clusters
they were trained with were released apart: without them the one-hot inputs mean something else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

# Inputs to the clusters of the set that the head was trained on.
_SLOTS = {3635: (434, 418), 3482: (376, 323)}
_NAME = re.compile(r"^(?:module\.)?mlp\.linear_(\d)\.0\.(weight|bias)$")


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The layers' tensors by our names (``0.weight`` ... of the head)."""
    found = {}
    for name, tensor in state.items():
        match = _NAME.match(name)
        if match:
            found[f"{match[1]}.{match[2]}"] = tensor
    return found


def detect(state: Mapping[str, Tensor]) -> bool:
    """Whether the state looks like this file."""
    return any(_NAME.match(name) for name in state)


def options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The system's options that a head of all modules asks for: slots of its clusters, the last one shared by noise."""
    first = rename(state).get("0.weight")
    slots = None if first is None else _SLOTS.get(first.shape[-1])
    return {} if slots is None else {"mid_slots": slots[0], "high_slots": slots[1], "noise_quirk": True}
