"""MemNet's weights: the PyTorch port of pretorched-x and files with the Caffe model's layer names."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``conv1`` ... ``fc7`` under ``trunk.``, ``fc8`` (Caffe: ``fc8-euclidean``) as the head. The head's values are
    scores, so that there is nothing to undo: mean 0 and deviation 1. The port's post-processing is an option of the
    system, not of the file."""
    found = {}
    for name, tensor in state.items():
        layer, _, leaf = name.removeprefix("module.").rpartition(".")
        if layer in ("fc8", "fc8-euclidean"):
            found[f"head.0.{leaf}"] = tensor
        elif layer in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"):
            found[f"trunk.{layer}.{leaf}"] = tensor
    if any(name.startswith("head.") for name in found):
        found["scale.mean"], found["scale.std"] = torch.zeros(1), torch.ones(1)
    return found
