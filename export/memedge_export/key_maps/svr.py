"""A support vector regression that scikit-learn fitted, saved as plain arrays in an ``.npz``.

``support_vectors`` ``[n,D]``, ``dual_coef`` ``[1,n]``, ``intercept`` ``[1]`` and ``gamma`` (the number that ``scale``
stood for: ``svr._gamma``) of an RBF kernel, or ``coef`` ``[1,D]`` and ``intercept`` of a linear one; ``mean`` and
``scale`` ``[D]`` of a StandardScaler before it, where there was one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from ..blocks.kernel_head import FAR_AWAY, VECTORS


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a :class:`KernelHead`. Fewer than 1024 support vectors are filled up with ones that never count;
    more need a head with as many places (``--option vectors=N``)."""
    found = {}
    if "support_vectors" in state:
        vectors = state["support_vectors"].double()
        free = max(0, VECTORS - len(vectors))
        squares = (vectors**2).sum(1)
        found["vectors"] = F.pad(vectors, (0, 0, 0, free)).float()
        found["squares"] = F.pad(squares, (0, free), value=FAR_AWAY).float()
        if "dual_coef" in state:
            found["out.weight"] = F.pad(state["dual_coef"].reshape(1, -1).float(), (0, free))
        if "gamma" in state:
            found["gamma"] = state["gamma"].reshape(()).float()
        size = vectors.shape[1]
    elif "coef" in state:
        found["out.weight"] = state["coef"].reshape(1, -1).float()
        size = found["out.weight"].shape[1]
    else:
        return found
    if "intercept" in state:
        found["out.bias"] = state["intercept"].reshape(1).float()
    found["standardise.mean"] = state.get("mean", torch.zeros(size)).float()
    found["standardise.std"] = state.get("scale", torch.ones(size)).float()
    return found


def detect(state: Mapping[str, Tensor]) -> bool:
    """Whether a state looks like such a file."""
    return "intercept" in state and ("support_vectors" in state or "coef" in state)
