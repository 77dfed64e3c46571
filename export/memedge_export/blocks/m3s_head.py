"""The end of M3-S (T. Dumont, J. S. Hevia, C. L. Fosco, CVPR 2023): modules joined, three layers, and what each module
contributes.

Golden for all modules with 434 and 418 clusters: 3,635 inputs, 1,894,529 parameters; 376 and 323: 3,482 and 1,816,193.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .distance_measures import Distinctiveness
from .mlp_head import MlpHead
from .standardise import Standardise

RAW = 15
_HIDDEN = (512, 64)
MODULES = {"l": "low", "m": "mid", "h": "high", "s": "sim"}


class M3sHead(nn.Module):
    """Values of the modules to a score ``[B,1]``, the joined values ``[B,D]``, and a contribution ``[B,1]`` a module.

    Inputs, those that are there: means over the clip of HOG's components ``[B,10]``, brightness, contrast, motion and
    blurriness ``[B,1]`` each, bytes of the source a second ``[B,1]`` (0: unknown); HRNet's features, CSN's. Joined are
    raw, mid, high, distinctiveness of mid, of high.

    A contribution is how far the score falls when the module's values are 0: for raw values, their training mean.

    Args:
        letters: modules, of ``lmhs``.
        sizes: length of the features that come in, ``mid`` and ``high``, in this order.
        sims: how distinctiveness is measured of each; ``s`` needs one at least.
    """

    masks: Tensor

    def __init__(self, letters: str, sizes: Mapping[str, int], sims: Mapping[str, Distinctiveness]) -> None:
        super().__init__()
        self.letters = letters
        self.kinds = tuple(sizes)
        self.standard = Standardise(RAW) if "l" in letters else None
        self.sims = nn.ModuleDict(dict(sims) if "s" in letters else {})
        widths: dict[str, int] = {}
        if "l" in letters:
            widths["l"] = RAW
        for kind, size in sizes.items():
            if kind[0] in letters:
                widths[kind[0]] = size
        if "s" in letters:
            widths["s"] = sum(sim.features for sim in sims.values())
        total = sum(widths.values())
        self.mlp = MlpHead((total, *_HIDDEN, 1), act="mish", out_act="sigmoid")
        # All values, then without each module: one pass of the layers for all of them.
        masks, begin = torch.ones(1 + len(widths), 1, total), 0
        for row, width in enumerate(widths.values(), start=1):
            masks[row, :, begin : begin + width] = 0
            begin += width
        self.register_buffer("masks", masks, persistent=False)

    @property
    def contributions(self) -> list[str]:
        """Names of the outputs behind score and joined values."""
        return [f"contribution_{name}" for letter, name in MODULES.items() if letter in self.letters]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Score, joined values, contributions."""
        joined = torch.cat(self._parts(inputs), 1)
        rows = (joined[None] * self.masks).reshape(-1, joined.shape[1])
        scores = self.mlp(rows).reshape(len(self.masks), -1, 1)
        score, *without = (scores[row] for row in range(len(self.masks)))
        return score, joined, *(score - other for other in without)

    def _parts(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        found = []
        features = dict(zip(self.kinds, inputs[len(inputs) - len(self.kinds) :], strict=True))
        if self.standard is not None:
            *raw, size = inputs[: len(inputs) - len(self.kinds)]
            values = self.standard(torch.cat([*raw, torch.log(size.clamp(min=1))], 1))
            known = (size > 0).to(values.dtype)
            found += [values[:, : RAW - 1], values[:, RAW - 1 :] * known]
        found += [value for kind, value in features.items() if kind[0] in self.letters]
        found += [sim(features[kind]) for kind, sim in self.sims.items()]
        return found
