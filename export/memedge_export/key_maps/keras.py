"""Keras's layouts as torch's, and the names of arrays in a Keras file.

A file of weights (``.h5``, ``.hdf5``) is read as ``.npz`` or as safetensors with the same names, which this makes of it
where h5py is installed::

    import h5py, numpy
    arrays = {}
    with h5py.File("weights.hdf5") as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if hasattr(item, "shape") else None)
    numpy.savez("weights.npz", **arrays)
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Layers = dict[str, dict[str, Tensor]]


def layers(state: Mapping[str, Tensor]) -> Layers:
    """Arrays by layer and variable: ``model_weights/lstm/lstm/lstm_cell/kernel:0`` is ``kernel`` of ``lstm``.

    Optimiser states are left out.
    """
    found: Layers = {}
    for name, tensor in state.items():
        parts = [part for part in name.split("/") if part not in ("model_weights", "layers", "vars")]
        if len(parts) > 1 and parts[0] != "optimizer_weights":
            found.setdefault(parts[0], {})[parts[-1].partition(":")[0]] = tensor
    return found


def dense(layer: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``[in, out]`` to a linear layer's ``[out, in]``."""
    return _with_bias(layer, {"weight": layer["kernel"].T})


def dense_after_flatten(layer: Mapping[str, Tensor], shape: tuple[int, int, int]) -> dict[str, Tensor]:
    """A dense layer behind a flattened map of (height, width, channels), whose inputs torch has channels first."""
    height, width, channels = shape
    rows = layer["kernel"].reshape(height, width, channels, -1).permute(2, 0, 1, 3)
    return _with_bias(layer, {"weight": rows.flatten(0, 2).T})


def convolution(layer: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Kernel ``[..., in, out]`` of one to three spatial axes to ``[out, in, ...]``."""
    return _with_bias(layer, {"weight": _kernel(layer["kernel"])})


def lstm(layer: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An LSTM as :class:`memedge_export.blocks.recurrent.LstmCell`: gates have torch's order, and there is one bias."""
    found = {"input.weight": layer["kernel"].T, "recurrent.weight": layer["recurrent_kernel"].T}
    return found | ({"input.bias": layer["bias"]} if "bias" in layer else {})


def conv_lstm(layer: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A ConvLSTM2D as :class:`memedge_export.blocks.recurrent.ConvLstmCell`: both kernels side by side."""
    both = torch.cat((_kernel(layer["kernel"]), _kernel(layer["recurrent_kernel"])), 1)
    return {f"gates.{name}": tensor for name, tensor in _with_bias(layer, {"weight": both}).items()}


def batch_norm(layer: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Scale and shift, which a layer may lack, and running statistics."""
    mean = layer["moving_mean"]
    return {
        "weight": layer.get("gamma", torch.ones_like(mean)),
        "bias": layer.get("beta", torch.zeros_like(mean)),
        "running_mean": mean,
        "running_var": layer["moving_variance"],
    }


def _kernel(kernel: Tensor) -> Tensor:
    return kernel.movedim((-1, -2), (0, 1))


def _with_bias(layer: Mapping[str, Tensor], found: dict[str, Tensor]) -> dict[str, Tensor]:
    return found | ({"bias": layer["bias"]} if "bias" in layer else {})
