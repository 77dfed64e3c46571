"""Pictures to the tensor a node takes: (level * scale - mean) / std per channel, in the contract's layout."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..errors import PreprocessError
from ..manifest import Preprocess


def to_tensor(pictures: Sequence[NDArray[np.uint8]], contract: Preprocess) -> NDArray[np.float32]:
    """The normalised tensor of pictures, each uint8 ``[h, w, C]`` in the contract's channel order.

    Layout ``nchw``: float32 ``[N, C, h, w]``, every picture an element of the batch (``[1, C, h, w]`` for one);
    ``ncthw``: ``[1, C, N, h, w]`` and ``ntchw``: ``[1, N, C, h, w]``, the pictures being one window, oldest first.

    Raises:
        PreprocessError: no picture, pictures of another shape or dtype, or mean and std that do not fit.
    """
    if not pictures:
        raise PreprocessError("no picture; expected at least one")
    channels = contract.channels
    first = pictures[0].shape
    for picture in pictures:
        shape = picture.shape
        if picture.dtype != np.uint8 or len(shape) != 3 or shape[2] != channels or shape != first:
            raise PreprocessError(
                f"picture {picture.dtype} {shape}; expected uint8 [h, w, {channels}], all of one size {first[:2]}"
            )
    height, width, _ = first
    tables = _tables(contract.scale, contract.mean, contract.std, channels)
    frames_first = contract.layout != "ncthw"
    outer = (len(pictures), channels) if frames_first else (channels, len(pictures))
    tensor = np.empty((*outer, height, width), np.float32)
    for number, picture in enumerate(pictures):
        for channel in range(channels):
            target = tensor[number, channel] if frames_first else tensor[channel, number]
            # A table of 256 rounded results: one look-up a sample, and the very value of the float formula.
            np.take(tables[channel], picture[..., channel], out=target, mode="clip")
    return tensor if contract.layout == "nchw" else tensor[None]


def level_tables(contract: Preprocess) -> NDArray[np.float32]:
    """float32 ``[channels, 256]``: the tensor's value of each level; PreprocessError as :func:`to_tensor`."""
    return _tables(contract.scale, contract.mean, contract.std, contract.channels)


@lru_cache(maxsize=64)
def _tables(scale: float, mean: tuple[float, ...], std: tuple[float, ...], channels: int) -> NDArray[np.float32]:
    """float32 ``[C, 256]``: the normalised value of each level."""
    if len(mean) != channels or len(std) != channels:
        raise PreprocessError(f"{len(mean)} means, {len(std)} stds, {channels} channels; expected one each a channel")
    if 0.0 in std:
        raise PreprocessError(f"std {list(std)} has a zero; expected positive numbers")
    levels = np.arange(256, dtype=np.float64)[None] * scale
    table: NDArray[np.float32] = ((levels - np.array(mean)[:, None]) / np.array(std)[:, None]).astype(np.float32)
    return table
