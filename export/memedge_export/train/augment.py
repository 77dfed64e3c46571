"""Augmentation: a random region of the picture, resized as the contract resizes, mirrored, mild changes of colour."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from memedge_engines.manifest import Preprocess
from memedge_engines.preprocess.geometry import geometry

from ..data.pictures import Picture, normalise, recolored
from .recipe import Augmentation


def region(picture: Picture, contract: Preprocess, how: Augmentation, rng: np.random.Generator) -> Picture:
    """A region of an RGB picture as the contract has it, uint8 ``[h, w, C]``, antialiased; mirrored half of the
    time."""
    height, width = picture.shape[:2]
    shape = geometry(contract, width, height)
    part = rng.uniform(*how.area)
    stretch = math.exp(rng.uniform(-1, 1) * math.log(how.aspect)) if how.aspect > 1 else 1.0
    box_w = min(shape.out_w * width / shape.resized_w * math.sqrt(part * stretch), width)
    box_h = min(shape.out_h * height / shape.resized_h * math.sqrt(part / stretch), height)
    left, top = rng.uniform(0, width - box_w), rng.uniform(0, height - box_h)
    if how.place == "center":
        left, top = (width - box_w) / 2, (height - box_h) / 2
    mirrored = how.mirror and rng.random() < 0.5
    image = Image.fromarray(picture).resize(
        (shape.out_w, shape.out_h), Image.Resampling.BILINEAR, box=(left, top, left + box_w, top + box_h)
    )
    out = recolored(np.asarray(image), contract)
    return out[:, ::-1] if mirrored else out


def colored(
    batch: NDArray[np.uint8], contract: Preprocess, how: Augmentation, rng: np.random.Generator, *, alike: bool = False
) -> Tensor:
    """uint8 ``[N, h, w, C]`` with random brightness, contrast and saturation, normalised: float32 ``[N, C, h, w]``;
    ``alike``: the same for all N."""
    if not (how.brightness or how.contrast or how.saturation):
        return normalise(batch, contract)
    count = 1 if alike else len(batch)

    def factor(amplitude: float) -> NDArray[np.float32]:
        drawn = 1 + amplitude * rng.uniform(-1, 1, count)
        return drawn.astype(np.float32).reshape(count, 1, 1, 1)

    levels = batch.astype(np.float32)
    mean = levels.mean((1, 2, 3), keepdims=True)
    levels = (levels - mean) * factor(how.contrast) + mean * factor(how.brightness)
    grey = levels.mean(3, keepdims=True)
    levels = ((levels - grey) * factor(how.saturation) + grey).clip(0, 255)
    tensor = torch.from_numpy(np.ascontiguousarray(levels)).permute(0, 3, 1, 2) * contract.scale
    mean_t = torch.tensor(contract.mean).view(1, -1, 1, 1)
    return (tensor - mean_t) / torch.tensor(contract.std).view(1, -1, 1, 1)
