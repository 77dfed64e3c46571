"""Capture time: from a container's time stamps to seconds that always rise."""

from __future__ import annotations

from collections import deque
from fractions import Fraction

_STUCK_S = 10.0  # a live source's time stamps may lag behind their arrival by this much before they are distrusted
_MEMORY_S = 30.0  # how long the smallest delay seen is remembered; drifting camera clocks are followed at this pace
_STEP_S = 1e-4


class FileClock:
    """Seconds from the first frame of a file.

    Frames without a time stamp follow the one before by the nominal interval. A stamp that does not rise is repaired:
    the first one is put half an interval after the frame before (so that the next good stamp still fits), further
    ones a whole interval. A jump back of more than a second (joined recordings) is a new origin: time goes on from
    there.

    Args:
        time_base: seconds per unit of a time stamp.
        nominal_s: nominal interval between frames.
    """

    def __init__(self, time_base: Fraction, nominal_s: float) -> None:
        self._time_base = time_base
        self._nominal_s = nominal_s
        self._origin: Fraction | None = None
        self._last: float | None = None
        self._repaired_last = False

    def stamp(self, pts: int | None) -> tuple[float, bool]:
        """(seconds, whether the stamp was repaired) of the next frame in order of presentation."""
        if pts is None:
            time_s = 0.0 if self._last is None else self._last + self._nominal_s
            if self._origin is None:
                self._origin = Fraction(0)
            self._last, self._repaired_last = time_s, False
            return time_s, False
        exact = pts * self._time_base
        if self._origin is None:
            self._origin = exact
        time_s = float(exact - self._origin)
        repaired = self._last is not None and time_s <= self._last
        if repaired and self._last is not None:
            step = self._nominal_s if self._repaired_last else self._nominal_s / 2
            if self._last - time_s > 1.0:
                step = self._nominal_s
                self._origin = exact - Fraction(self._last + step)
            time_s = self._last + step
        self._last, self._repaired_last = time_s, repaired
        return time_s, repaired

    def rewind(self) -> None:
        """Forget the last frame, keep the origin: after a seek."""
        self._last, self._repaired_last = None, False


class LiveClock:
    """Capture time of a live source in seconds from its first frame, on the monotonic clock.

    A frame was taken at its own stamp plus an unknown delay to our clock; the smallest delay seen lately is the one
    without queueing, as in NTP. Stamps that stand still, run backwards or lag by more than ten seconds are not sane:
    then the frame was taken when it arrived.
    """

    def __init__(self) -> None:
        self._origin: float | None = None
        self._last = -1.0
        self._last_pts: float | None = None
        self._delays: deque[tuple[float, float]] = deque()

    def restart(self) -> None:
        """A new connection: its stamps have nothing to do with the old ones; time goes on."""
        self._last_pts = None
        self._delays.clear()

    def stamp(self, pts_s: float | None, arrival_s: float) -> float:
        """Seconds of a frame with stamp ``pts_s`` (or none) that arrived at ``arrival_s`` on the monotonic clock."""
        if self._origin is None:
            self._origin = arrival_s
        capture_s = arrival_s
        if pts_s is not None and (self._last_pts is None or pts_s > self._last_pts):
            delay = arrival_s - pts_s
            # Drops below what is known at once; grows only as old minima are forgotten. The deque is a sliding-window
            # minimum: rising delays with rising times, so it is as short as the delays are noisy.
            while self._delays and self._delays[0][0] < arrival_s - _MEMORY_S:
                self._delays.popleft()
            if self._delays and delay > self._delays[0][1] + _STUCK_S:
                self._delays.clear()
            while self._delays and self._delays[-1][1] >= delay:
                self._delays.pop()
            if len(self._delays) >= 4096:  # faster than any camera; keeps memory bounded whatever comes
                self._delays.pop()
            self._delays.append((arrival_s, delay))
            capture_s = min(pts_s + self._delays[0][1], arrival_s)
        self._last_pts = pts_s
        self._last = max(capture_s - self._origin, self._last + _STEP_S, 0.0)
        return self._last
