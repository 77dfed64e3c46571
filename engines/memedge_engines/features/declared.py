"""What every feature extractor declares: name, version, length, and whether it describes a frame or a video.

A head is trained on one version of one extractor and stores both; the version of a node is its option ``version``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .. import extractors
from ..errors import BundleError, EngineError
from ..manifest import Node

_FEATURES: dict[str, Feature] = {}


@dataclass(frozen=True)
class Feature:
    """A declared extractor.

    Attributes:
        name: as nodes and checkpoints name it.
        version: raised whenever its numbers change.
        dim: numbers in its output; none where they depend on the picture's size.
        per: what one output describes.
    """

    name: str
    version: int
    dim: int | None
    per: Literal["frame", "video"]


def feature(
    name: str, dim: int | None, per: Literal["frame", "video"] = "frame", version: int = 1
) -> Callable[[extractors.HostNode], extractors.HostNode]:
    """Register the host node below and declare what it gives."""

    def keep(function: extractors.HostNode) -> extractors.HostNode:
        _FEATURES[name] = Feature(name, version, dim, per)
        return extractors.register(name)(function)

    return keep


def names() -> list[str]:
    """All declared extractors, sorted."""
    return sorted(_FEATURES)


def declared(name: str) -> Feature | None:
    """What the extractor ``name`` gives; none for aggregates, for others' extractors, and for no extractor at all."""
    return _FEATURES.get(name)


def check(node: Node) -> None:
    """Raise BundleError for a node that was exported for another version of its extractor than the one here."""
    wanted, found = node.options.get("version"), _FEATURES.get(node.extractor or "")
    if found is not None and wanted is not None and wanted != found.version:
        raise BundleError(
            f"node '{node.name}' was exported for version {wanted} of the extractor {found.name}; "
            f"this memedge has version {found.version}, whose numbers are others",
            fix="export the bundle again with this memedge, or install the memedge that it was exported with",
        )


def single(values: extractors.Values, node: Node) -> NDArray[Any]:
    """The only element of a node's only input; EngineError when there are others."""
    elements = window(values, node)
    if len(elements) != 1:
        raise EngineError(f"node '{node.name}': {len(elements)} elements for {node.extractor}; expected last = 1")
    return elements[0]


def window(values: extractors.Values, node: Node) -> list[NDArray[Any]]:
    """The elements of a node's only input, oldest first; EngineError when it has several inputs or none."""
    if len(values) != 1:
        raise EngineError(f"node '{node.name}': inputs {sorted(values)}; {node.extractor} takes one")
    return list(next(iter(values.values())))


def pictures(values: extractors.Values, node: Node, channels: int) -> list[NDArray[np.uint8]]:
    """The pictures of a node's only input, uint8 ``[H, W, channels]``, or ``[H, W]`` where ``channels`` is 1.

    Raises:
        EngineError: values that are no such pictures.
    """
    found = []
    for value in window(values, node):
        picture = np.asarray(value)
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != channels or picture.size == 0:
            raise EngineError(
                f"node '{node.name}': {node.extractor} got {picture.dtype} {list(picture.shape)}; expected a picture, "
                f"uint8 [height, width, {channels}] (preprocess color {'gray' if channels == 1 else 'rgb'})"
            )
        found.append(picture[..., 0] if channels == 1 else picture)
    return found


def picture(values: extractors.Values, node: Node, channels: int) -> NDArray[np.uint8]:
    """The only picture of a node's only input; see :func:`pictures`."""
    single(values, node)
    return pictures(values, node, channels)[0]


def option(node: Node, name: str, default: str, allowed: tuple[str, ...]) -> str:
    """A node's text option; EngineError for a value that is not allowed."""
    value = node.options.get(name, default)
    if value not in allowed:
        raise EngineError(f"node '{node.name}': option {name} = {value!r}; expected one of {', '.join(allowed)}")
    return str(value)


def output(node: Node, array: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
    """The array as the node's only output."""
    return {node.outputs[0].name: np.ascontiguousarray(array, np.float32)}
