"""The multilayer perceptron on fixed features (MediaEval 2018, VideoMem), and networks whose output is a feature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from .mlp_head import Activation, MlpHead
from .standardise import Standardise

Form = Literal["vector", "oldest", "rows"]
"""How a head takes a feature: ``[B,D]``; of a window ``[B,N,D]`` its first vector; or all of its N vectors."""


class FeatureHead(nn.Module):
    """Features side by side, standardised with training statistics, to a score ``[B,1]``.

    With features of several key frames ``[B,N,D]`` the vectors of the whole video are repeated for each of them, and
    the N scores averaged.

    Args:
        forms, sizes: of each input, in order: how it comes, and D.
        hidden: sizes of the hidden layers.
        act: of the hidden layers.
    """

    def __init__(
        self, forms: Sequence[Form], sizes: Sequence[int], hidden: Sequence[int], act: Activation = "relu"
    ) -> None:
        super().__init__()
        self.forms = tuple(forms)
        self.standardise = Standardise(sum(sizes))
        self.head = MlpHead((sum(sizes), *hidden, 1), act=act)

    def forward(self, *features: Tensor) -> tuple[Tensor]:
        """The score."""
        found = [x[:, 0] if form == "oldest" else x for form, x in zip(self.forms, features, strict=True)]
        frames = next((x.shape[1] for form, x in zip(self.forms, found, strict=True) if form == "rows"), 0)
        if frames:
            found = [x if x.dim() == 3 else x.unsqueeze(1).expand(-1, frames, -1) for x in found]
        scores = self.head(self.standardise(torch.cat(found, -1)))
        return (scores.mean(1) if frames else scores,)


class ScoredFeature(nn.Module):
    """One picture to a score ``[B,1]`` from the features of its own trunk, ``[B,D]``."""

    def __init__(self, trunk: nn.Module, size: int, hidden: Sequence[int], act: Activation = "relu") -> None:
        super().__init__()
        self.trunk = trunk
        scored = FeatureHead(["vector"], [size], hidden, act)
        self.standardise, self.head = scored.standardise, scored.head

    def forward(self, frames: Tensor) -> tuple[Tensor]:
        """The score."""
        return (self.head(self.standardise(self.trunk(frames))),)


class FeatureNode(nn.Module):
    """A network that gives one tensor, as a graph node has to: a tuple."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """The feature."""
        return (self.trunk(x),)
