"""torchvision's Inception-v3 to :class:`memedge_export.blocks.inception_v3.InceptionV3`: the same names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

_DROPPED = ("AuxLogits.",)


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The auxiliary classifier and counters of batches are dropped."""
    return {
        name.removeprefix("module."): tensor
        for name, tensor in state.items()
        if not name.removeprefix("module.").startswith(_DROPPED) and not name.endswith("num_batches_tracked")
    }


def is_inception_v3(state: Mapping[str, Tensor]) -> bool:
    """Whether a state looks like such a file."""
    return any(name.removeprefix("module.") == "Mixed_7c.branch_pool.conv.weight" for name in state)
