"""Block B13: attention maps as the pictures that AMNetVid looks at (A. Totev, MediaEval 2018 task, 2021)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_SHARPNESS = -0.75  # the cubic kernel's parameter, as in OpenCV and torch
_LEAST_SPAN = 1e-6


class AttnMapRender(nn.Module):
    """float32 maps ``[..., S, h, w]`` to ``[..., 3 S, size, size]`` in 0..1: map 0 red, green, blue, then map 1.

    Each map is stretched to 0..1 (its least value 0, its greatest 1; a flat one is 0), enlarged by cubic interpolation,
    clipped, and coloured by jet. The published files went through JPEG on the way, which is left out. The enlargement
    is two products with constant matrices: cubic resizing is an operator that few back ends have.

    Args:
        source: height and width of the maps. size: of the pictures.
    """

    matrix: Tensor
    centers: Tensor

    def __init__(self, source: int = 14, size: int = 70) -> None:
        super().__init__()
        self.register_buffer("matrix", cubic_matrix(source, size), persistent=False)
        self.register_buffer("centers", torch.tensor([3.0, 2.0, 1.0]).reshape(3, 1, 1), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """The pictures."""
        low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
        unit = (maps - low) / (high - low).clamp(min=_LEAST_SPAN)
        large = (self.matrix @ unit @ self.matrix.T).clamp(0, 1)
        return self.jet(large).flatten(-4, -3)

    def jet(self, values: Tensor) -> Tensor:
        """``[..., h, w]`` of 0..1 to red, green and blue ``[..., 3, h, w]``: 0 is (0, 0, .5), .5 is (.5, 1, .5)."""
        return (1.5 - (4 * values.unsqueeze(-3) - self.centers).abs()).clamp(0, 1)


def cubic_matrix(source: int, size: int) -> Tensor:
    """float32 ``[size, source]``: cubic interpolation (a = -0.75, half-pixel centres, edges repeated) as a matrix."""
    rows = [[0.0] * source for _ in range(size)]
    for place, row in enumerate(rows):
        center = (place + 0.5) * source / size - 0.5
        for tap in range(math.floor(center) - 1, math.floor(center) + 3):
            row[min(max(tap, 0), source - 1)] += _cubic(abs(center - tap))
    return torch.tensor(rows)


def _cubic(distance: float) -> float:
    a = _SHARPNESS
    if distance <= 1:
        return ((a + 2) * distance - (a + 3)) * distance**2 + 1
    return ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a if distance < 2 else 0.0
