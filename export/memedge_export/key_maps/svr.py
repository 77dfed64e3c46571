"""A support vector regression that scikit-learn fitted, saved as plain arrays in an ``.npz``.

``support_vectors`` ``[n,D]``, ``dual_coef`` ``[1,n]``, ``intercept`` ``[1]`` and ``gamma`` (the number that ``scale``
stood for: ``svr._gamma``) of an RBF kernel, or ``coef`` ``[1,D]`` and ``intercept`` of a linear one; ``mean`` and
``scale`` ``[D]`` of a StandardScaler before it, where there was one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a :class:`KernelHead` with as many places as there are support vectors, or of a linear one."""
    linear = "coef" in state
    weight = state["coef" if linear else "dual_coef"].reshape(1, -1).float()
    found = {"out.weight": weight, "out.bias": state["intercept"].reshape(1).float()}
    if not linear:
        vectors = state["support_vectors"].double()
        found["vectors"] = vectors.float()
        found["squares"] = (vectors**2).sum(1).float()
        found["gamma"] = state["gamma"].reshape(()).float()
    size = weight.shape[1] if linear else found["vectors"].shape[1]
    found["standardise.mean"] = state.get("mean", torch.zeros(size)).float()
    found["standardise.std"] = state.get("scale", torch.ones(size)).float()
    return found


def detect(state: Mapping[str, Tensor]) -> bool:
    """Whether a state looks like such a file."""
    return "intercept" in state and ("support_vectors" in state or "coef" in state)


def options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The kernel, and how many vectors are stored."""
    return {"kind": "linear"} if "coef" in state else {"kind": "rbf", "vectors": len(state["support_vectors"])}
