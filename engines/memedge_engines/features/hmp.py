"""Histogram of motion patterns (Almeida et al. 2011), our definition, version 1: 6,075 bins.

Luma 0..255 in macroblocks of 16x16, each of four 8x8 blocks (top-left, top-right, bottom-left, bottom-right) whose
value is their mean, rounded down. Spatial code: dense ranks of the four values (75 codes, ascending). Temporal code:
dense rank 0..2 of each block's value among those of the previous, the present and the next frame; a missing neighbour
is replaced by the frame itself. A macroblock that is flat and static is not counted. bin = 81 * spatial + temporal.

Three nodes: ``hmp-blocks`` (a picture to its block means), ``hmp-codes`` (the last three block means to counts) and
``hmp`` (the counts of a window to the histogram), so that the histogram of a window equals the one of its frames alone,
both ends included. The released tool reads DCT coefficients and has quirks: this never equals its files.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from ..extractors import Values
from ..manifest import Node
from .declared import feature, output, picture, window

BINS = 6075
_TEMPORAL = 81
_MACROBLOCK = 16
_FIRST, _MIDDLE, _LAST = 0, 1, 2
"""Rows of ``hmp-codes``: of its three frames the oldest as a video's first, the middle one, the newest as the last."""

Blocks = NDArray[np.int16]


def _spatial_index() -> NDArray[np.int16]:
    """Packed ranks (2 bits a block) to 0..74 in ascending order; -1 for the codes that cannot occur."""
    ranks = np.stack(np.meshgrid(*[np.arange(4)] * 4, indexing="ij"), -1).reshape(-1, 4)
    codes = np.unique(_packed(_dense_ranks(ranks.astype(np.int16))))
    index = np.full(256, -1, np.int16)
    index[codes] = np.arange(len(codes))
    return index


def _dense_ranks(values: Blocks) -> Blocks:
    """Ranks along the last axis of four: ties share a rank, the lowest is 0."""
    first = np.ones_like(values)
    for j in range(1, 4):
        first[..., j] = ~(values[..., :j] == values[..., j : j + 1]).any(-1)
    smaller = values[..., None, :] < values[..., :, None]
    ranks: Blocks = (smaller * first[..., None, :]).sum(-1, dtype=np.int16)
    return ranks


def _packed(ranks: Blocks) -> Blocks:
    packed: Blocks = ranks @ np.array([1, 4, 16, 64], np.int16)
    return packed


_SPATIAL = _spatial_index()


def block_means(luma: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Means of 8x8 blocks rounded down, ``[H / 8, W / 8]``, of a plane cropped to multiples of 16.

    A side below 16 is filled up to 16 with its last row or column.
    """
    missing = [(0, max(0, _MACROBLOCK - side)) for side in luma.shape]
    if any(after for _, after in missing):
        luma = np.pad(luma, missing, mode="edge")
    height, width = (side - side % _MACROBLOCK for side in luma.shape)
    rows = luma[:height, :width].reshape(height // 8, 8, width).sum(1, dtype=np.uint16)
    sums = rows.reshape(height // 8, width // 8, 8).sum(2, dtype=np.uint16)
    means: NDArray[np.float32] = (sums >> 6).astype(np.float32)
    return means


def counts(
    previous: NDArray[np.float32], present: NDArray[np.float32], following: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Counts per bin of one frame, int64 ``[6075]``; neighbours of another size count as missing."""
    before, now, after = (
        _macroblocks(present if blocks.shape != present.shape else blocks) for blocks in (previous, present, following)
    )
    below, above = before < now, after < now
    temporal = below.astype(np.int16) + above - (below & (before == after))
    moving = (before != now).any(1) | (after != now).any(1)
    counted = moving | (now != now[:, :1]).any(1)
    spatial = _SPATIAL[_packed(_dense_ranks(now))].astype(np.int64)
    bins = _TEMPORAL * spatial + temporal @ np.array([1, 3, 9, 27], np.int16)
    return np.bincount(bins[counted], minlength=BINS)


def _macroblocks(blocks: NDArray[np.float32]) -> Blocks:
    """Block means as ``[macroblocks, 4]``, in the order of the definition."""
    rows, columns = blocks.shape
    grouped = blocks.reshape(rows // 2, 2, columns // 2, 2).transpose(0, 2, 1, 3)
    return grouped.reshape(-1, 4).astype(np.int16)


def _distinct(elements: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Elements without repeats: padding and samples that a slow source lacks are the very same memory again."""
    places = [(e.__array_interface__["data"], e.shape) for e in elements]
    return [e for i, e in enumerate(elements) if i == 0 or places[i] != places[i - 1]]


@feature("hmp-blocks", None)
def hmp_blocks(values: Values, node: Node) -> dict[str, NDArray[np.float32]]:
    """A grey picture of native size to its block means."""
    return output(node, block_means(picture(values, node, 1)))


@feature("hmp-codes", 3 * BINS)
def hmp_codes(values: Values, node: Node) -> dict[str, NDArray[np.float32]]:
    """The last three sampled frames' block means to counts ``[3, 6075]``: of the oldest as if it were a video's first
    frame, of the middle one, and of the newest as if it were the last. What a stream's start lacks counts 0."""
    frames = _distinct([_checked(blocks, node) for blocks in window(values, node)[-3:]])
    rows = np.zeros((3, BINS), np.float32)
    newest, middle, oldest = frames[-1], frames[-min(2, len(frames))], frames[0]
    rows[_LAST] = counts(middle, newest, newest)
    if len(frames) > 1:
        rows[_MIDDLE] = counts(oldest, middle, newest)
    if len(frames) > 2:
        rows[_FIRST] = counts(oldest, oldest, middle)
    return output(node, rows)


@feature("hmp", BINS, per="video")
def hmp(values: Values, node: Node) -> dict[str, NDArray[np.float32]]:
    """A window of N counts to the histogram of its N + 2 frames, divided by the number of macroblocks counted.

    All zeros where nothing was counted: every frame flat and static.
    """
    elements = _distinct(window(values, node))
    for element in elements:
        if element.shape != (3, BINS):
            raise EngineError(f"node '{node.name}': hmp got {list(element.shape)}; expected [3, {BINS}] of hmp-codes")
    total = elements[0][_FIRST].astype(np.float64) + elements[-1][_LAST]
    for element in elements:
        total += element[_MIDDLE]
    return output(node, total / max(1.0, total.sum()))


def _checked(blocks: NDArray[np.float32], node: Node) -> NDArray[np.float32]:
    if blocks.ndim != 2 or blocks.size == 0 or blocks.shape[0] % 2 or blocks.shape[1] % 2:
        raise EngineError(
            f"node '{node.name}': hmp-codes got {list(blocks.shape)}; expected block means [H / 8, W / 8] of hmp-blocks"
        )
    return blocks


def histogram(planes: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """The definition on all sampled frames of a video at once, uint8 ``[H, W]`` each: what training extracts."""
    blocks = [block_means(plane) for plane in planes]
    total = np.zeros(BINS)
    for i, present in enumerate(blocks):
        total += counts(blocks[max(0, i - 1)], present, blocks[min(len(blocks) - 1, i + 1)])
    normalised: NDArray[np.float64] = total / max(1.0, total.sum())
    return normalised
