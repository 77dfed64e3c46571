"""Vectors of length one: how the visual-semantic embeddings (DSVE, VSE) end."""

from __future__ import annotations

from torch import Tensor

# A vector of zeros stays one: nothing is divided by zero.
SMALLEST = 1e-8


def unit_norm(x: Tensor) -> Tensor:
    """float32 ``[B, D]`` divided by its Euclidean length, at least 1e-8; in an ONNX graph ReduceL2, a maximum, Div."""
    return x / x.norm(dim=1, keepdim=True).clamp(min=SMALLEST)
