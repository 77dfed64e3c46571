"""Which frames are scored, and the score of a whole video by the published sampling presets.

The presets are those of the papers: S7 one frame a second, S28 four a second, S4 one every two seconds, K3 three key
frames, F1 the first frame. They run over the whole file from its first frame; rolling readings are another thing
(:mod:`memedge.rolling`).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

from memedge_engines.errors import EngineError
from memedge_engines.ticks import tick_of

from .errors import UsageError

_PERIODS = {"S7": 1.0, "S28": 0.25, "S4": 2.0}
_EVERY = ("all", "HMP3", "C16", "C45")
_AGGREGATES = ("mean", "median", "exponential", "last")
# Ends of files are rounded to the container's clock: a tick this close before the end is the end itself.
_END_S = 1e-3
_EXACT_PICKS = 65_536
_BINS = 65_536
KEPT_SCORES = 1 << 20


def sampling_period(sampling: str) -> float | None:
    """Seconds between the frames of a preset (S7: 1, S28: 0.25, S4: 2), or none when it does not go by time."""
    return _PERIODS.get(sampling)


class Ticks:
    """One frame every ``period_s`` seconds of capture time, the nearest to each tick.

    Args:
        period_s: seconds between ticks.
        origin_s: capture time of tick 0.
    """

    def __init__(self, period_s: float, origin_s: float = 0.0) -> None:
        if not (math.isfinite(period_s) and period_s > 0):
            raise UsageError(f"period {period_s} s; expected more than 0")
        self.period_s = period_s
        self.origin_s = origin_s
        self._last = -1

    def reached(self, pts_s: float, duration_s: float, index: int) -> int:
        """How many ticks this frame is the nearest to; they are done. Mostly 0 or 1, more from a slow source."""
        tick = tick_of(pts_s, duration_s, index, self.period_s, self.origin_s)
        count = max(0, tick - self._last)
        self._last += count
        return count

    def due(self, pts_s: float, duration_s: float, index: int) -> bool:
        """Whether this frame is picked; its ticks are done."""
        return self.reached(pts_s, duration_s, index) > 0

    def peek(self, pts_s: float, duration_s: float, index: int) -> bool:
        """Whether this frame would be picked; changes nothing."""
        return tick_of(pts_s, duration_s, index, self.period_s, self.origin_s) > self._last

    def left(self, end_s: float) -> int:
        """Ticks before ``end_s`` that no frame reached; the end itself, up to a millisecond's rounding, is no tick."""
        reached = math.ceil((end_s - _END_S - self.origin_s) / self.period_s) - 1
        return max(0, reached - self._last)

    def state(self) -> tuple[float, float, int]:
        """Period, origin, last tick reached."""
        return (self.period_s, self.origin_s, self._last)

    def restore(self, state: Sequence[float]) -> None:
        """Take back what :meth:`state` gave."""
        self.period_s, self.origin_s, self._last = float(state[0]), float(state[1]), int(state[2])


class _Total:
    """Running aggregate of picked scores with weights, bounded.

    The mean is a compensated sum. The median is exact up to 65,536 picks (18 hours of S7) and within 1/131,072 beyond,
    from a histogram over 0..1.
    """

    def __init__(self, aggregate: str, tau_s: float) -> None:
        self._aggregate = aggregate
        self._tau_s = tau_s
        self.count = 0
        self._sum = self._carry = 0.0
        self._weight = 0.0
        self._time: float | None = None
        self._picks: array[float] | None = array("d") if aggregate == "median" else None
        self._bins: array[int] | None = None
        self._last: float | None = None

    def copy(self) -> _Total:
        other = _Total(self._aggregate, self._tau_s)
        other.__dict__.update(self.__dict__)
        other._picks = None if self._picks is None else self._picks[:]
        other._bins = None if self._bins is None else self._bins[:]
        return other

    def add(self, score: float, times: int, at_s: float) -> None:
        self.count += times
        self._last = score
        if self._aggregate == "exponential":
            fade = 1.0 if self._time is None else math.exp(-max(0.0, at_s - self._time) / self._tau_s)
            self._time = at_s
            self._sum = self._sum * fade + score * times
            self._weight = self._weight * fade + times
            return
        if self._aggregate == "median":
            self._add_to_median(score, times)
            return
        # Neumaier's sum: months of frames do not drift.
        value = score * times
        total = self._sum + value
        big, small = (self._sum, value) if abs(self._sum) >= abs(value) else (value, self._sum)
        self._carry += (big - total) + small
        self._sum = total

    def _add_to_median(self, score: float, times: int) -> None:
        if self._picks is not None:
            self._picks.extend([score] * min(times, _EXACT_PICKS + 1))
            if len(self._picks) <= _EXACT_PICKS:
                return
            picks, self._picks, self._bins = self._picks, None, array("q", bytes(8 * _BINS))
            for pick in picks:
                self._bins[_bin(pick)] += 1
        elif self._bins is not None:
            self._bins[_bin(score)] += times

    def value(self) -> float | None:
        if not self.count:
            return None
        if self._aggregate == "last":
            return self._last
        if self._aggregate == "exponential":
            return self._sum / self._weight
        if self._aggregate == "mean":
            return (self._sum + self._carry) / self.count
        if self._picks is not None:
            return median(self._picks)
        assert self._bins is not None
        total, seen = sum(self._bins), 0
        for number, count in enumerate(self._bins):
            seen += count
            if 2 * seen >= total:
                return (number + 0.5) / _BINS
        raise AssertionError("histogram without entries")


def _bin(score: float) -> int:
    return min(_BINS - 1, max(0, int(score * _BINS)))


def median(values: Sequence[float]) -> float:
    """Middle value, or the mean of the two middle ones, of at least one value."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


class VideoScore:
    """Score of a whole source by its published sampling and aggregation, in bounded memory.

    ``S7``, ``S28``, ``S4``: the frame nearest to each tick from the first frame on; ticks inside the file but after its
    last frame take the last frame (the index clipped to N - 1). ``K3``: frames 0, N//3, 2N//3. ``F1``: the first frame.
    ``all``, ``HMP3``, ``C16``, ``C45``: every score that the graph gives (its own periods pick the clips).

    K3 needs the number of frames, known for certain only at the end: scores of the later two thirds are kept, up to
    2**20 frames (12 hours at 24 a second); beyond that every second, fourth ... score is, and the nearest kept one
    counts.

    Args:
        sampling: preset of the target.
        aggregate: ``mean``, ``median``, ``exponential`` (weight falls to 1/e in a third of the window) or ``last``.
        frames: number of frames of the source where its header tells, so that :meth:`needs` asks for three only.
        window_s: rolling window of the target; sets the exponential's time constant only.

    Attributes:
        missed: ticks or frames of the preset that had no score; they are left out.
        exact: false when a K3 frame was not scored and its nearest scored neighbour stands in for it.
    """

    def __init__(
        self, sampling: str, aggregate: str = "mean", frames: int | None = None, window_s: float = 7.0
    ) -> None:
        if sampling not in (*_PERIODS, *_EVERY, "K3", "F1"):
            known = ", ".join((*_PERIODS, "K3", "F1", *_EVERY))
            raise UsageError(f"unknown sampling '{sampling}'; expected one of {known}")
        if aggregate not in _AGGREGATES:
            raise UsageError(f"unknown aggregation '{aggregate}'; expected one of {', '.join(_AGGREGATES)}")
        self.sampling = sampling
        self.missed = 0
        self.exact = True
        self._frames = frames if frames and frames > 0 else None
        self._total = _Total(aggregate, window_s / 3)
        self._aggregate, self._tau_s = aggregate, window_s / 3
        self._ticks: Ticks | None = None
        self._first: int | None = None
        self._newest: tuple[int, float, float | None] | None = None
        # K3: frame numbers (from the first frame), times and scores of what may still be a key frame.
        self._start: tuple[int, float, float] | None = None
        self._kept: tuple[array[int], array[float], array[float]] = (array("q"), array("d"), array("d"))
        self._stride = 1

    def needs(self, index: int, pts_s: float, duration_s: float) -> bool:
        """Whether the preset wants this frame scored, whatever rate the caller asked for; changes nothing."""
        if self.sampling in _PERIODS:
            ticks = self._ticks or Ticks(_PERIODS[self.sampling], pts_s)
            return ticks.peek(pts_s, duration_s, index) or self._ticks is None
        number = 0 if self._first is None else index - self._first
        if self.sampling == "F1":
            return number == 0
        if self.sampling == "K3" and self._frames is not None:
            return number in (0, self._frames // 3, 2 * self._frames // 3)
        return True

    def offer(self, index: int, pts_s: float, duration_s: float, score: float | None) -> None:
        """One frame in order of time; ``score`` none when it was not scored. Offer unscored frames, too: a tick
        whose own frame has no score is then missed, instead of taken by the next scored one.

        Raises:
            EngineError: a score that is not a finite number.
        """
        if score is not None and not math.isfinite(score):
            raise EngineError(f"frame {index}: score {score}; expected a finite number")
        if self._first is None:
            self._first = index
        self._newest = (index, pts_s, score)
        times = 1
        if self.sampling in _PERIODS:
            first = self._ticks is None
            if self._ticks is None:
                self._ticks = Ticks(_PERIODS[self.sampling], pts_s)
            times = self._ticks.reached(pts_s, duration_s, index)
            if first and not times:  # the first frame is nearest to tick 0 by definition
                self._ticks.restore((self._ticks.period_s, pts_s, 0))
                times = 1
        elif self.sampling == "K3":
            self._keep(index - self._first, pts_s, score)
            return
        elif self.sampling == "F1":
            times = int(index == self._first)
        if not times:
            return
        if score is None:
            self.missed += times if self.sampling in (*_PERIODS, "F1") else 0
        else:
            self._total.add(score, times, pts_s)

    def _keep(self, number: int, pts_s: float, score: float | None) -> None:
        if score is None:
            return
        if self._start is None:
            self._start = (number, pts_s, score)
        numbers, times, scores = self._kept
        if number % self._stride:
            return
        numbers.append(number)
        times.append(pts_s)
        scores.append(score)
        if len(numbers) < KEPT_SCORES:
            return
        # Frames before N//3 can no longer be the second key frame; then thin out.
        gone = next((i for i, n in enumerate(numbers) if n >= number // 3), 0)
        for column in self._kept:
            del column[:gone]
        if len(numbers) > KEPT_SCORES // 2:
            self._stride *= 2
            keep = [i for i, n in enumerate(numbers) if n % self._stride == 0]
            self._kept = (
                array("q", [numbers[i] for i in keep]),
                array("d", [times[i] for i in keep]),
                array("d", [scores[i] for i in keep]),
            )

    def finish(self, end_s: float) -> float | None:
        """The video's score, or none when nothing was scored. May be called at any time, and again.

        Args:
            end_s: end of the last frame in capture time.
        """
        if self.sampling == "K3":
            return self._key_frames()
        if self._ticks is None or self._newest is None:
            return self._total.value()
        left = self._ticks.left(end_s)
        _, pts_s, score = self._newest
        if not left or score is None:
            return self._total.value()
        total = self._total.copy()
        total.add(score, left, pts_s)
        return total.value()

    def _key_frames(self) -> float | None:
        if self._start is None or self._newest is None or self._first is None:
            return None
        count = self._newest[0] - self._first + 1
        total = _Total(self._aggregate, self._tau_s)
        self.exact = self._start[0] == 0
        total.add(self._start[2], 1, self._start[1])
        numbers, times, scores = self._kept
        for wanted in (count // 3, 2 * count // 3):
            best = min(range(len(numbers)), key=lambda i: (abs(numbers[i] - wanted), numbers[i]))
            self.exact = self.exact and numbers[best] == wanted
            total.add(scores[best], 1, times[best])
        return total.value()
