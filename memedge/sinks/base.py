"""The sink seam: something that takes readings, and where it asks for them the pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from memedge_engines.frame import Frame

from ..reading import Reading
from ..shown import ShownOutput
from ..sources.base import SourceInfo


class Moment(msgspec.Struct, frozen=True):
    """A memorable moment: time in seconds and the rolling-free frame score there."""

    time_s: float
    score: float


class Latency(msgspec.Struct, frozen=True):
    """Percentiles of one stage in milliseconds, from a bounded sample."""

    p50: float
    p90: float
    p99: float
    max: float


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The last JSON line of one source and one bundle.

    ``video_score``: each target by its published sampling and aggregation; ``latency_ms``: stage name to percentiles;
    ``drops``: reason to count; ``ended``: ``end``, ``signal``, ``limit``, ``lost``, ``failed``.
    """

    source: str
    bundle: str
    frames_seen: int
    frames_scored: int
    video_score: dict[str, float | None]
    rolling_mean: float | None
    moments: list[Moment]
    latency_ms: dict[str, Latency]
    drops: dict[str, int] = {}
    duration_s: float = 0.0
    ended: str = "end"
    untrained: bool = False
    flags: dict[str, int] = {}


@dataclass(frozen=True)
class SinkContext:
    """What a sink learns when a source starts.

    ``bundles``: labels of the bundles that score this source; ``primary``: name of each one's primary target;
    ``untrained``: labels of those whose weights were never trained; ``shown``: what is shown of each one's further
    outputs.
    """

    source: SourceInfo
    bundles: tuple[str, ...]
    primary: dict[str, str]
    untrained: frozenset[str] = frozenset()
    window_s: float = 7.0
    shown: Mapping[str, tuple[ShownOutput, ...]] = field(default_factory=dict)


@dataclass
class Picture:
    """The frame that a reading belongs to, converted at most once however many sinks ask.

    ``frame`` is valid only during the sink's ``write`` call.
    """

    frame: Frame
    _rgb: NDArray[np.uint8] | None = field(default=None, repr=False)

    def rgb(self) -> NDArray[np.uint8]:
        """The upright picture, RGB uint8 ``[height, width, 3]``; do not write into it."""
        if self._rgb is None:
            from memedge_engines.preprocess import to_rgb

            self._rgb = to_rgb(self.frame)
        return self._rgb


class Sink(ABC):
    """Takes readings of one or several sources, one source after the other.

    ``needs_pictures``: whether ``write`` gets a Picture for every decoded frame.
    """

    needs_pictures: bool = False

    @abstractmethod
    def start(self, context: SinkContext) -> None:
        """A source starts. Raises SinkError when the output cannot be opened."""

    @abstractmethod
    def write(self, reading: Reading, picture: Picture | None, stats: dict[str, Any]) -> None:
        """One reading, in order of time.

        ``stats``, for live views, every key optional: ``fps`` (frames per second), ``stages`` (stage name to a
        :class:`memedge.stats.LatencyStats`, milliseconds), ``drops`` (reason to count).

        With several bundles each frame brings one reading per bundle, in the order of ``SinkContext.bundles``, with the
        same Picture.

        Raises:
            SinkError: disk full, pipe closed; what was written before stays readable.
        """

    @abstractmethod
    def finish(self, summary: Summary) -> None:
        """A source ended for one bundle; called once per bundle."""

    @abstractmethod
    def close(self) -> None:
        """Close every file; safe to call twice and after an error."""
