"""Optical flow between two consecutive grey frames, through OpenCV (extra ``opencv``), imported on use.

``flow-magnitude``: log(1 + mean length of the flow in pixels), M3-S's meanOF in our definition (256x256, 15 fps).
``flow-field``: the field of one pair, both components clipped to 20 pixels and divided by 20; ``flow-clip``: the fields
of a clip, as semantic-memnet takes them.
There is no substitute in NumPy: a flow of OpenCV's quality takes it seconds a frame.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from ..extractors import Values
from ..manifest import Node
from .declared import feature, option, output, pictures

_LIMIT = 20.0
_METHODS = ("dis", "farneback", "tvl1")


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise EngineError(f"optical flow needs OpenCV: {error}", fix="pip install 'memedge[opencv]'") from None
    return cv2


def flow(previous: NDArray[np.uint8], present: NDArray[np.uint8], method: str = "dis") -> NDArray[np.float32]:
    """Displacement in pixels (right, down) of each pixel of ``previous``, float32 ``[2, H, W]``.

    Args:
        previous, present: grey, uint8 ``[H, W]``, of one size.
        method: ``dis`` (Kroeger et al. 2016, medium preset), ``farneback`` (pyramid of 3 levels, windows of 15 pixels)
            or ``tvl1`` (OpenCV with its contributed modules).

    Raises:
        EngineError: OpenCV or its part is absent, two sizes, or pictures too small for it (below 16 pixels a side).
    """
    if previous.shape != present.shape or min(present.shape) < 16:
        sizes = f"{list(previous.shape)} and {list(present.shape)}"
        raise EngineError(f"optical flow of pictures {sizes}; expected two of one size, 16 pixels or more a side")
    cv2 = _opencv()
    if method == "farneback":
        field = cv2.calcOpticalFlowFarneback(previous, present, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    elif method == "dis":
        field = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(previous, present, None)
    else:
        if not hasattr(cv2, "optflow"):
            raise EngineError(
                f"OpenCV {cv2.__version__} here has no TV-L1 flow, a contributed module",
                fix="pip uninstall opencv-python opencv-python-headless; pip install opencv-contrib-python",
            )
        field = cv2.optflow.createOptFlow_DualTVL1().calc(previous, present, None)
    moved: NDArray[np.float32] = np.ascontiguousarray(np.asarray(field, np.float32).transpose(2, 0, 1))
    return moved


def _pair(values: Values, node: Node) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    frames = pictures(values, node, 1)
    if len(frames) != 2:
        raise EngineError(f"node '{node.name}': {len(frames)} pictures for {node.extractor}; expected last = 2")
    return frames[0], frames[1]


@feature("flow-magnitude", 1)
def flow_magnitude(values: Values, node: Node) -> dict[str, NDArray[np.float32]]:
    """Two consecutive grey pictures to log(1 + mean length); option ``method``: farneback, or dis, tvl1."""
    field = flow(*_pair(values, node), option(node, "method", "farneback", _METHODS)).astype(np.float64)
    return output(node, np.log1p([np.hypot(field[0], field[1]).mean()]))


@feature("flow-field", None)
def flow_field(values: Values, node: Node) -> dict[str, NDArray[np.float32]]:
    """Two consecutive grey pictures to the field ``[2, S, S]`` in -1..1; options ``method`` (dis, or farneback, tvl1)
    and ``crop``, the side S of the centre that is kept (all of it where absent)."""
    return output(node, _field(*_pair(values, node), node))


@feature("flow-clip", None)
def flow_clip(values: Values, node: Node) -> dict[str, NDArray[np.float32]]:
    """T consecutive grey pictures to the T - 1 fields between them, ``[2, T - 1, S, S]``; options as ``flow-field``."""
    frames = pictures(values, node, 1)
    if len(frames) < 2:
        raise EngineError(f"node '{node.name}': {len(frames)} picture for {node.extractor}; expected last = 2 or more")
    return output(node, np.stack([_field(one, two, node) for one, two in pairwise(frames)], 1))


def _field(previous: NDArray[np.uint8], present: NDArray[np.uint8], node: Node) -> NDArray[np.float32]:
    moved = flow(previous, present, option(node, "method", "dis", _METHODS))
    field: NDArray[np.float32] = np.clip(moved, -_LIMIT, _LIMIT) / np.float32(_LIMIT)
    size = int(node.options.get("crop", 0))
    if not size:
        return field
    if size < 0 or size > min(field.shape[1:]):
        raise EngineError(
            f"node '{node.name}': crop {size} of a flow field {list(field.shape[1:])}; expected at most its sides"
        )
    top, left = (round((side - size) / 2) for side in field.shape[1:])
    return field[:, top : top + size, left : left + size]
