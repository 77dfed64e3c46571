"""Linear layers without an activation between them, one layer when exported."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LinearChain(nn.Sequential):
    """Linear layers, batch-norms over features and dropout, in any order: ``[..., F]`` to ``[..., G]``.

    In evaluation mode the whole is one affine map, which :meth:`collapsed` gives.
    """

    def collapsed(self) -> nn.Linear:
        """The chain as a single layer, computed in float64.

        Raises:
            TypeError: a layer of another kind.
        """
        weight: Tensor | None = None
        bias = torch.zeros(1, dtype=torch.float64)
        for layer in self:
            if isinstance(layer, nn.Dropout):
                continue
            own, shift = _affine(layer)
            bias = shift if weight is None else own @ bias + shift
            weight = own if weight is None else own @ weight
        assert weight is not None, "a chain has at least one layer"
        single = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            single.weight.copy_(weight)
            single.bias.copy_(bias)
        return single


def _affine(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Matrix and shift of one layer in evaluation mode, float64."""
    if isinstance(layer, nn.Linear):
        own = layer.weight.detach().double()
        return own, torch.zeros(len(own)).double() if layer.bias is None else layer.bias.detach().double()
    if isinstance(layer, nn.BatchNorm1d) and layer.running_mean is not None and layer.running_var is not None:
        scale = layer.weight.detach().double() / (layer.running_var.double() + layer.eps).sqrt()
        return torch.diag(scale), layer.bias.detach().double() - layer.running_mean.double() * scale
    raise TypeError(f"a linear chain holds a {type(layer).__name__}; expected Linear, BatchNorm1d or Dropout")


def collapsed(module: nn.Module) -> nn.Module:
    """The module itself, each chain in it replaced by its single layer; for export."""
    for name, child in module.named_children():
        if isinstance(child, LinearChain):
            setattr(module, name, child.collapsed())
        else:
            collapsed(child)
    return module
