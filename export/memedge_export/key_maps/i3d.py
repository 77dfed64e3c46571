"""I3D: piergiaj's PyTorch port, and the Keras port (dlpbc's, and memento_keras's models that hold it as a layer)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from . import keras

_KERAS = re.compile(r"(?:^|/)Conv3d_(\w+?)_(conv|bn)/(?:.*/)?(\w+)(?::\d+)?$")
_BRANCH = {"0a": "b0", "1a": "b1a", "1b": "b1b", "2a": "b2a", "2b": "b2b", "3b": "b3b"}
_HEAD = "6a_1x1"


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of :class:`..blocks.i3d.I3dNet`, of either port; the last convolution is dropped (:func:`head`)."""
    if not _from_keras(state):
        names = {name.removeprefix("module."): tensor for name, tensor in state.items()}
        return {name: tensor for name, tensor in names.items() if name.startswith(("Conv3d_", "Mixed_"))}
    found = {}
    for (place, kind), layer in _layers(state).items():
        if place == _HEAD:
            continue
        part = "conv3d" if kind == "conv" else "bn"
        tensors = keras.convolution(layer) if kind == "conv" else keras.batch_norm(layer)
        found.update({f"{_unit(place)}.{part}.{name}": tensor for name, tensor in tensors.items()})
    return found


def head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``weight`` and ``bias`` of the last 1x1x1 convolution, ``[outputs,1024,1,1,1]`` and ``[outputs]``; empty where
    the file has none."""
    if _from_keras(state):
        layer = _layers(state).get((_HEAD, "conv"))
        return {} if layer is None else keras.convolution(layer)
    names = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return {
        name.removeprefix("logits.conv3d."): tensor
        for name, tensor in names.items()
        if name.startswith("logits.conv3d.")
    }


def detect(state: Mapping[str, Tensor]) -> bool:
    """Whether the state looks like a file of either port."""
    return _from_keras(state) or any(n.removeprefix("module.") == "Conv3d_1a_7x7.conv3d.weight" for n in state)


def channels(state: Mapping[str, Tensor]) -> int:
    """Channels of its input: 3, or 2 of optical flow. KeyError where the first convolution is missing."""
    return int(rename(state)["Conv3d_1a_7x7.conv3d.weight"].shape[1])


def _from_keras(state: Mapping[str, Tensor]) -> bool:
    return any("Conv3d_1a_7x7_conv/" in name for name in state)


def _layers(state: Mapping[str, Tensor]) -> dict[tuple[str, str], dict[str, Tensor]]:
    """(place, ``conv`` or ``bn``) to its variables: ``(3b_1a_1x1, conv)`` has ``kernel``."""
    found: dict[tuple[str, str], dict[str, Tensor]] = {}
    for name, tensor in state.items():
        match = _KERAS.search(name)
        if match:
            found.setdefault((match[1], match[2]), {})[match[3]] = tensor
    return found


def _unit(place: str) -> str:
    """``1a_7x7`` to ``Conv3d_1a_7x7``, ``3b_1a_1x1`` to ``Mixed_3b.b1a``."""
    module, _, rest = place.partition("_")
    branch = _BRANCH.get(rest.partition("_")[0]) if "_" in rest else None
    return f"Conv3d_{place}" if branch is None else f"Mixed_{module}.{branch}"
