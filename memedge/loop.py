"""The loop: source -> mailbox -> executor -> rolling -> sinks.

One decode serves every bundle. Files lose nothing and are pipelined by one frame (sinks work on frame n while the
engine works on n+1); a live source is scored newest frame first, one at a time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from memedge_engines.frame import Frame

from .content import ContentWatch
from .decay import check_delay
from .distinctiveness import check_distinctiveness
from .errors import MemedgeError, SourceError, SourceLost, UsageError
from .lane import Lane, LaneOptions, Pending
from .mailbox import Reader
from .reading import Reading
from .scorer import Scorer
from .sinks.base import Picture, Sink, SinkContext, Summary
from .sources.base import Source, SourceInfo
from .stats import RateMeter
from .titles import caller_values, check_title

_POLL_S = 0.2


@dataclass(frozen=True)
class LoopOptions:
    """How a source is run.

    Attributes:
        lane: scoring options, for every bundle.
        frozen_after_s: bit-identical live frames for this long raise the flag ``frozen``.
        max_seconds: stop after this much capture time, or none.
        caller: values of caller inputs, for every bundle; text under ``title``, for those that take one.
    """

    lane: LaneOptions = field(default_factory=LaneOptions)
    frozen_after_s: float = 10.0
    max_seconds: float | None = None
    caller: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (
            ("window", self.lane.window_s),
            ("rate", self.lane.rate_hz),
            ("max-seconds", self.max_seconds),
            ("frozen-after", self.frozen_after_s),
        ):
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"--{name} {value:g}; expected more than 0")


class Loop:
    """Runs one source through one or several bundles into any number of sinks.

    Args:
        source: not yet opened; the loop opens and closes it.
        scorers: label to opened scorer; the loop does not close them.
        sinks: started, fed and finished here; closed by whoever made them, so that several sources can share them.
        between: called between frames with the number of frames so far, for engine swaps and progress.

    Raises:
        UsageError, BundleError: no bundles; a title that none of them takes, or that one cannot read; a delay that none
            of them has a score of.

    Attributes:
        summaries: bundle label to summary, complete once the loop has ended.
    """

    def __init__(
        self,
        source: Source,
        scorers: Mapping[str, Scorer],
        sinks: Sequence[Sink] = (),
        options: LoopOptions | None = None,
        between: Callable[[int], None] | None = None,
    ) -> None:
        if not scorers:
            raise UsageError("no bundle to score with; expected at least one")
        self._source = source
        self._scorers = dict(scorers)
        self._sinks = list(sinks)
        self._options = options or LoopOptions()
        caller = self._options.caller
        manifests = [scorer.manifest for scorer in scorers.values()]
        check_title(manifests, caller)
        check_delay(manifests, self._options.lane.delay_s)
        check_distinctiveness(manifests, self._options.lane.memory_s)
        self._caller = {label: caller_values(scorer.bundle, caller) for label, scorer in scorers.items()}
        self._between = between
        self._stop = threading.Event()
        self._opening = True
        self._ended = "end"
        self._reader: Reader | None = None
        self._lanes: list[Lane] = []
        self._started: list[Sink] = []
        self._duration_s = 0.0
        self.info: SourceInfo | None = None
        self.summaries: dict[str, Summary] = {}

    def stop(self, reason: str = "signal") -> None:
        """End after the frame at hand, or give up a connection that does not answer.

        Callable from a signal handler or another thread.
        """
        self._ended = reason
        self._stop.set()
        if self._opening:
            # In a thread: a signal handler must not wait for locks that the interrupted code may hold.
            threading.Thread(target=self._source.close, name="memedge-stop", daemon=True).start()

    def run(self) -> dict[str, Summary]:
        """Run to the end; the summaries by bundle label."""
        for _ in self.readings():
            pass
        return self.summaries

    def readings(self) -> Iterator[Reading]:
        """Yield every reading after the sinks have it. Closing the iterator ends the loop and closes the source.

        Raises:
            SourceError: the source cannot be opened, or fails before it delivers anything.
            SinkError: an output cannot be written; every other output is finished first.
        """
        try:
            info = self._source.open()
        except SourceError:
            if self._stop.is_set():  # stopped while it connected: there is nothing to tell
                return
            raise
        self._opening = False
        self.info = info
        failed = False
        try:
            self._open_lanes(info)
            self._start_sinks(info)
            self._reader = Reader(self._source, info.live)
            yield from self._drain(info, self._reader)
        except GeneratorExit:
            self._ended = "stopped"
            raise
        except BaseException as error:
            self._ended = "lost" if isinstance(error, SourceLost) else "failed"
            failed = True
            raise
        finally:
            if self._reader is not None:
                self._reader.stop()
            self._source.close()
            try:
                self._finish(failed)
            finally:
                for lane in self._lanes:
                    lane.close()

    def _open_lanes(self, info: SourceInfo) -> None:
        for label, scorer in self._scorers.items():
            lane = Lane(scorer, label, info.label, info.live, self._options.lane, info.frames, self._caller[label])
            self._lanes.append(lane)

    def _start_sinks(self, info: SourceInfo) -> None:
        context = SinkContext(
            source=info,
            bundles=tuple(lane.label for lane in self._lanes),
            primary={lane.label: lane.primary.target.name for lane in self._lanes},
            untrained=frozenset(lane.label for lane in self._lanes if lane.scorer.manifest.untrained),
            window_s=self._lanes[0].primary.rolling.window_s,
            shown={lane.label: lane.shown for lane in self._lanes},
        )
        for sink in self._sinks:
            sink.start(context)
            self._started.append(sink)

    def _drain(self, info: SourceInfo, reader: Reader) -> Iterator[Reading]:
        watch = ContentWatch(self._options.frozen_after_s if info.live else None)
        meter = RateMeter()
        first: float | None = None
        waiting: list[Pending] = []
        count = 0
        try:
            while not self._stop.is_set():
                try:
                    frame = reader.take(_POLL_S)
                except MemedgeError:
                    yield from self._complete(waiting, meter, reader)
                    raise
                if frame is None:
                    if reader.ended:
                        waiting = [lane.offer_last(p) for lane, p in zip(self._lanes, waiting, strict=bool(waiting))]
                        break
                    continue
                first = frame.pts_s if first is None else first
                limit = self._options.max_seconds
                if limit is not None and frame.pts_s - first >= limit:
                    frame.release()
                    self._ended = "limit"
                    break
                count += 1
                content = watch.look(frame)
                submitted = self._offer(frame, content.flags, content.identical)
                if reader.decode_ms is not None:
                    for lane in self._lanes:
                        lane.stats["decode"].add(reader.decode_ms)
                previous, waiting = waiting, submitted
                if info.live:
                    previous, waiting = submitted, []
                yield from self._complete(previous, meter, reader)
                if self._between is not None:
                    self._between(count)
            yield from self._complete(waiting, meter, reader)
            waiting = []
        finally:
            if waiting:
                self._settle(waiting)
                waiting[0].frame.release()
            watch.close()

    def _offer(self, frame: Frame, flags: tuple[str, ...], identical: bool) -> list[Pending]:
        submitted: list[Pending] = []
        try:
            for lane in self._lanes:
                submitted.append(lane.offer(frame, flags, identical))
        except BaseException:
            self._settle(submitted)
            frame.release()
            raise
        return submitted

    @staticmethod
    def _settle(waiting: Sequence[Pending]) -> None:
        """Let frames that nobody will read any more leave the executor, whatever became of them."""
        for pending in waiting:
            if pending.ticket is not None:
                pending.ticket.wait()

    def _complete(self, pendings: list[Pending], meter: RateMeter, reader: Reader) -> Iterator[Reading]:
        """Readings of one frame, one per lane; the frame is released afterwards."""
        if not pendings:
            return
        frame = pendings[0].frame
        try:
            readings = [lane.finish_frame(pending) for lane, pending in zip(self._lanes, pendings, strict=True)]
            self._duration_s = max(self._duration_s, frame.pts_s + frame.duration_s)
            self._write(readings, frame, meter, reader)
        finally:
            frame.release()
            pendings.clear()
        yield from readings

    def _write(self, readings: Sequence[Reading], frame: Frame, meter: RateMeter, reader: Reader) -> None:
        begin = time.perf_counter()
        meter.tick()
        picture = Picture(frame) if any(sink.needs_pictures for sink in self._sinks) else None
        for lane, reading in zip(self._lanes, readings, strict=True):
            stats = self._live_stats(lane, meter, reader) if self._sinks else {}
            for sink in self._sinks:
                sink.write(reading, picture if sink.needs_pictures else None, stats)
        spent = (time.perf_counter() - begin) * 1e3
        for lane in self._lanes:
            lane.stats["sinks"].add(spent)

    def _live_stats(self, lane: Lane, meter: RateMeter, reader: Reader) -> dict[str, Any]:
        """What live views show; ``stages`` is the lane's own statistics, read only when a view draws."""
        return {"fps": meter.per_second, "stages": lane.stats, "drops": self._drops(reader), "seen": reader.seen}

    def _drops(self, reader: Reader) -> dict[str, int]:
        """``busy``: the engine had a newer frame to score; ``overrun``: the source itself could not hand it over."""
        return {"busy": reader.dropped, "overrun": self._source.dropped}

    def _finish(self, failed: bool) -> None:
        counts = {} if self._reader is None else self._drops(self._reader)
        drops = {reason: count for reason, count in counts.items() if count}
        error: BaseException | None = None
        for lane in self._lanes:
            summary = lane.summary(drops, self._duration_s, self._ended)
            self.summaries[lane.label] = summary
            for sink in self._started:
                try:
                    sink.finish(summary)
                except Exception as failure:  # every other output is finished first
                    error = error or failure
        if error is not None and not failed:
            raise error
