"""DSVE's public checkpoint: image tower and text tower in one file (:mod:`memedge_export.stored_tensors` reads it).

The trunk is the children of torchvision's ResNet-152 by number. A weight of an SRU layer is ``[inputs, hidden * k]``:
the k products of one hidden unit (input, forget gate, reset gate, skip where sizes differ) side by side.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import WeightsError

_BASE = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
_IMAGE = re.compile(r"img_emb\.base_layer\.0\.(\d+)\.(.+)")
_PROJECT = re.compile(r"img_emb\.base_layer\.1\.(.+)")
_TEXT = re.compile(r"cap_emb\.rnn\.rnn_lst\.(\d+)\.(.+)")


def is_dsve(state: Mapping[str, Tensor]) -> bool:
    """Whether names are those of DSVE's code."""
    return any(name.startswith(("img_emb.", "cap_emb.")) for name in state)


def rename_image(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of :class:`memedge_export.blocks.dsve.DsveTower` without attention."""
    found: dict[str, Tensor] = {}
    for name, tensor in _plain(state).items():
        if base := _IMAGE.fullmatch(name):
            found[f"base.{_BASE.get(base[1], base[1])}.{base[2]}"] = tensor
        elif project := _PROJECT.fullmatch(name):
            found[f"project.{project[1]}"] = tensor
        elif name.startswith("fc."):
            found[name] = tensor
    return found


def rename_attended(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same with attention, which the file does not have: even at first, so that it changes nothing."""
    found = rename_image(state)
    if "project.weight" in found:
        found["attention.conv.weight"] = torch.zeros(1, *found["project.weight"].shape[1:])
        found["attention.conv.bias"] = torch.zeros(1)
    return found


def rename_text(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names and layouts of :class:`memedge_export.blocks.sru.SruStack`.

    Raises:
        WeightsError: layers of a later version of SRU, whose gates see the state before, or whose skip is scaled.
    """
    found: dict[str, Tensor] = {}
    plain = _plain(state)
    for name, tensor in plain.items():
        match = _TEXT.fullmatch(name)
        if match is None:
            continue
        layer, part = f"layers.{match[1]}", match[2]
        if part == "weight":
            bias = plain.get(name.replace(".weight", ".bias"))
            found[f"{layer}.linear.weight"] = tensor if bias is None else _unpacked(tensor, bias.numel() // 2)
        elif part == "bias":
            found[f"{layer}.bias"] = tensor.reshape(2, -1)
        elif (part == "weight_c" and bool(tensor.any())) or (part == "scale_x" and not bool((tensor == 1).all())):
            raise WeightsError(f"'{name}' is in use: layers of SRU's second version; expected the first, as DSVE has")
    return found


def _unpacked(weight: Tensor, hidden: int) -> Tensor:
    """``[inputs, hidden * k]``, products side by side, to ``[k * hidden, inputs]``, products below each other; a weight
    that is not so packed as it is, for the loader to name."""
    if weight.ndim != 2 or hidden < 1 or weight.shape[1] % hidden:
        return weight
    return weight.reshape(len(weight), hidden, -1).permute(2, 1, 0).reshape(-1, len(weight))


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the ``module`` that torch's DataParallel puts in."""
    return {".".join(part for part in name.split(".") if part != "module"): tensor for name, tensor in state.items()}
