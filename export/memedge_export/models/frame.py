"""Frame models: a trunk that pools a picture to a vector, and heads that give the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..blocks.prob_aggregate import ProbAggregate
from ..blocks.resnet2d import ResNet2d
from ..blocks.scene_trunk import SceneTrunk

Role = Literal["score", "embedding", "class_probs"]
FIRST = "short_term"


class FrameModel(nn.Module):
    """float32 ``[B,3,H,W]`` to a tuple: a score ``[B,1]`` for each target (linear, clipped to 0..1 by the runtime),
    class probabilities ``[B,K]`` where the score is aggregated from classes, and, where ``embedding`` is set, the
    pooled features ``[B,F]`` that the heads see.

    Keys: torchvision's names under ``trunk.``; the first target's head is ``head.0``, further ones ``head.<target>``.

    Attributes:
        targets: what the scores are of, the first one first.
        cuts: between the classes; empty: regression.
    """

    def __init__(self, trunk: ResNet2d | SceneTrunk, *, embedding: bool = False) -> None:
        super().__init__()
        self.trunk: ResNet2d | SceneTrunk = trunk
        self.embedding = embedding
        self.targets: tuple[str, ...] = (FIRST,)
        self.cuts: tuple[float, ...] = ()
        self.head = nn.ModuleDict({"0": nn.Linear(trunk.features, 1)})
        self.aggregate: ProbAggregate | None = None

    def set_heads(self, targets: Sequence[str], cuts: Sequence[float] = ()) -> FrameModel:
        """Other heads, freshly initialised: one for each target, or K classes for the only one.

        Raises:
            ValueError: classes for several targets, no target, or a target named twice.
        """
        if not targets or len(set(targets)) < len(targets) or (cuts and len(targets) > 1):
            raise ValueError(f"targets {list(targets)}, cuts {list(cuts)}; expected distinct targets, classes for one")
        self.targets, self.cuts = tuple(targets), tuple(cuts)
        width = len(cuts) + 1 if cuts else 1
        self.head = nn.ModuleDict({"0": nn.Linear(self.trunk.features, width)})
        for target in targets[1:]:
            self.head[target] = nn.Linear(self.trunk.features, 1)
        self.aggregate = ProbAggregate(cuts) if cuts else None
        return self

    @property
    def linear(self) -> nn.Linear:
        """The first target's last layer."""
        layer = self.head["0"]
        assert isinstance(layer, nn.Linear)
        return layer

    @property
    def linears(self) -> list[nn.Linear]:
        """The last layers of all targets, in order."""
        return [layer for layer in self.head.values() if isinstance(layer, nn.Linear)]

    @property
    def outputs(self) -> tuple[tuple[str, Role], ...]:
        """Name and role of each output, in order; the first target's score is ``score``."""
        found: list[tuple[str, Role]] = [(score_output(self.targets, target), "score") for target in self.targets]
        if self.cuts:
            found.append(("class_probs", "class_probs"))
        if self.embedding:
            found.append(("embedding", "embedding"))
        return tuple(found)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """The outputs, in order."""
        features = self.trunk(frames)
        found = [layer(features) for layer in self.head.values()]
        if self.aggregate is not None:
            probabilities = torch.softmax(found[0], 1)
            found = [self.aggregate(probabilities), probabilities]
        return (*found, features) if self.embedding else tuple(found)

    def for_loss(self, outputs: Sequence[Tensor]) -> Mapping[str, Tensor]:
        """Outputs of :meth:`forward` as losses take them: ``score`` ``[B,T]`` and, with classes, ``class_logits``."""
        count = len(self.targets)
        found = {"score": torch.cat([output.float() for output in outputs[:count]], 1)}
        if self.cuts:
            found["class_logits"] = outputs[count].float().clamp(min=1e-12).log()
        return found


def score_output(targets: Sequence[str], target: str) -> str:
    """Name of the graph's output for a target: ``score`` for the first, ``score_<target>`` for others."""
    return "score" if target == targets[0] else f"score_{target}"
