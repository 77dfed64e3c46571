"""What the caller gives in calibration and at the gate: titles of random words, and every other one none.

Pictures of a data set calibrate what reads pictures; nothing in them says what a person would type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memedge.titles import MASK, TOKENS, Words, title_shape
from memedge_engines.manifest import Manifest

_FEWEST, _MOST = 3, 12
_SEED = 20181


@dataclass(frozen=True)
class CallerExamples:
    """Values of a dataflow's caller inputs, clip by clip.

    Attributes:
        manifest: the dataflow. One that takes no title has nothing here: its inputs keep their defaults.
        words: what titles are drawn from; none: vectors of standard normal numbers stand for words.
    """

    manifest: Manifest
    words: Words | None = None

    def of(self, row: int) -> Mapping[str, NDArray[np.float32]]:
        """Input to value for the clip number ``row``; inputs that are not named keep their defaults. The same number
        always has the same title, of 3 to 12 words; even ones have none."""
        shape = title_shape(self.manifest)
        if shape is None or row % 2 == 0:
            return {}
        length, size = shape
        rng = np.random.default_rng([_SEED, row])
        count = min(length, int(rng.integers(_FEWEST, _MOST + 1)))
        if self.words is None:
            vectors = rng.standard_normal((count, size)).astype(np.float32)
        else:
            vectors = self.words.vectors[rng.integers(len(self.words.vectors), size=count)]
        tokens, mask = np.zeros(shape, np.float32), np.zeros(length, np.float32)
        tokens[:count], mask[:count] = vectors, 1
        return {TOKENS: tokens, MASK: mask}
