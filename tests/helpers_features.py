"""Pictures and nodes for tests of the hand-crafted features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memedge_engines import extractors
from memedge_engines.manifest import Crop, Node, NodeInput, NodeOutput, Preprocess, Resize


def textured(height: int, width: int, seed: int = 0, noise: float = 4.0) -> NDArray[np.uint8]:
    """RGB patches of 8 pixels with slopes between them, and noise."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(0, 255, (height // 8 + 2, width // 8 + 2, 3))
    rows, columns = np.arange(height) / 8, np.arange(width) / 8
    i, j = rows.astype(int), columns.astype(int)
    down, right = (rows - i)[:, None, None], (columns - j)[None, :, None]
    top = coarse[i][:, j] * (1 - right) + coarse[i][:, j + 1] * right
    bottom = coarse[i + 1][:, j] * (1 - right) + coarse[i + 1][:, j + 1] * right
    levels = top * (1 - down) + bottom * down + random.normal(0, noise, (height, width, 3))
    return np.clip(levels, 0, 255).astype(np.uint8)


def native(color: str, layout: str = "nchw") -> Preprocess:
    """The contract that gives pictures of native size."""
    ones = (1.0,) * (1 if color == "gray" else 3)
    none = tuple(v - 1.0 for v in ones)
    return Preprocess(
        color=color,  # type: ignore[arg-type]
        resize=Resize(rule="none"),
        crop=Crop(rule="none"),
        scale=1.0,
        mean=none,
        std=ones,
        layout=layout,  # type: ignore[arg-type]
    )


def host_node(extractor: str, source: str = "source", color: str = "rgb", **options: float | int | str | bool) -> Node:
    """A node of one input and one output, named as its extractor."""
    contract = native(color) if source == "source" else None
    return Node(
        name=extractor,
        kind="extractor",
        extractor=extractor,
        inputs=(NodeInput(name="x", source=source, preprocess=contract),),
        outputs=(NodeOutput(name="features", role="features"),),
        options=options,
    )


def extract(extractor: str, *elements: NDArray[np.generic], **options: float | int | str | bool) -> NDArray[np.float32]:
    """What an extractor gives for its gathered elements, as the executor runs it."""
    node = host_node(extractor, **options)
    values: dict[str, Sequence[NDArray[np.generic]]] = {"x": list(elements)}
    found = extractors.find(node)(values, node)["features"]
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    return found
