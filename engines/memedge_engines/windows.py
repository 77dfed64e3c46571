"""Windows: what a node's input holds between ticks, bounded, in capture time.

A window of N elements at a stride keeps one element per tick of a grid (the greatest common divisor of the stride and
the
node's period), so its size does not depend on the frame rate. An element is the value whose frame was nearest to its
tick.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BundleError, ExecutorError
from .manifest import Node, NodeInput
from .manifest_rules import MAX_WINDOW


def common_step(first: float, second: float) -> Fraction:
    """Greatest common divisor of two periods in seconds; 0 when either is 0. Periods like 1/15 s are taken as
    fractions."""
    a, b = (Fraction(value).limit_denominator(10_000) for value in (first, second))
    while b:
        a, b = b, a % b
    return a if first and second else Fraction(0)


@dataclass(frozen=True)
class Element:
    """One kept value: grid tick (or running number), capture time, the array, and whether it was whole."""

    tick: int
    pts_s: float
    value: NDArray[Any]
    complete: bool


@dataclass(frozen=True)
class Filled:
    """What a node gets: N values, oldest first; ``complete`` false when padded or built on partial values;
    ``resampled`` when a missing sample was filled by the nearest earlier one."""

    values: Sequence[NDArray[Any]]
    complete: bool
    resampled: bool


class Window:
    """The last N elements of one input of one node, at its stride.

    Args:
        node: the node; its ``period_s`` fixes the grid together with the stride.
        item: the input; ``last`` is N.
    """

    def __init__(self, node: Node, item: NodeInput) -> None:
        self.item = item
        self.step = common_step(node.period_s, item.stride_s)
        if item.stride_s > 0 and item.last > 1 and not self.step:
            raise BundleError(
                f"node '{node.name}' input '{item.name}': a window at a stride needs a node with period_s > 0"
            )
        per_stride = int(Fraction(item.stride_s).limit_denominator(10_000) / self.step) if self.step else 1
        self._offsets = [j * per_stride for j in range(item.last - 1, -1, -1)]
        self.capacity = self._offsets[0] + 1
        if self.capacity > MAX_WINDOW:
            raise BundleError(
                f"node '{node.name}' input '{item.name}': needs {self.capacity} elements; at most {MAX_WINDOW}"
            )
        self._elements: deque[Element] = deque(maxlen=self.capacity)
        self._count = 0

    def push(self, tick: int, pts_s: float, value: NDArray[Any], complete: bool) -> None:
        """Keep ``value`` for grid tick ``tick`` (ignored when the window takes consecutive values)."""
        number = tick if self.step else self._count
        self._count += 1
        if self._elements and number <= self._elements[-1].tick:
            return
        while self._elements and number - self._elements[0].tick >= self.capacity and len(self._elements) > 1:
            # An element older than the window may still be the nearest earlier one of its oldest sample: keep one.
            if number - self._elements[1].tick < self.capacity - 1:
                break
            self._elements.popleft()
        self._elements.append(Element(number, pts_s, value, complete))

    def fill(self, tick: int) -> Filled | None:
        """The window that ends at grid tick ``tick``, or none while padding says wait, or nothing was kept."""
        if not self._elements:
            return None
        newest = tick if self.step else self._elements[-1].tick
        values, complete, resampled = [], True, False
        for offset in self._offsets:
            wanted = newest - offset
            found = next((e for e in reversed(self._elements) if e.tick <= wanted), None)
            if found is None:
                if self.item.padding == "wait":
                    return None
                found, complete = self._elements[0], False
            elif found.tick != wanted:
                resampled = True
            complete = complete and found.complete
            values.append(found.value)
        return Filled(values, complete, resampled)

    def newest_tick(self, node: Node, tick: int) -> int:
        """Grid tick of the newest element at the node's own tick."""
        if not self.step:
            return tick
        begin = tick * round(node.period_s / float(self.step))
        return begin + self._offsets[0] if node.anchor == "start" else begin

    def clear(self) -> None:
        """Forget everything."""
        self._elements.clear()
        self._count = 0

    def mark_partial(self) -> None:
        """Values so far came from another engine: what is built on them is partial."""
        self._elements = deque((Element(e.tick, e.pts_s, e.value, False) for e in self._elements), self.capacity)

    def state(self) -> dict[str, Any]:
        """Plain data for msgpack; arrays as [dtype, shape, bytes]."""
        elements = [[e.tick, e.pts_s, pack_array(e.value), e.complete] for e in self._elements]
        return {"count": self._count, "elements": elements}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave. Raises ExecutorError when it does not fit this window."""
        elements = state["elements"]
        if len(elements) > self.capacity:
            raise ExecutorError(f"saved window has {len(elements)} elements; this bundle keeps {self.capacity}")
        self._count = int(state["count"])
        self._elements = deque(
            (Element(int(t), float(p), unpack_array(v), bool(c)) for t, p, v, c in elements), self.capacity
        )

    def nbytes(self) -> int:
        """Bytes held."""
        return sum(e.value.nbytes for e in self._elements)


def pack_array(array: NDArray[Any]) -> list[Any]:
    """An array as [dtype, shape, bytes]."""
    return [array.dtype.str, list(array.shape), np.ascontiguousarray(array).tobytes()]


def unpack_array(packed: Sequence[Any]) -> NDArray[Any]:
    """The array that :func:`pack_array` packed; ExecutorError when it is not one."""
    try:
        dtype, shape, data = packed
        kind = np.dtype(dtype)
        if kind.hasobject:
            raise ValueError("object arrays are refused")
        return np.frombuffer(data, kind).reshape(shape).copy()
    except (ValueError, TypeError) as error:
        raise ExecutorError(f"saved state holds something that is not an array: {error}") from None
