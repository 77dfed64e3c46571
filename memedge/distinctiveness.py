"""Distinctiveness, live: how far the present picture stands out from what this camera has seen. Ours, not M3-S's.

M3-S measures how far a video stands out from a training corpus; that is part of its network. This is the stream's own
context: the embedding behind a score against a memory of the stream's earlier embeddings, of which each counts
exp(-age / ``memory_s``)::

    distinctiveness = 1 - sum_i w_i exp(-d_i^2 / 2) / sum_i w_i

d_i^2 is the mean over axes of ((e - x_i) / scale)^2. The scale of an axis is its deviation over the training pictures
where the manifest tells it (the domain block), else its deviation within the memory: then camera noise counts as much
as anything else while nothing happens. 0: it has seen nothing else; near 1: nothing like it.

The memory holds at most 64 prototypes: beyond, the two whose union spreads least become one, which keeps their weight,
mean and spread. So the memory's weight, mean and deviation are exact for ever, and the distinctiveness is while no more
than 64 embeddings have come; afterwards it takes the spread of what a prototype stands for as part of its distance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memedge_engines.manifest import Manifest
from memedge_engines.windows import pack_array, unpack_array

from .errors import EngineError, UsageError

OUTPUT = "distinctiveness"
MEMORY_S = 600.0
CAPACITY = 64
_FADED = 1e-6
Floats = NDArray[np.float32]


class SceneMemory:
    """A bounded memory of embeddings that fades exponentially.

    Args:
        size: numbers of an embedding.
        memory_s: seconds after which an embedding counts 1/e as much as a new one, more than 0.
        scale: deviation of each axis, more than 0; none takes the memory's own.
        capacity: prototypes held, at least 2.

    Raises:
        UsageError: a time or capacity that cannot be.
    """

    def __init__(
        self, size: int, memory_s: float = MEMORY_S, scale: ArrayLike | None = None, capacity: int = CAPACITY
    ) -> None:
        if not 0 < memory_s < math.inf:
            raise UsageError(f"memory of {memory_s:g} s; expected more than 0")
        if capacity < 2:
            raise UsageError(f"memory of {capacity} prototypes; expected at least 2")
        self.memory_s = float(memory_s)
        self.capacity = capacity
        self._variance: Floats | None = None if scale is None else np.asarray(scale, np.float32) ** 2
        self._size = size
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._weights = np.zeros(0)
        self._means: Floats = np.zeros((0, self._size), np.float32)
        self._spreads: Floats = np.zeros((0, self._size), np.float32)
        self._time_s: float | None = None

    def __len__(self) -> int:
        """Prototypes held."""
        return len(self._weights)

    @property
    def weight(self) -> float:
        """Embeddings remembered, each as much as it still counts."""
        return float(self._weights.sum())

    def distinctiveness(self, embedding: ArrayLike, time_s: float) -> float | None:
        """How far an embedding stands out from the memory at capture time ``time_s``, 0..1; none while it is empty.

        The embedding is remembered afterwards. A time before the last one starts anew.

        Raises:
            EngineError: another length, or values that are not finite.
        """
        vector = np.asarray(embedding, np.float32).reshape(-1)
        if vector.size != self._size or not (np.isfinite(vector).all() and math.isfinite(time_s)):
            raise EngineError(
                f"embedding of {vector.size} values at {time_s} s; expected {self._size} finite ones at a finite time"
            )
        self._fade(time_s)
        found = self._measure(vector)
        self._add(vector)
        return found

    def _fade(self, time_s: float) -> None:
        if self._time_s is not None and time_s < self._time_s:
            self.reset()
        if self._time_s is not None:
            self._weights = self._weights * math.exp((self._time_s - time_s) / self.memory_s)
            kept = self._weights > _FADED
            if not kept.all():
                self._keep(kept)
        self._time_s = float(time_s)

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        self._weights, self._means, self._spreads = self._weights[kept], self._means[kept], self._spreads[kept]

    def _measure(self, vector: Floats) -> float | None:
        if not len(self):
            return None
        squares = ((self._means - vector) ** 2 + self._spreads) / self._scale()
        likeness = np.exp(-0.5 * squares.mean(1, dtype=np.float64))
        return min(1.0, max(0.0, 1.0 - float(likeness @ self._weights) / self.weight))

    def _scale(self) -> Floats:
        """Variance of each axis, more than 0."""
        if self._variance is not None:
            return self._variance
        shares = (self._weights / self.weight).astype(np.float32)
        mean = shares @ self._means
        variance = shares @ ((self._means - mean) ** 2 + self._spreads)
        # Axes that never move would make the first that does infinitely distinct, and so would the first second.
        least = 1e-3 * float(variance.mean()) + 1e-6 * float((mean**2).mean()) + 1e-12
        return np.asarray(variance + least, np.float32)

    def _add(self, vector: Floats) -> None:
        self._weights = np.append(self._weights, 1.0)
        self._means = np.concatenate([self._means, vector[None]])
        self._spreads = np.concatenate([self._spreads, np.zeros_like(vector)[None]])
        if len(self) > self.capacity:
            self._merge()

    def _merge(self) -> None:
        """Make one of the two prototypes whose union adds least to the memory's inner spread (Ward's criterion)."""
        scaled = self._means / np.sqrt(self._scale())
        lengths = (scaled**2).sum(1)
        squares = np.maximum(lengths[:, None] + lengths - 2 * (scaled @ scaled.T), 0)
        pairs = self._weights[:, None] * self._weights / (self._weights[:, None] + self._weights)
        cost = squares * pairs
        np.fill_diagonal(cost, np.inf)
        one, other = sorted(int(i) for i in np.unravel_index(int(cost.argmin()), cost.shape))
        share = float(self._weights[one] / (self._weights[one] + self._weights[other]))
        away = self._means[other] - self._means[one]
        self._spreads[one] = (
            share * self._spreads[one] + (1 - share) * self._spreads[other] + share * (1 - share) * away**2
        )
        self._means[one] += (1 - share) * away
        self._weights[one] += self._weights[other]
        self._keep(np.arange(len(self)) != other)

    def state(self) -> dict[str, Any]:
        """Plain data for msgpack."""
        arrays = [pack_array(array) for array in (self._weights, self._means, self._spreads)]
        return {"memory_s": self.memory_s, "time_s": self._time_s, "arrays": arrays}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state` gave.

        Raises:
            UsageError: the state of another memory: time constant, length of the embeddings, capacity.
            ExecutorError: something that is no such state.
        """
        weights, means, spreads = (unpack_array(packed) for packed in state["arrays"])
        same = means.shape == spreads.shape == (len(weights), self._size)
        if state["memory_s"] != self.memory_s or len(weights) > self.capacity or not same:
            raise UsageError(
                f"state of {len(weights)} prototypes of {means.shape[-1]} numbers over {state['memory_s']:g} s; "
                f"expected at most {self.capacity} of {self._size} over {self.memory_s:g} s"
            )
        self._weights, self._means, self._spreads = weights, means, spreads
        self._time_s = None if state["time_s"] is None else float(state["time_s"])


def embedding_of(manifest: Manifest) -> str | None:
    """``node.output`` of the embedding: that of the domain block, else the last one of this role, or none."""
    if manifest.domain is not None:
        return manifest.domain.source
    found = [f"{node.name}.{o.name}" for node in manifest.nodes for o in node.outputs if o.role == "embedding"]
    return found[-1] if found else None


def check_distinctiveness(manifests: Sequence[Manifest], memory_s: float | None) -> None:
    """Raise UsageError for a time constant that cannot be, or where no bundle has an embedding; none: not wanted."""
    if memory_s is None:
        return
    if not 0 < memory_s < math.inf:
        raise UsageError(f"--memory {memory_s:g}; expected more than 0 seconds")
    if all(embedding_of(manifest) is None for manifest in manifests):
        raise UsageError(
            "--distinctiveness: no bundle gives an embedding; expected one such as memedge-s or m3s",
            fix="memedge info --bundle DIR lists a bundle's outputs",
        )


class LiveDistinctiveness:
    """The further output ``distinctiveness`` of one bundle on one stream; of a bundle without an embedding, nothing.

    Args:
        memory_s: see :class:`SceneMemory`; none: not wanted.
    """

    def __init__(self, manifest: Manifest, memory_s: float | None) -> None:
        self._source = None if memory_s is None else embedding_of(manifest)
        self._memory_s = memory_s or MEMORY_S
        domain = manifest.domain
        self._scale = None if domain is None or domain.source != self._source else domain.std
        self.memory: SceneMemory | None = None

    def values(self, values: Mapping[str, NDArray[Any]], time_s: float) -> dict[str, float]:
        """The output, where a frame's outputs hold a new embedding and the memory is not empty."""
        if self._source is None or self._source not in values:
            return {}
        embedding = np.asarray(values[self._source])
        if self.memory is None:
            self.memory = SceneMemory(embedding.size, self._memory_s, self._scale)
        found = self.memory.distinctiveness(embedding, time_s)
        return {} if found is None else {OUTPUT: round(found, 6)}
