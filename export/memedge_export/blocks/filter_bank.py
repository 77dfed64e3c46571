"""Hand-made picture features as fixed convolutions: colour, texture and oriented energy, pooled on coarse grids.

What GIST, LBP and colour histograms measure, with plain operators only (Conv, Relu, AveragePool, Concat), so that it
runs inside the graph of a model. No filter is learned; all follow from the seed and travel with the weights.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SIZE = 128
_ORIENTATIONS = 8
_LUMA = np.array((0.299, 0.587, 0.114))


def gabor_filters(
    count: int = _ORIENTATIONS, side: int = 9, wave: float = 4.0, sigma: float = 1.8
) -> NDArray[np.float64]:
    """Even and odd Gabor filters of ``count`` orientations, each with both signs: ``[4 * count, 1, side, side]``.

    ``wave``: wavelength in pixels; ``sigma``: of the Gaussian window. Each filter has mean 0 and absolute sum 1.
    The ReLUs of the four filters of one orientation add up to the sum of the magnitudes of the two responses.
    """
    offsets = np.arange(side) - side // 2
    y, x = np.meshgrid(offsets, offsets, indexing="ij")
    window = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    found = []
    for step in range(count):
        along = x * math.cos(math.pi * step / count) + y * math.sin(math.pi * step / count)
        for phase in (0.0, math.pi / 2):
            wavelet = window * np.cos(2 * math.pi * along / wave + phase)
            wavelet -= window * (wavelet.sum() / window.sum())
            wavelet /= np.abs(wavelet).sum()
            found += [wavelet, -wavelet]
    return np.array(found)[:, None]


class FilterBank(nn.Module):
    """float32 ``[B,3,128,128]`` (normalised with ``mean`` and ``std``) and its half ``[B,3,64,64]`` to
    seven vectors, their lengths in ``sizes``.

    - colour: ReLUs of random planes through the RGB cube, averaged over the picture (a soft colour histogram);
    - oriented energy: Gabor magnitudes at wavelengths of 4, 8 and 16 pixels, on a 4 x 4 grid (GIST);
    - texture: ReLUs of random 3x3 filters of mean 0 above random thresholds at three scales, on a 2 x 2 grid.
    """

    def __init__(
        self, mean: tuple[float, ...], std: tuple[float, ...], *, colors: int = 96, textures: int = 32, seed: int = 0
    ) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        center, spread = np.array(mean), np.array(std)
        planes, origin = _color_planes(rng, colors)
        self.color = _fixed((planes * spread)[:, :, None, None], (planes * (center - origin)).sum(1))
        self.luma = _fixed((_LUMA * spread)[None, :, None, None], np.array([(_LUMA * center).sum()]))
        # The finest scale is read at every second pixel: its windows are averaged over 30 pixels anyway.
        self.gabor = nn.ModuleList([_fixed(gabor_filters(), stride=stride) for stride in (2, 1, 1)])
        filters, thresholds = _textures(rng, textures)
        self.texture = nn.ModuleList([_fixed(filters, thresholds) for _ in range(3)])
        self.energy = _fixed(np.repeat(np.eye(_ORIENTATIONS), 4, 1)[:, :, None, None])
        self.grid4 = nn.ModuleList([nn.AvgPool2d(side) for side in (15, 14, 6)])
        self.grid2 = nn.ModuleList([nn.AvgPool2d(side) for side in (63, 31, 15)])
        self.halve = nn.AvgPool2d(2)
        self.sizes = (colors, *[16 * _ORIENTATIONS] * 3, *[4 * textures] * 3)

    def forward(self, frames: Tensor, half: Tensor) -> list[Tensor]:
        """Colour ``[B,96]``, oriented energy at three scales, texture at three scales."""
        luma = self.luma(frames)
        energy, texture = [], []
        for scale in range(3):
            if scale:
                luma = self.halve(luma)
            magnitude = self.grid4[scale](torch.relu(self.gabor[scale](luma)))
            energy.append(self.energy(magnitude).flatten(1))
            texture.append(self.grid2[scale](torch.relu(self.texture[scale](luma))).flatten(1))
        color = torch.relu(self.color(half)).mean((2, 3))
        return [color, *energy, *texture]


def _color_planes(rng: np.random.Generator, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Normals (absolute sum 1) and points of random planes in RGB, most of them across hues, some across greys."""
    normals = rng.normal(size=(count, 3))
    grey = normals.mean(1, keepdims=True)
    normals = (normals - grey) * rng.choice([1, 3], (count, 1)) + grey * rng.choice([0.3, 1], (count, 1))
    normals /= np.abs(normals).sum(1, keepdims=True)
    points = rng.uniform(0.1, 0.9, (count, 1)) * np.ones(3) + rng.normal(size=(count, 3)) * 0.12
    return normals, points


def _textures(rng: np.random.Generator, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Random 3x3 filters of mean 0 and absolute sum 1, and thresholds in units of luma (as biases)."""
    filters = rng.normal(size=(count, 1, 3, 3))
    filters -= filters.mean((2, 3), keepdims=True)
    filters /= np.abs(filters).sum((2, 3), keepdims=True)
    return filters, -rng.choice([0.0, 0.02, 0.06], count)


def _fixed(weight: NDArray[np.float64], bias: NDArray[np.float64] | None = None, stride: int = 1) -> nn.Conv2d:
    out, inside, side, _ = weight.shape
    conv = nn.Conv2d(inside, out, side, stride, bias=bias is not None)
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(weight))
        if bias is not None and conv.bias is not None:
            conv.bias.copy_(torch.from_numpy(bias))
    return conv.requires_grad_(False)
