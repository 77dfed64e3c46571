"""CSAIL's scene parser for ADE20K: the file of its HRNetV2-W48 encoder (``encoder_epoch_30.pth``).

Our network (:mod:`..blocks.hrnet`) has its names. Counters of batches are dropped; decoders are files of their own.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

_COUNTER = "num_batches_tracked"


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors by our names."""
    return {
        name.removeprefix("module."): tensor for name, tensor in state.items() if name.rpartition(".")[2] != _COUNTER
    }


def detect(state: Mapping[str, Tensor]) -> bool:
    """Whether the state looks like this file."""
    return any(name.removeprefix("module.").startswith("stage4.0.fuse_layers.") for name in state)
