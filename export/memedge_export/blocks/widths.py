"""Channels of narrower copies of published networks, for tests and small devices."""

from __future__ import annotations

_LEAST = 8


def scaled(channels: int, width: float, multiple: int = 1) -> int:
    """``channels`` times ``width``, at least 8, rounded to a multiple (of the groups of a grouped convolution)."""
    return max(_LEAST, round(channels * width / multiple) * multiple)
