"""Rolling score: one target over the last ``window_s`` seconds of capture time, half-open (t - w, t].

The value is recomputed from the scores inside the window each time: nothing drifts over months, and the live value
equals the offline one. A window keeps at most 8,193 entries: up to that it is exact (1,170 frames a second for 7
s); beyond, frames of one 1/8,192 of the window share an entry (exact sum and count) and leave together.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from memedge_engines.errors import EngineError
from memedge_engines.manifest import Quantiles

from .errors import UsageError

MAX_ENTRIES = 8192
COMPLETE_COVERAGE = 0.9
AGGREGATES = ("mean", "median", "exponential", "last")
_RECENT = 15
_ENOUGH = 4
_EDGE_S = 1e-9


class Rolling:
    """Rolling score of one target.

    ``mean`` and ``median`` of the scores inside the window; ``exponential``: mean with weights exp(-age / (w / 3))
    inside the same window; ``last``: the newest score while it is inside. Frames without a score count for coverage
    only.

    Coverage is the fraction of the window that scored frames cover. A scored frame covers the time since the scored
    frame before it. That is cut to one interval where no new frame came for more than two intervals (a gap), or
    where frames came but went unscored for more than two of the usual steps between scores. The interval is the one
    told with the frame or, if longer, the usual one of the last 15 frames, so that a device slower than its camera,
    or ``rate_hz``, is no gap.

    Args:
        window_s: length of the window in seconds, more than 0.
        aggregate: ``mean``, ``median``, ``exponential`` or ``last``.
    """

    def __init__(self, window_s: float, aggregate: str = "mean") -> None:
        if not (math.isfinite(window_s) and window_s > 0):
            raise UsageError(f"window {window_s:g} s; expected more than 0")
        if aggregate not in AGGREGATES:
            raise UsageError(f"unknown aggregation '{aggregate}'; expected one of {', '.join(AGGREGATES)}")
        self.window_s = float(window_s)
        self.aggregate = aggregate
        self._width = self.window_s / MAX_ENTRIES
        # One entry per frame or bucket: newest time, sum of scores, number of scores, seconds covered.
        self._times: deque[float] = deque()
        self._sums: deque[float] = deque()
        self._counts: deque[int] = deque()
        self._covers: deque[float] = deque()
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next frame is the first."""
        for column in (self._times, self._sums, self._counts, self._covers):
            column.clear()
        self._start: float | None = None
        self._frame: float | None = None  # newest frame, scored or not
        self._interval = 0.0  # told with it
        self._scored: float | None = None  # newest scored frame
        self._last: float | None = None
        self._holes = 0.0  # seconds without frames since the newest scored one
        self._unscored = 0  # frames since then
        self._frame_steps: deque[float] = deque(maxlen=_RECENT)
        self._score_steps: deque[float] = deque(maxlen=_RECENT)

    def add(self, time_s: float, score: float | None, interval_s: float = 0.0) -> None:
        """One frame at capture time ``time_s``; ``score`` none when it was not scored or is left out.

        A time before the newest one means that the source's clock started anew: the window is reset.

        Args:
            interval_s: seconds until the next frame (``Frame.duration_s``); 0 when unknown.

        Raises:
            EngineError: a score or time that is not a finite number.
        """
        if not math.isfinite(time_s) or (score is not None and not math.isfinite(score)):
            raise EngineError(f"score {score} at {time_s} s; expected finite numbers")
        if self._frame is not None and time_s < self._frame:
            self.reset()
        if self._start is None or self._frame is None:
            self._start = time_s - interval_s
        else:
            step = time_s - self._frame
            self._frame_steps.append(step)
            usual = self._frame_interval(interval_s)
            if step > 2 * usual + _EDGE_S:
                self._holes += step - usual
        self._frame, self._interval = time_s, interval_s
        if score is None:
            self._unscored += 1
        else:
            self._add_score(time_s, float(score), interval_s)
        self._expire(time_s)

    def _add_score(self, time_s: float, score: float, interval_s: float) -> None:
        if self._scored is None:
            cover = interval_s
        else:
            step = time_s - self._scored
            cover = step - self._holes
            if not self._holes:
                self._score_steps.append(step)
            if self._unscored and cover > 2 * self._score_interval(interval_s) + _EDGE_S:
                cover = self._score_interval(interval_s)
        self._scored, self._last, self._holes, self._unscored = time_s, score, 0.0, 0
        if self._times and math.floor(time_s / self._width) == math.floor(self._times[-1] / self._width):
            self._times[-1] = time_s
            self._sums[-1] += score
            self._counts[-1] += 1
            self._covers[-1] += cover
        else:
            self._times.append(time_s)
            self._sums.append(score)
            self._counts.append(1)
            self._covers.append(cover)

    def _frame_interval(self, told: float) -> float:
        """Seconds between frames: what was told, or the usual step where that is longer or nothing was told."""
        told = max(told, self._interval)
        steps = self._frame_steps
        if steps and (not told or len(steps) >= _ENOUGH):
            return max(told, sorted(steps)[len(steps) // 2])
        return told

    def _score_interval(self, told: float) -> float:
        """Seconds between scored frames."""
        steps = self._score_steps
        frame = self._frame_interval(told)
        return max(frame, sorted(steps)[len(steps) // 2]) if steps else frame

    def _expire(self, time_s: float) -> None:
        edge = time_s - self.window_s
        edge += _EDGE_S + 4 * math.ulp(time_s)
        times = self._times
        while times and times[0] <= edge:
            times.popleft()
            self._sums.popleft()
            self._counts.popleft()
            self._covers.popleft()

    def value(self, time_s: float) -> float | None:
        """The rolling score at ``time_s`` (not before the newest frame), or none when the window holds no score."""
        self._expire(time_s)
        if not self._times:
            return None
        if self.aggregate == "last":
            return self._last
        if self.aggregate == "mean":
            return math.fsum(self._sums) / sum(self._counts)
        counts = np.array(self._counts, np.float64)
        means = np.array(self._sums, np.float64) / counts
        if self.aggregate == "exponential":
            weights = counts * np.exp((np.array(self._times) - time_s) * (3 / self.window_s))
            return float(np.dot(weights, means) / weights.sum())
        if len(means) == sum(self._counts):
            return float(np.median(means))
        order = np.argsort(means, kind="stable")
        below = np.cumsum(counts[order])
        return float(means[order[int(np.searchsorted(below, below[-1] / 2))]])

    def coverage(self, time_s: float, interval_s: float = 0.0) -> float:
        """Fraction of (t - w, t] that scored frames cover, 0..1. ``interval_s``: interval of the newest frame."""
        self._expire(time_s)
        if self._scored is None:
            return 0.0
        tail = max(0.0, time_s - self._scored)
        usual = self._score_interval(interval_s)
        covered = max(0.0, tail - self._holes) if tail <= 2 * usual + _EDGE_S else usual
        # What the newest scored frame covers begins with it, and may have left the window by now.
        covered = min(covered, tail)
        covered = max(0.0, min(covered, self.window_s - (tail - covered)))
        if self._times:
            inside = self._times[0] - (time_s - self.window_s)
            covered += math.fsum(self._covers) - max(0.0, self._covers[0] - inside)
        return min(1.0, max(0.0, covered / self.window_s))

    def complete(self, time_s: float, interval_s: float = 0.0) -> bool:
        """Whether the window is full: the stream is at least that old (its newest frame's interval included) and at
        least nine tenths of the window are covered."""
        return self.full(time_s) and self.coverage(time_s, interval_s) >= COMPLETE_COVERAGE

    def full(self, time_s: float) -> bool:
        """Whether the stream is at least as old as the window."""
        return self._start is not None and time_s - self._start >= self.window_s - 1e-6

    def staleness_s(self, time_s: float) -> float | None:
        """Age of the newest score in seconds, or none before the first."""
        return None if self._scored is None else max(0.0, time_s - self._scored)

    def __len__(self) -> int:
        return len(self._times)

    def state(self) -> dict[str, Any]:
        """Plain data for JSON or msgpack."""
        return {
            "window_s": self.window_s,
            "aggregate": self.aggregate,
            "entries": [list(e) for e in zip(self._times, self._sums, self._counts, self._covers, strict=True)],
            "clock": [self._start, self._frame, self._interval, self._scored, self._last],
            "since_scored": [self._holes, self._unscored],
            "frame_steps": list(self._frame_steps),
            "score_steps": list(self._score_steps),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state` gave.

        Raises:
            UsageError: the state of another window or aggregation.
        """
        if state["window_s"] != self.window_s or state["aggregate"] != self.aggregate:
            raise UsageError(
                f"state of a {state['aggregate']} over {state['window_s']:g} s; expected {self.aggregate} over "
                f"{self.window_s:g} s"
            )
        self.reset()
        for time_s, total, count, cover in state["entries"]:
            self._times.append(float(time_s))
            self._sums.append(float(total))
            self._counts.append(int(count))
            self._covers.append(float(cover))
        self._start, self._frame, self._interval, self._scored, self._last = state["clock"]
        self._holes, self._unscored = state["since_scored"]
        self._frame_steps.extend(state["frame_steps"])
        self._score_steps.extend(state["score_steps"])


def percentile(quantiles: Quantiles | None, value: float | None) -> float | None:
    """Where ``value`` stands on the reference set, 0..100, linear between quantiles; none without either.

    Below the lowest quantile it is 0, above the highest 100; among equal quantiles the middle of their ranks.
    """
    if quantiles is None or value is None:
        return None
    values = quantiles.values
    low = bisect_left(values, value)
    high = bisect_right(values, value)
    last = len(values) - 1
    if high > low:
        rank = (low + high - 1) / 2
    elif low == 0:
        rank = 0.0
    elif low > last:
        rank = float(last)
    else:
        rank = low - 1 + (value - values[low - 1]) / (values[low] - values[low - 1])
    return 100.0 * rank / last
