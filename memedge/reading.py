"""Reading: what memedge says of one frame. One JSON line each, with exactly these names."""

from __future__ import annotations

from typing import Any

import msgspec

LARGEST_LISTED_OUTPUT = 256
"""Values of one output that readings hold as a list, and JSON Lines write."""


class TargetReading(msgspec.Struct, frozen=True):
    """One target's values. ``score`` is this frame's, 0..1, or none; ``rolling`` covers (t - window, t];
    ``percentile`` 0..100 on the manifest's reference set, or none."""

    score: float | None
    rolling: float | None
    percentile: float | None


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One frame's reading.

    Attributes:
        time_s: capture time in seconds; in a file counted from its first frame.
        wall_time: ISO 8601 with offset for live sources, else none.
        source, bundle: labels; credentials are never part of them.
        frame_index: number of the frame in its source, from 0.
        score, rolling, percentile: the primary target's.
        targets: every target by name.
        coverage: fraction of the window that scored frames cover, 0..1.
        complete: whether the window is full and every node had its whole input.
        staleness_s: age of the newest scored frame at ``time_s``.
        latency_ms: from the frame's arrival to this reading.
        engine, precision: what scored it.
        flags: ``black``, ``frozen``, ``repeated``, ``static``, ``untrained``, ``not_due``, ``dropped`` ... sorted.
        outputs: further outputs of the bundle by name (``node.output``, ``score_at_600s``): numbers and lists;
            attention maps of more than 256 values as float32 arrays, which JSON Lines leave out.
    """

    time_s: float
    source: str
    bundle: str
    frame_index: int
    wall_time: str | None = None
    score: float | None = None
    rolling: float | None = None
    percentile: float | None = None
    targets: dict[str, TargetReading] = {}
    coverage: float = 0.0
    complete: bool = False
    staleness_s: float | None = None
    latency_ms: float = 0.0
    engine: str = ""
    precision: str = ""
    flags: tuple[str, ...] = ()
    outputs: dict[str, Any] = {}


def to_json(reading: Reading) -> bytes:
    """One line of UTF-8 JSON without the line break."""
    return msgspec.json.encode(reading)
