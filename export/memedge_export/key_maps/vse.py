"""The image-captioning embedding: the visual-semantic model of R. Kiros (``.npz`` of Theano's arrays)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

_NAMES = {"ff_image_W": "weight", "ff_image_b": "bias"}


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The image projection alone; ``W`` is ``[4096,1024]``, ours its transpose. Word embedding and sentence encoder are
    dropped."""
    return {_NAMES[name]: tensor.T if tensor.ndim == 2 else tensor for name, tensor in state.items() if name in _NAMES}


def detect(state: Mapping[str, Tensor]) -> bool:
    """Whether a state looks like such a file."""
    return all(name in state for name in _NAMES)
