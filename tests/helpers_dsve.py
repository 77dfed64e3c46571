"""Tensors with the names and shapes of DSVE's public checkpoint."""

from __future__ import annotations

import torch

from memedge_export.blocks.dsve import DsveTower

_CHILDREN = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


def image_file(tower: DsveTower) -> dict[str, torch.Tensor]:
    """The tower's tensors under the names of the public file."""
    found = {}
    for name, tensor in tower.state_dict().items():
        part, _, rest = name.partition(".")
        if part == "base":
            child, _, rest = rest.partition(".")
            found[f"img_emb.module.base_layer.0.{_CHILDREN[child]}.{rest}"] = tensor
        elif part == "project":
            found[f"img_emb.module.base_layer.1.{rest}"] = tensor
        elif part == "fc":
            found[f"fc.module.{rest}"] = tensor
    return found


def text_file(words: int, hidden: int, layers: int) -> dict[str, torch.Tensor]:
    """Random SRU layers with the public names and shapes."""
    generator = torch.Generator().manual_seed(3)
    found = {}
    for k in range(layers):
        inputs, products = (words, 4) if k == 0 and words != hidden else (hidden, 3)
        found[f"cap_emb.rnn.rnn_lst.{k}.weight"] = torch.randn(inputs, hidden * products, generator=generator) / 8
        found[f"cap_emb.rnn.rnn_lst.{k}.bias"] = torch.randn(2 * hidden, generator=generator)
        found[f"cap_emb.rnn.rnn_lst.{k}.weight_c"] = torch.zeros(2 * hidden)
        found[f"cap_emb.rnn.rnn_lst.{k}.scale_x"] = torch.ones(1)
    return found
