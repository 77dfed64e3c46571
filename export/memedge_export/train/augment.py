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

from ..data.pictures import Picture, normalise
from .recipe import Augmentation


def region(picture: Picture, contract: Preprocess, how: Augmentation, rng: np.random.Generator) -> Picture:
    """A random region at the contract's size, uint8 ``[h, w, 3]``, antialiased; mirrored half of the time."""
    height, width = picture.shape[:2]
    shape = geometry(contract, width, height)
    part = rng.uniform(*how.area)
    stretch = math.exp(rng.uniform(-1, 1) * math.log(how.aspect)) if how.aspect > 1 else 1.0
    box_w = min(shape.out_w * width / shape.resized_w * math.sqrt(part * stretch), width)
    box_h = min(shape.out_h * height / shape.resized_h * math.sqrt(part / stretch), height)
    left, top = rng.uniform(0, width - box_w), rng.uniform(0, height - box_h)
    mirrored = how.mirror and rng.random() < 0.5
    image = Image.fromarray(picture).resize(
        (shape.out_w, shape.out_h), Image.Resampling.BILINEAR, box=(left, top, left + box_w, top + box_h)
    )
    out = np.asarray(image)
    return out[:, ::-1] if mirrored else out


def colored(batch: NDArray[np.uint8], contract: Preprocess, how: Augmentation, rng: np.random.Generator) -> Tensor:
    """uint8 ``[N, h, w, 3]`` with random brightness, contrast and saturation, normalised: float32 ``[N, 3, h, w]``."""
    if not (how.brightness or how.contrast or how.saturation):
        return normalise(batch, contract)
    count = len(batch)

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
