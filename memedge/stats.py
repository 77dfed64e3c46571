"""Bounded statistics for runs of months: latency percentiles, rates, drop counters."""

from __future__ import annotations

import math
import time
from collections import deque

from .sinks.base import Latency

ERROR = 0.01
_GAMMA = (1 + ERROR) / (1 - ERROR)
_LOG = math.log(_GAMMA)
_LEAST_MS = 1e-4
_BUCKETS = math.ceil(math.log(1e9 / _LEAST_MS) / _LOG) + 1
MAX_REASONS = 64


class LatencyStats:
    """Percentiles of a stage in milliseconds, from counts in logarithmic buckets.

    A percentile is within 1 % of the true one between 0.1 microseconds and 11 days; count, mean and maximum are exact.
    At most 1,499 counts, however long it runs.
    """

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0
        self.max = 0.0
        self._sum = 0.0

    def add(self, value_ms: float) -> None:
        """One measurement; a negative or not finite one counts as 0."""
        value_ms = value_ms if 0 <= value_ms < math.inf else 0.0
        number = 0 if value_ms <= _LEAST_MS else min(_BUCKETS, math.ceil(math.log(value_ms / _LEAST_MS) / _LOG))
        self._counts[number] = self._counts.get(number, 0) + 1
        self.count += 1
        self._sum += value_ms
        if value_ms > self.max:
            self.max = value_ms

    @property
    def mean(self) -> float:
        """Mean in milliseconds; 0 before the first measurement."""
        return self._sum / self.count if self.count else 0.0

    def percentile(self, q: float) -> float:
        """The ``q``-th percentile in milliseconds, 0 <= q <= 100, linear between ranks as numpy's; 0 while empty."""
        if not self.count:
            return 0.0
        rank = (self.count - 1) * q / 100
        low = math.floor(rank)
        values = self._at(low), self._at(min(low + 1, self.count - 1))
        return values[0] + (values[1] - values[0]) * (rank - low)

    def _at(self, rank: int) -> float:
        if rank >= self.count - 1:
            return self.max
        seen = 0
        for number in sorted(self._counts):
            seen += self._counts[number]
            if seen > rank:
                # The middle of (gamma^(n-1), gamma^n] in relative error.
                middle = _LEAST_MS * 2 * _GAMMA**number / (_GAMMA + 1) if number else 0.0
                return min(middle, self.max)
        return self.max

    def merge(self, other: LatencyStats) -> None:
        """Add another one's measurements."""
        for number, count in other._counts.items():
            self._counts[number] = self._counts.get(number, 0) + count
        self.count += other.count
        self._sum += other._sum
        self.max = max(self.max, other.max)

    def latency(self) -> Latency:
        """p50, p90, p99 and maximum as the summary holds them."""
        return Latency(self.percentile(50), self.percentile(90), self.percentile(99), self.max)


class RateMeter:
    """Events per second over the last ``window_s`` seconds of the monotonic clock.

    At most 256 times are kept: above 256 events per window the window is shorter.
    """

    def __init__(self, window_s: float = 3.0) -> None:
        self._window_s = window_s
        self._times: deque[float] = deque(maxlen=256)
        self.count = 0

    def tick(self, now_s: float | None = None) -> None:
        """One event, now unless told otherwise."""
        self._times.append(time.monotonic() if now_s is None else now_s)
        self.count += 1

    @property
    def per_second(self) -> float:
        """Events per second up to now; falls when no more come."""
        return self.rate(time.monotonic())

    def rate(self, now_s: float) -> float:
        """Events per second up to ``now_s``; 0 before the second event and when none came in the window."""
        while len(self._times) > 1 and self._times[0] < now_s - self._window_s:
            self._times.popleft()
        if len(self._times) < 2 or self._times[-1] < now_s - self._window_s:
            return 0.0
        span = self._times[-1] - self._times[0]
        # Between events the last interval counts as open only once it is longer than the usual one.
        usual = span / (len(self._times) - 1)
        span += max(0.0, now_s - self._times[-1] - usual)
        return (len(self._times) - 1) / span if span > 0 else 0.0


class Drops:
    """Counts of frames that were given up, by reason. At most 64 reasons; further ones count as ``other``."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, reason: str, count: int = 1) -> None:
        """``count`` frames dropped because of ``reason``."""
        if reason not in self._counts and len(self._counts) >= MAX_REASONS:
            reason = "other"
        self._counts[reason] = self._counts.get(reason, 0) + count

    @property
    def total(self) -> int:
        """All dropped frames."""
        return sum(self._counts.values())

    def as_dict(self) -> dict[str, int]:
        """Reason to count, sorted by reason."""
        return dict(sorted(self._counts.items()))
