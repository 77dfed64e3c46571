"""Lane: one bundle scoring one source; its rolling scores, video score, moments and statistics."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from memedge_engines.executor import Outputs, Ticket
from memedge_engines.frame import Frame
from memedge_engines.manifest import Target

from .decay import DelayedScore
from .distinctiveness import LiveDistinctiveness
from .domain import DomainCheck
from .moments import Moments
from .reading import LARGEST_LISTED_OUTPUT, Reading, TargetReading
from .rolling import COMPLETE_COVERAGE, Rolling, percentile
from .sampling import VideoScore, sampling_period
from .scorer import Scorer, fresh_targets, needs_several
from .shown import shown_outputs
from .sinks.base import Latency, Moment, Summary
from .stats import LatencyStats
from .titles import title_flags

LARGEST_ATTENTION = 65_536
STAGES = ("decode", "preprocess", "infer", "queue", "rolling", "sinks", "total")


@dataclass(frozen=True)
class LaneOptions:
    """How a lane scores.

    Attributes:
        window_s: rolling window in seconds; none takes each target's own.
        aggregate: ``mean``, ``median`` or ``exponential``; none takes each target's own.
        rate_hz: at most this many frames a second are scored; none scores every frame.
        skip_flags: frames with one of these flags leave the rolling score.
        moments: number of memorable moments kept.
        moment_gap_s: moments are at least this far apart.
        delay_s: readings also hold the score at this delay, where the bundle gives its decay (:mod:`.decay`).
        memory_s: readings also hold how distinct the picture is from what the stream showed in about this many seconds
            (:mod:`.distinctiveness`); none: not wanted.
    """

    window_s: float | None = None
    aggregate: str | None = None
    rate_hz: float | None = None
    skip_flags: frozenset[str] = frozenset()
    moments: int = 5
    moment_gap_s: float = 2.0
    delay_s: float | None = None
    memory_s: float | None = None


@dataclass
class Pending:
    """A frame on its way through a lane: its ticket, or the reason why it is not scored."""

    frame: Frame
    flags: tuple[str, ...]
    ticket: Ticket | None = None
    reuse: bool = False
    reason: str = ""


@dataclass
class _Track:
    """One target of a lane."""

    target: Target
    rolling: Rolling
    video: VideoScore
    last: float | None = None
    complete: bool = False


class Lane:
    """One bundle on one source.

    Args:
        scorer: the opened bundle; its executor is shared by all lanes of that bundle.
        label: what readings call the bundle.
        source: what readings call the source.
        live: whether frames come from a live source.
        frames: number of frames of the source where known.
        caller: values of the bundle's caller inputs.
    """

    def __init__(
        self,
        scorer: Scorer,
        label: str,
        source: str,
        live: bool,
        options: LaneOptions,
        frames: int | None = None,
        caller: Mapping[str, Any] | None = None,
    ) -> None:
        self.scorer = scorer
        self.label = label
        self._source = source
        self._live = live
        self._options = options
        manifest = scorer.manifest
        self.tracks: dict[str, _Track] = {}
        for target in manifest.targets:
            rolling = Rolling(options.window_s or target.window_s, options.aggregate or target.aggregate)
            video = VideoScore(target.sampling, target.aggregate, frames, target.window_s)
            self.tracks[target.name] = _Track(target, rolling, video)
        self.primary = self.tracks[manifest.primary.name]
        self.moments = Moments(options.moments, options.moment_gap_s)
        self.stats = {stage: LatencyStats() for stage in STAGES}
        self.flags: Counter[str] = Counter()
        self.seen = self.scored = 0
        self._rolling_sum = 0.0
        self._rolling_count = 0
        # An identical frame may reuse its score where the score depends on that frame alone and every frame is scored.
        every_frame = options.rate_hz is None and all(node.period_s == 0 for node in manifest.nodes)
        self._may_reuse = every_frame and not needs_several(manifest)
        self._previous_scored = False
        self._unlisted = {target.source for target in manifest.targets} | {
            f"{node.name}.{output.name}"
            for node in manifest.nodes
            for output in node.outputs
            if output.role in ("embedding", "features")
        }
        self.shown = shown_outputs(manifest, options.delay_s, options.memory_s is not None)
        self._attention = {output.name for output in self.shown if output.role == "attention"}
        self._delayed = DelayedScore(manifest, options.delay_s)
        self.distinctiveness = LiveDistinctiveness(manifest, options.memory_s)
        self._untrained = manifest.untrained
        self._domain = DomainCheck(manifest)
        self._domain_flags: tuple[str, ...] = ()
        self._stream = f"{source}#{label}#{id(self)}"
        self._last_outputs: Outputs | None = None
        self._newest_scored_s: float | None = None
        self._title_flags = title_flags(manifest, caller or {})
        scorer.executor.open_stream(self._stream, caller, self._rates())
        self._open = True

    def _rates(self) -> tuple[float, ...]:
        if self._options.rate_hz is None:
            return ()
        rates = [1.0 / self._options.rate_hz]
        if not self._live:  # the video score needs its published samples, whatever the rate
            periods = (sampling_period(track.target.sampling) for track in self.tracks.values())
            rates += [period for period in periods if period is not None]
        return tuple(rates)

    def offer(self, frame: Frame, flags: tuple[str, ...], identical: bool) -> Pending:
        """Submit a frame if a node or window wants it. ``identical``: to the frame before, bit for bit."""
        if identical and self._may_reuse and self._previous_scored:
            return Pending(frame, flags, reuse=True)
        executor = self.scorer.executor
        self._previous_scored = executor.wants(self._stream, frame.pts_s, frame.duration_s, frame.index)
        if not self._previous_scored:
            return Pending(frame, flags, reason="not_due")
        return Pending(frame, flags, ticket=executor.submit([(self._stream, frame)]))

    def offer_last(self, pending: Pending) -> Pending:
        """A file has ended with this frame: published samples between it and the end of the file are its, too."""
        frame = pending.frame
        if self._live or self._options.rate_hz is None or pending.ticket is not None:
            return pending
        # There is no next frame to be nearer to them: half of twice the interval reaches all but the end itself.
        own_s, reach_s = frame.duration_s, 2 * frame.duration_s - 1e-6
        needed = any(t.video.needs(frame.index, frame.pts_s, reach_s) for t in self.tracks.values())
        if reach_s <= own_s or not needed:
            return pending
        executor = self.scorer.executor
        if not executor.wants(self._stream, frame.pts_s, reach_s, frame.index):
            return pending
        frame.duration_s = reach_s
        try:
            return Pending(frame, pending.flags, ticket=executor.submit([(self._stream, frame)]))
        finally:
            frame.duration_s = own_s

    def finish_frame(self, pending: Pending) -> Reading:
        """Wait for a frame's outputs and make its reading."""
        frame = pending.frame
        flags = set(pending.flags) | set(frame.flags)
        fresh: dict[str, tuple[float, bool]] = {}
        outputs: dict[str, Any] = {}
        if pending.ticket is not None:
            result = pending.ticket.result()[0]
            self._last_outputs = result
            flags.update(result.flags)
            self._domain_flags = self._domain.flags(result.values)
            for target, value, complete in fresh_targets(self.scorer.manifest, result):
                fresh[target.name] = (value, complete)
            outputs = self._extra(result) | self.distinctiveness.values(result.values, frame.pts_s)
            self.stats["preprocess"].add(result.preprocess_ms)
            self.stats["infer"].add(result.infer_ms)
            self.stats["queue"].add(result.queue_ms)
        elif pending.reuse:
            for name, track in self.tracks.items():
                if track.last is not None:
                    fresh[name] = (track.last, track.complete)
        if fresh:
            flags.update(self._domain_flags, self._title_flags)
        begin = time.perf_counter()
        self.seen += 1
        targets = {name: self._update(track, frame, flags, fresh.get(name)) for name, track in self.tracks.items()}
        primary = targets[self.primary.target.name]
        if primary.score is None:
            flags.add(pending.reason or "not_due")
        else:
            self.scored += 1
            self._newest_scored_s = frame.pts_s
            self.moments.offer(frame.pts_s, primary.score)
        if primary.rolling is not None:
            self._rolling_sum += primary.rolling
            self._rolling_count += 1
        if self._untrained:
            flags.add("untrained")
        self.flags.update(flags)
        rolling = self.primary.rolling
        coverage = rolling.coverage(frame.pts_s, frame.duration_s)
        latency_ms = (time.monotonic_ns() - frame.arrival_ns) / 1e6 if frame.arrival_ns else 0.0
        reading = Reading(
            time_s=round(frame.pts_s, 6),
            wall_time=wall_time(frame) if self._live else None,
            source=self._source,
            bundle=self.label,
            frame_index=frame.index,
            score=primary.score,
            rolling=primary.rolling,
            percentile=primary.percentile,
            targets=targets,
            coverage=coverage,
            complete=rolling.full(frame.pts_s) and coverage >= COMPLETE_COVERAGE and self.primary.complete,
            staleness_s=None if self._newest_scored_s is None else max(0.0, frame.pts_s - self._newest_scored_s),
            latency_ms=round(latency_ms, 3),
            engine=self._last_outputs.engine if self._last_outputs else self.scorer.engine,
            precision=self._last_outputs.precision if self._last_outputs else self.scorer.precision,
            flags=tuple(sorted(flags)),
            outputs=outputs,
        )
        self.stats["rolling"].add((time.perf_counter() - begin) * 1e3)
        self.stats["total"].add(latency_ms)
        return reading

    def _update(self, track: _Track, frame: Frame, flags: set[str], fresh: tuple[float, bool] | None) -> TargetReading:
        score = None
        if fresh is not None:
            score, track.complete = fresh
            track.last = score
        track.video.offer(frame.index, frame.pts_s, frame.duration_s, score)
        counted = score if not (flags & self._options.skip_flags) else None
        track.rolling.add(frame.pts_s, counted, frame.duration_s)
        rolling = track.rolling.value(frame.pts_s)
        quantiles = track.target.quantiles
        return TargetReading(score, rolling, None if rolling is None else percentile(quantiles, rolling))

    def _extra(self, result: Outputs) -> dict[str, Any]:
        """Outputs that are no target, as lists; embeddings, features and arrays above the limit are left out, but for
        attention maps, which stay arrays."""
        extra: dict[str, Any] = {}
        for name, array in result.values.items():
            if name not in self._unlisted and array.size <= LARGEST_LISTED_OUTPUT:
                extra[name] = np.round(np.asarray(array, np.float64), 6).tolist()
            elif name in self._attention and array.size <= LARGEST_ATTENTION:
                extra[name] = np.array(array, np.float32)
        return extra | self._delayed.values(result.values)

    def summary(self, drops: dict[str, int], duration_s: float, ended: str) -> Summary:
        """The summary of everything so far; ``duration_s``: end of the last frame."""
        return Summary(
            source=self._source,
            bundle=self.label,
            frames_seen=self.seen,
            frames_scored=self.scored,
            video_score={name: track.video.finish(duration_s) for name, track in self.tracks.items()},
            rolling_mean=self._rolling_sum / self._rolling_count if self._rolling_count else None,
            moments=[Moment(round(m.time_s, 6), m.score) for m in self.moments.best()],
            latency_ms={name: _latency(stats) for name, stats in self.stats.items() if stats.count},
            drops=drops,
            duration_s=round(duration_s, 6),
            ended=ended,
            untrained=self._untrained,
            flags=dict(sorted(self.flags.items())),
        )

    def close(self) -> None:
        """Close the stream; the scorer stays open."""
        if self._open:
            self._open = False
            self.scorer.executor.close_stream(self._stream)


def _latency(stats: LatencyStats) -> Latency:
    p50, p90, p99 = (round(stats.percentile(q), 3) for q in (50, 90, 99))
    return Latency(p50, p90, p99, round(stats.max, 3))


def wall_time(frame: Frame) -> str:
    """ISO 8601 time of the frame's arrival, with offset, to the millisecond."""
    age_s = (time.monotonic_ns() - frame.arrival_ns) / 1e9 if frame.arrival_ns else 0.0
    return datetime.fromtimestamp(time.time() - age_s).astimezone().isoformat(timespec="milliseconds")
