"""Choosing frames: how many for each purpose, which part is held out, and an even spread over names or scores."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from memedge.errors import UsageError

from ..errors import DataError
from .calib_reading import FIX, LEAST_CALIBRATE, LEAST_GATE

T = TypeVar("T")

_RUNS = 10
_RESERVE_SHARE = 0.25


def check_counts(count: int, gate: int) -> None:
    """Refuse numbers of frames that cannot be meant.

    Raises:
        UsageError: fewer than 32 calibration frames, or fewer than 8 for the gate.
    """
    if count < LEAST_CALIBRATE:
        raise UsageError(f"--calib-frames {count}; expected at least {LEAST_CALIBRATE}")
    if gate < LEAST_GATE:
        raise UsageError(f"{gate} frames for the fidelity gate; expected at least {LEAST_GATE}")


def shares(available: int, count: int, gate: int, what: str) -> tuple[int, int]:
    """(calibration, gate) frames out of ``available``, held apart.

    Where there are too few for both, the gate gets its full number as long as 32 stay for calibration: without it no
    lowering can pass.

    Raises:
        DataError: fewer than 40.
    """
    least = LEAST_CALIBRATE + LEAST_GATE
    if available < least:
        raise DataError(
            f"--calib: {what} gives {available} frames; expected at least {least}: {LEAST_CALIBRATE} (--calib-frames)"
            f" to calibrate and {LEAST_GATE} for the fidelity gate",
            fix=FIX,
        )
    if available >= count + gate:
        return count, gate
    part = round(available * gate / (count + gate))
    held = gate if available >= gate + LEAST_CALIBRATE else max(LEAST_GATE, min(part, available - LEAST_CALIBRATE))
    return min(count, available - held), held


def hold_out(ordered: Sequence[T], share: float) -> tuple[list[T], list[T]]:
    """(calibration pool, gate pool) of things in their order: ten runs of neighbours for each, taking turns.

    Pictures with neighbouring names are often of one scene, so that single ones would not be held out truly.
    """
    total = len(ordered)
    held = min(total - 1, max(1, round(share * total)))
    rest = total - held
    pools: tuple[list[T], list[T]] = ([], [])
    begin = 0
    for run in range(_RUNS):
        for pool, size in zip(pools, (rest, held), strict=True):
            end = begin + (run + 1) * size // _RUNS - run * size // _RUNS
            pool.extend(ordered[begin:end])
            begin = end
    return pools


def spread(ordered: Sequence[T], count: int, dice: random.Random) -> list[T]:
    """``count`` of the things, one at random out of each of ``count`` equal parts of their order, then reserves.

    The chosen ones come in random order, so that the first of them already stand for all; with ``count`` or fewer
    things all of them are chosen. Reserves, up to a quarter as many, replace what turns out to be damaged.
    """
    total = len(ordered)
    if total <= count:
        chosen = list(range(total))
    else:
        chosen = [
            dice.randrange(part * total // count, max((part + 1) * total // count, part * total // count + 1))
            for part in range(count)
        ]
    taken = set(chosen)
    rest = [index for index in range(total) if index not in taken]
    dice.shuffle(chosen)
    reserve = dice.sample(rest, min(len(rest), max(8, int(_RESERVE_SHARE * count))))
    return [ordered[index] for index in (*chosen, *reserve)]
