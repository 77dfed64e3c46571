"""Named tensors one behind the other in one block of memory, so that one copy moves them all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends.base import TensorSpec
from .driver import ALIGNMENT

Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Place:
    begin: int
    nbytes: int
    dtype: np.dtype[Any]
    shape: Shape


class Layout:
    """Where each tensor lies, every one aligned to 256 bytes.

    Args:
        specs: names and dtypes.
        shapes: their shapes, without free axes.

    Attributes:
        size: bytes of the whole block, at least one alignment.
    """

    def __init__(self, specs: Iterable[TensorSpec], shapes: Mapping[str, Shape]) -> None:
        self._places: dict[str, _Place] = {}
        end = 0
        for spec in specs:
            shape = shapes[spec.name]
            nbytes = int(np.prod(shape, dtype=np.int64)) * spec.dtype.itemsize
            self._places[spec.name] = _Place(end, nbytes, spec.dtype, shape)
            end += -(-nbytes // ALIGNMENT) * ALIGNMENT
        self.size = max(end, ALIGNMENT)

    def addresses(self, base: int) -> dict[str, int]:
        """Address of each tensor where the block begins at ``base``."""
        return {name: base + place.begin for name, place in self._places.items()}

    def views(self, block: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """The tensors as arrays over a block of host memory of at least ``size`` bytes."""
        return {
            name: block[p.begin : p.begin + p.nbytes].view(p.dtype).reshape(p.shape) for name, p in self._places.items()
        }
