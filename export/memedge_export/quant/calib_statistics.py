"""What calibration knows of each activation tensor, in bounded memory: exact range and a histogram.

A histogram has 4,096 bins over [-2**e, 2**e), e the smallest exponent that holds every value seen so far; when a larger
value arrives, e grows and bins are merged in groups. Zero is the border of bin 2,048 and widths are powers of two, so
binning and merging are exact in float32: the counts do not depend on the order of the frames, on how they were batched
or on whether the run was interrupted. Between 1,024 and 2,048 bins cover the side of zero that reaches furthest.
"""

from __future__ import annotations

import math
import os
import tempfile
import zipfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import ExportError
from .ranges import RangeTable, hash_frames

HALF = 2048
"""Bins on one side of zero."""
_BLOCK = 1 << 16  # values binned at once: the scratch buffers stay in the second-level cache
_LEAST_EXPONENT = -100  # so that the factor to bins fits float32; smaller values fall into the bins next to zero
_STATE_SCHEMA = 1


@dataclass
class TensorStatistics:
    """Statistics of one tensor.

    Attributes:
        low, high: exact smallest and largest value; +inf and -inf before the first.
        elements: number of values seen.
        exponent: the bins cover [-2**exponent, 2**exponent); bin width 2**(exponent - 11).
        counts: int64 ``[4096]``, bin ``i`` from ``(i - 2048) * width``; none where only the range is wanted.
    """

    low: float = math.inf
    high: float = -math.inf
    elements: int = 0
    exponent: int = _LEAST_EXPONENT
    counts: NDArray[np.int64] | None = field(default_factory=lambda: np.zeros(2 * HALF, np.int64))

    @property
    def width(self) -> float:
        """Width of a bin."""
        return math.ldexp(1.0, self.exponent - 11)

    @property
    def magnitude(self) -> float:
        """Largest |x| seen; 0 before the first value."""
        return max(abs(self.low), abs(self.high)) if self.elements else 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the values of one array of any shape.

        Raises:
            ValueError: a value that is not finite; nothing was counted then.
        """
        flat = values.reshape(-1)
        if not flat.size:
            return
        low, high = float(flat.min()), float(flat.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("not finite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.elements += flat.size
        if self.counts is None:
            return
        self._widen(math.frexp(max(-low, high))[1] if low or high else _LEAST_EXPONENT)
        factor = np.float32(math.ldexp(1.0, 11 - self.exponent))
        scaled = np.empty(min(_BLOCK, flat.size), np.float32)
        bins = np.empty(scaled.size, np.intp)
        for begin in range(0, flat.size, _BLOCK):
            block = flat[begin : begin + _BLOCK]
            part, index = scaled[: block.size], bins[: block.size]
            np.multiply(block, factor, out=part)
            if low < 0:
                np.floor(part, out=part)
                np.copyto(index, part, casting="unsafe")
                np.add(index, HALF, out=index)
                self.counts += np.bincount(index, minlength=2 * HALF)
            else:  # never negative, as after a ReLU: truncation is floor
                np.copyto(index, part, casting="unsafe")
                self.counts[HALF:] += np.bincount(index, minlength=HALF)

    def _widen(self, exponent: int) -> None:
        """Let the bins reach 2**exponent, if they do not yet."""
        steps = exponent - self.exponent
        if steps <= 0 or self.counts is None:
            return
        target = (np.arange(-HALF, HALF) >> min(steps, 62)) + HALF
        merged = np.zeros_like(self.counts)
        np.add.at(merged, target, self.counts)
        self.counts, self.exponent = merged, exponent

    def magnitudes(self) -> NDArray[np.int64]:
        """Histogram of |x|, int64 ``[2048]``, bin ``i`` from ``i * width``.

        Raises:
            ExportError: this tensor has no histogram.
        """
        if self.counts is None:
            raise ExportError("a tensor whose range alone was collected has no histogram")
        return self.counts[HALF:] + self.counts[HALF - 1 :: -1]


@dataclass
class Statistics:
    """What one pass over the float graph found out.

    Attributes:
        graph_sha256: hash of the float graph's bytes.
        source: what the frames were, in words.
        hashes: SHA-256 of each frame's tensors, in order.
        tensors: activation tensor name -> statistics.
    """

    graph_sha256: str
    source: str
    hashes: list[str]
    tensors: dict[str, TensorStatistics]

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.hashes)

    @property
    def frames_sha256(self) -> str:
        """Hash over the list of frame hashes."""
        return hash_frames(self.hashes)

    def table(self, method: str = "percentile", percentile: float = 99.99) -> RangeTable:
        """Ranges by ``minmax``, ``percentile`` or ``entropy``; see :mod:`memedge_export.quant.methods`.

        Raises:
            UsageError: an unknown method, or a percentile outside 50..100.
            ExportError: no frames.
        """
        from .methods import range_of

        if not self.hashes:
            raise ExportError("no calibration frames were seen; expected at least one")
        return RangeTable(
            graph_sha256=self.graph_sha256,
            method=method,
            source=self.source,
            frames=self.frames,
            frames_sha256=self.frames_sha256,
            tensors={name: range_of(found, method, percentile) for name, found in self.tensors.items()},
            magnitudes={name: found.magnitude for name, found in self.tensors.items()},
        )

    def save(self, path: Path) -> None:
        """Write everything, atomically: a kill leaves the old file or the new one.

        Raises:
            OSError: no room, no permission; no partial file stays behind.
        """
        binned = [name for name, found in self.tensors.items() if found.counts is not None]
        head = {
            "schema": _STATE_SCHEMA,
            "graph_sha256": self.graph_sha256,
            "hashes": self.hashes,
            "names": list(self.tensors),
            "binned": binned,
        }
        every = list(self.tensors.values())
        arrays: dict[str, Any] = {
            "head": np.frombuffer(msgspec.json.encode(head), np.uint8),
            "ranges": np.array([[found.low, found.high] for found in every], np.float64).reshape(-1, 2),
            "sizes": np.array([[found.elements, found.exponent] for found in every], np.int64).reshape(-1, 2),
            "counts": np.array([self.tensors[name].counts for name in binned], np.int64).reshape(-1, 2 * HALF),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **arrays)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(partial)
            raise

    @classmethod
    def load(cls, path: Path, graph_sha256: str, source: str, names: dict[str, bool]) -> Statistics | None:
        """What :meth:`save` wrote for the same graph and tensors; none where there is nothing usable.

        Args:
            names: activation tensor name -> whether it has a histogram, in the graph's order.
        """
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                head = msgspec.json.decode(file["head"].tobytes())
                ranges, sizes, counts = file["ranges"], file["sizes"], file["counts"]
            binned = [name for name, on in names.items() if on]
            if (
                (head["schema"], head["graph_sha256"]) != (_STATE_SCHEMA, graph_sha256)
                or (head["names"], head["binned"]) != (list(names), binned)
                or (ranges.shape, sizes.shape) != ((len(names), 2), (len(names), 2))
                or (counts.shape, counts.dtype) != ((len(binned), 2 * HALF), np.int64)
            ):
                return None
            rows = dict(zip(binned, counts, strict=True))
            tensors = {
                name: TensorStatistics(
                    float(ranges[i, 0]), float(ranges[i, 1]), int(sizes[i, 0]), int(sizes[i, 1]), rows.get(name)
                )
                for i, name in enumerate(names)
            }
            return cls(graph_sha256, source, [str(value) for value in head["hashes"]], tensors)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, msgspec.MsgspecError):
            return None
