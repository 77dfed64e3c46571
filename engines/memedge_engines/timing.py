"""Timing engines against each other on this device: golden-frame tensors, warm-up, interleaved rounds.

Rounds are interleaved so that clocks that change, a warming processor and other programs hit every engine alike.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import golden
from .backends.base import Engine
from .bundle import Bundle
from .errors import EngineError
from .golden import GoldenFrames
from .manifest import Node

WARM_UP = 2
FEWEST_ROUNDS = 5


class Contestant:
    """One set of engines that runs the bundle's graph nodes, and how long each run of all of them took.

    Attributes:
        seconds: the timed runs.
        node_seconds: the same for each graph node.
        error: why it dropped out, or none.
    """

    def __init__(self, bundle: Bundle, frames: GoldenFrames, lowering: str, engines: Mapping[str, Engine]) -> None:
        self.engines = dict(engines)
        self.seconds: list[float] = []
        self.node_seconds: dict[str, list[float]] = {name: [] for name in self.engines}

        def run(node: Node, inputs: dict[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
            return self.engines[node.name].run(inputs)

        self._inputs = [
            golden.inputs_of(bundle, frames, number, lowering, run) for number in range(min(4, len(frames.frames)))
        ]
        self._next = 0
        self.error: EngineError | None = None

    def run(self, *, timed: bool) -> None:
        """One inference of every graph node, on the next golden frame."""
        inputs = self._inputs[self._next % len(self._inputs)]
        self._next += 1
        marks = [time.perf_counter()]
        try:
            for name, tensors in inputs.items():
                self.engines[name].run(tensors)
                marks.append(time.perf_counter())
        except EngineError as error:
            self.error = error
            return
        if timed:
            self.seconds.append(marks[-1] - marks[0])
            for name, begin, end in zip(inputs, marks, marks[1:], strict=False):
                self.node_seconds[name].append(end - begin)

    def median_ms(self) -> float:
        """Median of the timed runs in milliseconds."""
        return float(np.median(self.seconds)) * 1e3

    def p90_ms(self) -> float:
        """90th percentile of the timed runs in milliseconds."""
        return float(np.percentile(self.seconds, 90)) * 1e3

    def close(self) -> None:
        """Close the engines."""
        for engine in self.engines.values():
            engine.close()


def rounds(contestants: Mapping[str, Contestant], count: int, budget_s: float) -> Iterator[tuple[str, int]]:
    """Run everyone in turns, ``count`` timed rounds, or fewer (at least 5) when ``budget_s`` of running is spent.

    Yields (whose turn it was, round from 0; warm-up is round -1) after every single run, so that the caller may do
    something else between two runs. Who fails keeps its error and drops out.
    """
    spent = 0.0
    for round_number in range(-WARM_UP, count):
        if round_number >= FEWEST_ROUNDS and spent > budget_s:
            return
        names = [name for name, one in contestants.items() if one.error is None]
        # Another one begins each round: who runs after a pause, or after a hungry neighbour, changes.
        start = round_number % len(names) if names else 0
        for name in names[start:] + names[:start]:
            begin = time.perf_counter()
            contestants[name].run(timed=round_number >= 0)
            spent += time.perf_counter() - begin
            yield name, max(-1, round_number)
