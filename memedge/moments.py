"""The most memorable moments of a source, well apart in time, found online in bounded memory.

Definition: capture time is cut into cells of a quarter of the gap, and each cell's best frame (the earliest of
equals) is a candidate. Then, again and again, the best candidate (again the earliest of equals) that is at least
the gap away from all chosen ones is chosen, up to ``count``. The online result is exactly this, at any moment, for
all frames seen so far.

How it stays small: frames to come can lie within the gap of only the newest old candidates, and at most one chosen
frame to come can (chosen frames are a gap apart). So what becomes of the old candidates depends on two things: how
many of them are chosen before that frame, and which of the newest it shuts out. The candidates that are chosen in
any of these cases are kept; all others can never be chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from memedge_engines.errors import EngineError

from .errors import UsageError

CELLS_PER_GAP = 4


@dataclass
class Candidate:
    """A frame that may be a moment; ``payload`` is what ``offer`` took of it."""

    time_s: float
    score: float
    payload: Any = None

    @property
    def rank(self) -> tuple[float, float]:
        """Sorts the best first: highest score, then earliest."""
        return (-self.score, self.time_s)


class Moments:
    """The ``count`` best moments at least ``min_gap_s`` apart.

    Args:
        count: number of moments, at least 1.
        min_gap_s: least distance of two moments in seconds, more than 0.
        seal: called once with the payload of a candidate whose cell has passed and that may still be chosen (to
            compress its picture, say); what it returns replaces the payload.
    """

    def __init__(self, count: int = 5, min_gap_s: float = 2.0, seal: Callable[[Any], Any] | None = None) -> None:
        if count < 1:
            raise UsageError(f"{count} moments; expected at least 1")
        if not (math.isfinite(min_gap_s) and min_gap_s > 0):
            raise UsageError(f"gap of {min_gap_s:g} s between moments; expected more than 0")
        self.count = count
        self.min_gap_s = float(min_gap_s)
        self._cell_s = self.min_gap_s / CELLS_PER_GAP
        self._seal = seal
        self._closed: list[Candidate] = []  # best first
        self._open: Candidate | None = None
        self._cell: int | None = None

    def offer(self, time_s: float, score: float, take: Callable[[], Any] | None = None) -> bool:
        """One scored frame, in order of time; whether it is a candidate for now.

        Args:
            take: called only if the frame is a candidate; what it returns is kept as the payload. At most one
                payload per cell is kept, and few cells stay.

        Raises:
            EngineError: a score or time that is not a finite number.
        """
        if not (math.isfinite(time_s) and math.isfinite(score)):
            raise EngineError(f"score {score} at {time_s} s; expected finite numbers")
        cell = math.floor(time_s / self._cell_s)
        if self._cell is not None and cell < self._cell:
            return False  # a clock that went back: the cell is closed
        if cell != self._cell:
            self._close_cell()
            self._cell = cell
        if self._open is not None and score <= self._open.score:
            return False
        candidate = Candidate(float(time_s), float(score))
        if take is not None:
            if not (self._open is not None and self._open.payload is not None) and not self._may_be_chosen(candidate):
                # Nothing of it is needed; it still is its cell's best, which decides what the cell stands for.
                self._open = candidate
                return False
            candidate.payload = take()
        self._open = candidate
        return True

    def _close_cell(self) -> None:
        if self._open is None or self._cell is None:
            return
        fresh, self._open = self._open, None
        end_s = (self._cell + 1) * self._cell_s
        self._closed = self._needed(sorted([*self._closed, fresh], key=lambda c: c.rank), end_s)
        if self._seal is not None and any(c is fresh for c in self._closed):
            fresh.payload = self._seal(fresh.payload)

    def _may_be_chosen(self, candidate: Candidate) -> bool:
        end_s = (math.floor(candidate.time_s / self._cell_s) + 1) * self._cell_s
        ordered = sorted([*self._closed, candidate], key=lambda c: c.rank)
        return any(c is candidate for c in self._needed(ordered, end_s))

    def _needed(self, ordered: Sequence[Candidate], now_s: float) -> list[Candidate]:
        """The candidates that some future can choose; all frames to come lie at or after ``now_s``."""
        edges = [c.time_s for c in ordered if c.time_s > now_s - self.min_gap_s]
        edges.append(now_s - self.min_gap_s)
        needed: set[int] = {id(c) for c in self._greedy(ordered)}
        for free in range(self.count + 1):
            for edge in edges:
                needed.update(id(c) for c in self._greedy(ordered, free, edge))
        return [c for c in ordered if id(c) in needed]

    def _greedy(self, ordered: Sequence[Candidate], free: int | None = None, edge_s: float = 0.0) -> list[Candidate]:
        """The definition; after ``free`` choices, candidates later than ``edge_s`` are shut out."""
        chosen: list[Candidate] = []
        for candidate in ordered:
            if len(chosen) == self.count:
                break
            if free is not None and len(chosen) >= free and candidate.time_s > edge_s:
                continue
            if all(abs(candidate.time_s - c.time_s) >= self.min_gap_s for c in chosen):
                chosen.append(candidate)
        return chosen

    def best(self) -> list[Candidate]:
        """The moments of everything seen so far, the best first."""
        known = self._closed if self._open is None else sorted([*self._closed, self._open], key=lambda c: c.rank)
        return self._greedy(known)

    def __len__(self) -> int:
        """Candidates held."""
        return len(self._closed) + (self._open is not None)
