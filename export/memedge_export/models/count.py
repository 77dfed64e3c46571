"""Parameters and multiply-adds of a network, counted on the meta device (no memory, no arithmetic)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


def parameters(model: nn.Module) -> int:
    """Weights and biases, batch-norm scale and shift included; running statistics not."""
    return sum(p.numel() for p in model.parameters())


def macs(model: nn.Module, size: tuple[int, int]) -> int:
    """Multiply-adds for one picture of ``size`` (height, width) pixels; see :func:`macs_of`."""
    return macs_of(model, torch.empty(1, 3, *size, device=next(model.parameters()).device))


def macs_of(model: nn.Module, *inputs: Tensor) -> int:
    """Multiply-adds of convolutions and linear layers for inputs with a batch of one.

    Runs the model once; a model on the meta device costs nothing. Normalisation, activation and pooling are not
    counted. Frames of a clip that are folded into the batch (3-D convolutions as 2-D ones) all count.
    """
    total = 0

    def convolution(module: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
        total += output.numel() * math.prod(module.kernel_size) * module.in_channels // module.groups

    def linear(module: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Linear)
        total += output.numel() * module.in_features

    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    hooks = [m.register_forward_hook(convolution) for m in model.modules() if isinstance(m, kinds)]
    hooks += [m.register_forward_hook(linear) for m in model.modules() if isinstance(m, nn.Linear)]
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(*inputs)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return total
