"""C3D: the PyTorch ports of the Caffe network, and the TensorFlow port that the MediaEval 2018 features came from.

The two pad their last pooling differently (:class:`..blocks.c3d.C3dNet`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from . import keras

_OURS = re.compile(r"(conv[1-5][ab]?|fc[678])\.(weight|bias)$")
_TENSORFLOW = re.compile(r"(?:^|/)([wb])(c[1-5][ab]?|d[12]|out)(?::0)?$")
_DENSE = {"d1": "fc6", "d2": "fc7", "out": "fc8"}


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of :class:`..blocks.c3d.C3dNet`, of either port."""
    if not detect_tensorflow(state):
        names = {name.removeprefix("module."): tensor for name, tensor in state.items()}
        return {name: tensor for name, tensor in names.items() if _OURS.match(name)}
    found = {}
    for name, tensor in state.items():
        match = _TENSORFLOW.search(name)
        if match is None:
            continue
        kind, place = match.groups()
        layer = _DENSE.get(place) or f"conv{place[1:]}"
        if kind == "b":
            found[f"{layer}.bias"] = tensor
        else:
            convert = keras.dense if place in _DENSE else keras.convolution
            found[f"{layer}.weight"] = convert({"kernel": tensor})["weight"]
    return found


def detect_torch(state: Mapping[str, Tensor]) -> bool:
    """Whether the state looks like a PyTorch port's."""
    return any(n.removeprefix("module.") == "conv5b.weight" and t.ndim == 5 for n, t in state.items())


def detect_tensorflow(state: Mapping[str, Tensor]) -> bool:
    """Whether the state looks like the TensorFlow port's: ``wc1`` ... ``wout`` and ``bc1`` ... ``bout``."""
    return any(_TENSORFLOW.search(name) and tensor.ndim == 5 for name, tensor in state.items())


def options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """How the port pads its last pooling, and its number of classes."""
    found: dict[str, Any] = {"pool5": "after" if detect_tensorflow(state) else "both"}
    last = rename(state).get("fc8.bias")
    return found if last is None else {**found, "classes": len(last)}
