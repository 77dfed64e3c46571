"""MemNet's weights: the PyTorch port of pretorched-x and files with the Caffe model's layer names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_TRUNK = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")
_CAFFE = "fc8-euclidean"
_LAST = ("fc8", _CAFFE)  # the port's name, and Caffe's


def rename_trunk(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``conv1`` ... ``fc7``; the last layer is dropped. CaffeNet itself (Hybrid-CNN) has the same names."""
    return {name: tensor for name, tensor in state.items() if name.rpartition(".")[0] in _TRUNK}


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The whole network. The last layer's values are scores, so that there is nothing to undo: mean 0, deviation 1. The
    port's post-processing is an option of the system, not of the file."""
    found = {f"trunk.{name}": tensor for name, tensor in rename_trunk(state).items()}
    for name, tensor in state.items():
        layer, _, leaf = name.rpartition(".")
        if layer in _LAST:
            found[f"head.0.{leaf}"] = tensor
    return found | {"scale.mean": torch.zeros(1), "scale.std": torch.ones(1)}


def is_memnet(state: Mapping[str, Tensor]) -> bool:
    """Whether a state looks like MemNet's: CaffeNet with one output."""
    return is_caffenet(state) and any(len(state[f"{name}.bias"]) == 1 for name in _LAST if f"{name}.bias" in state)


def is_caffenet(state: Mapping[str, Tensor]) -> bool:
    """Whether a state looks like a network of these layers, whatever it ends with."""
    return all(f"{name}.weight" in state for name in _TRUNK)


def is_other_caffenet(state: Mapping[str, Tensor]) -> bool:
    """Whether a state looks like a network of these layers that ends with something else (1183 classes)."""
    return is_caffenet(state) and not is_memnet(state)


def options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The colours that a file's network takes: Caffe's where its names are Caffe's."""
    return {"colors": "caffe"} if f"{_CAFFE}.weight" in state else {}
