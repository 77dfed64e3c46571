"""Out-of-domain flag: whether a picture is unlike what the model was trained on, by the features behind its score.

The distance of an embedding e is the root of the mean over axes of ((e - mean) / std) squared, mean and std being those
of the training pictures; beyond the manifest's threshold a reading carries the flag ``out_of_domain``. It says that the
score was made for something the model does not know, not that the score is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memedge_engines.manifest import Manifest

from .errors import EngineError

FLAG = "out_of_domain"


def distance(embedding: ArrayLike, mean: ArrayLike, std: ArrayLike) -> float:
    """Root mean square of the standardised embedding ``[F]``; about 1 for training pictures."""
    whitened = (np.asarray(embedding, np.float64).reshape(-1) - np.asarray(mean)) / np.asarray(std)
    return float(np.sqrt(np.mean(whitened**2)))


class DomainCheck:
    """The manifest's ``domain`` block at work; without one, nothing is ever flagged."""

    def __init__(self, manifest: Manifest) -> None:
        self._domain = manifest.domain
        if self._domain is not None:
            self._mean = np.array(self._domain.mean)
            self._std = np.array(self._domain.std)

    def flags(self, values: Mapping[str, NDArray[Any]]) -> tuple[str, ...]:
        """``("out_of_domain",)`` or nothing, for the outputs of one frame (``node.output`` to array).

        Raises:
            EngineError: the embedding has another length than the manifest's statistics.
        """
        if self._domain is None or self._domain.source not in values:
            return ()
        embedding = values[self._domain.source]
        if embedding.size != len(self._mean):
            raise EngineError(
                f"output '{self._domain.source}' has {embedding.size} values; the manifest's domain block has "
                f"{len(self._mean)}"
            )
        return (FLAG,) if distance(embedding, self._mean, self._std) > self._domain.threshold else ()
