"""Ticks: which frame belongs to "one every ``period_s`` seconds" in capture time.

The frame of tick k is the one nearest to ``origin + k * period``: the first whose middle (capture time plus half the
interval to the next frame) lies past the tick. For video of constant rate f this is exactly frame ``round(t * f)``, the
published presets' rule, including Python's rounding of halves to even.
"""

from __future__ import annotations

import math

from .errors import ExecutorError

TIE_S = 1e-9


def tick_of(pts_s: float, duration_s: float, index: int, period_s: float, origin_s: float = 0.0) -> int:
    """The latest tick that this frame reaches, or -1 when it lies before tick 0.

    A frame may reach several ticks at once (a slow source): the caller compares with the tick reached before.

    Args:
        pts_s: capture time of the frame in seconds.
        duration_s: seconds until the next frame; 0 when unknown, then a tick belongs to the first frame at or after it.
        index: number of the frame in its source; decides a tie (the middle falls on the tick): an even one takes it,
            an odd one leaves it to the next frame.
        period_s: seconds between ticks, more than 0.
        origin_s: capture time of tick 0.

    Raises:
        ExecutorError: a period that is not a positive number, or a time that is not finite.
    """
    if not (math.isfinite(period_s) and period_s > 0):
        raise ExecutorError(f"period {period_s} s; expected more than 0")
    half = duration_s / 2 if duration_s > 0 else 0.0
    middle = pts_s + half - origin_s
    if not math.isfinite(middle):
        raise ExecutorError(f"frame {index}: time {pts_s} s, interval {duration_s} s; expected finite numbers")
    # The tolerance grows with the clock, whose own resolution falls below a nanosecond after some weeks.
    tie = TIE_S + 4 * math.ulp(max(abs(middle), abs(pts_s)))
    nearest = round(middle / period_s)
    if abs(nearest * period_s - middle) <= tie:
        taken = half == 0.0 or index % 2 == 0
        return max(nearest if taken else nearest - 1, -1)
    return max(math.floor(middle / period_s), -1)
