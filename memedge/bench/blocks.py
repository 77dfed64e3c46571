"""One combination measured over one stretch of frames: frame by frame, overlapped, or at a live source's own pace."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from memedge_engines import golden
from memedge_engines.frame import Frame
from memedge_engines.timing import Contestant

from ..content import ContentWatch
from ..errors import SourceError
from ..lane import Lane, LaneOptions
from ..loop import Loop
from ..mailbox import Reader
from ..reading import Reading
from ..scorer import Scorer
from ..sinks.base import Sink, SinkContext
from ..sinks.jsonl import JsonlSink
from ..sources.base import Source, SourceInfo
from .feeds import MOST_SAMPLES, Looped, end

_TAKE_S = 0.2
# A live source that delivers nothing for this long has ended for a measurement.
_SILENCE_S = 20.0


@dataclass
class Samples:
    """Milliseconds of one combination, stage by stage, bounded."""

    stages: dict[str, array[float]] = field(default_factory=dict)
    end_to_end: array[float] = field(default_factory=lambda: array("d"))
    age: array[float] = field(default_factory=lambda: array("d"))
    cpu_s: float = 0.0
    warmup: int = 0

    def add(self, **stages: float | None) -> None:
        """Milliseconds of one frame's stages; none for one that was not measured."""
        if len(self.end_to_end) >= MOST_SAMPLES:
            return
        for name, value in stages.items():
            if value is not None:
                self.stages.setdefault(name, array("d")).append(value)

    @property
    def count(self) -> int:
        """Frames counted."""
        return len(self.end_to_end)


@dataclass
class Stretch:
    """A stretch of overlapped frames: how many, in how many seconds, for how much processor time."""

    frames: int
    wall_s: float
    cpu_s: float
    repeated: int = 0
    dropped: int = 0
    delivered: int = 0
    infer_ms: array[float] = field(default_factory=lambda: array("d"))


class Measurer:
    """Measures one opened combination; the same source kind in every call.

    Args:
        scorer: on the engine and lowering in question.
        label: what its readings call the bundle.
        folder: where the JSON Lines of the sinks stage are written, and thrown away by the caller.
    """

    def __init__(self, scorer: Scorer, label: str, folder: Path) -> None:
        self.scorer = scorer
        self.label = label
        self._folder = folder
        self.node_ms: dict[str, list[float]] = {}
        """Graph node to milliseconds of one run, by :meth:`engine_alone`."""

    def _sink(self, info: SourceInfo, lane: Lane | None = None) -> Sink:
        """A JSON Lines file that every reading is written to, as by ``--jsonl``; overwritten by the next stretch."""
        sink = JsonlSink(str(self._folder / "readings.jsonl"))
        if lane is not None:
            primary = self.scorer.manifest.primary
            context = SinkContext(info, (self.label,), {self.label: primary.name}, window_s=primary.window_s)
            sink.start(context)
        return sink

    def frame_by_frame(self, source: Source, count: int, warmup: int, samples: Samples) -> float:
        """Score ``count`` frames after ``warmup`` uncounted ones, each from decoding to its written reading before
        the next begins; adds to ``samples``. Returns the median inference in milliseconds.

        Every frame is inferred, also one that repeats the one before.
        """
        info = source.open()
        looped = source if isinstance(source, Looped) else None
        infer = array("d")
        with ExitStack() as stack:
            stack.callback(source.close)
            lane = Lane(self.scorer, self.label, info.label, False, LaneOptions())
            stack.callback(lane.close)
            sink = self._sink(info, lane)
            stack.callback(sink.close)
            watch = ContentWatch(None)
            stack.callback(watch.close)
            frames = source.frames()
            stack.callback(end, frames)
            for number in range(warmup + count):
                cpu = time.process_time()
                begin = time.perf_counter()
                frame = next(frames, None)
                if frame is None:
                    raise SourceError(f"'{info.label}' ended after {number} of {warmup + count} frames")
                decoded = time.perf_counter()
                stages = self._score(frame, lane, sink, watch, info)
                done = time.perf_counter()
                spent = time.process_time() - cpu
                if number < warmup or (looped is not None and looped.last_ms is None and count > 1):
                    samples.warmup += 1
                    continue
                decode = (decoded - begin) * 1e3 if looped is not None else None
                total = (done - (decoded if decode is None else begin)) * 1e3
                stages["queue"] = max(0.0, total - (decode or 0.0) - sum(stages.values()))
                samples.add(decode=decode, **stages)
                samples.end_to_end.append(total)
                samples.cpu_s += spent
                if "infer" in stages:
                    infer.append(stages["infer"])
        return median(infer)

    def _score(self, frame: Frame, lane: Lane, sink: Sink, watch: ContentWatch, info: SourceInfo) -> dict[str, float]:
        """Score one frame, write its reading, release it; milliseconds of its stages but decode and queue."""
        try:
            begin = time.perf_counter()
            content = watch.look(frame)
            looked = time.perf_counter()
            pending = lane.offer(frame, content.flags, False)
            stages: dict[str, float] = {}
            if pending.ticket is not None:
                outputs = pending.ticket.result()[0]
                stages = {"preprocess": outputs.preprocess_ms, "infer": outputs.infer_ms}
            scored = time.perf_counter()
            reading = lane.finish_frame(pending)
            rolled = time.perf_counter()
            sink.write(reading, None, {"fps": 0.0, "stages": lane.stats, "drops": {}, "seen": lane.seen})
            written = time.perf_counter()
        finally:
            frame.release()
        stages["rolling"] = (looked - begin + rolled - scored) * 1e3
        stages["sinks"] = (written - rolled) * 1e3
        return stages

    def overlapped(self, source: Source, count: int, warmup: int) -> Stretch:
        """Score ``count`` frames in the loop of ``memedge run``, after ``warmup`` uncounted ones."""
        sink = self._sink_for_loop()
        repeated = 0
        try:
            readings = Loop(source, {self.label: self.scorer}, [sink]).readings()
            try:
                for _ in _exactly(readings, warmup, self.label):
                    pass
                cpu, begin = time.process_time(), time.perf_counter()
                for reading in _exactly(readings, count, self.label):
                    repeated += "repeated" in reading.flags
                wall, spent = time.perf_counter() - begin, time.process_time() - cpu
            finally:
                end(readings)  # type: ignore[arg-type]
        finally:
            sink.close()
        return Stretch(count, wall, spent, repeated)

    def _sink_for_loop(self) -> Sink:
        return JsonlSink(str(self._folder / "readings.jsonl"))

    def engine_alone(self, count: int) -> float:
        """Processor milliseconds of the process for one inference of all graph nodes, over ``count`` of them; adds to
        ``node_ms``."""
        frames = golden.read(self.scorer.bundle)
        contestant = Contestant(
            self.scorer.bundle, frames, self.scorer.choice.candidate.lowering, self.scorer.choice.engines
        )
        contestant.run(timed=False)
        cpu = time.process_time()
        for _ in range(count):
            contestant.run(timed=True)
        for name, seconds in contestant.node_seconds.items():
            kept = self.node_ms.setdefault(name, [])
            kept.extend(1e3 * second for second in seconds[: MOST_SAMPLES - len(kept)])
        return (time.process_time() - cpu) * 1e3 / count

    def paced(self, source: Source, seconds: float, warmup: int, samples: Samples) -> Stretch:
        """Score a live source for ``seconds`` at its own pace, newest frame first, as ``memedge run`` does.

        Raises:
            SourceError: it delivers nothing for 20 seconds.
        """
        info = source.open()
        with ExitStack() as stack:
            lane = Lane(self.scorer, self.label, info.label, True, LaneOptions())
            stack.callback(lane.close)
            sink = self._sink(info, lane)
            stack.callback(sink.close)
            watch = ContentWatch(None)
            stack.callback(watch.close)
            reader = Reader(source, True)
            stack.callback(reader.stop)
            stretch, started, seen, dropped, number = Stretch(0, 0.0, 0.0), 0.0, 0, 0, 0
            cpu = time.process_time()
            silent_since = time.monotonic()
            while number <= warmup or time.perf_counter() - started < seconds:
                if number == warmup and not started:
                    cpu, started, seen, dropped = time.process_time(), time.perf_counter(), reader.seen, reader.dropped
                frame = reader.take(_TAKE_S)
                if frame is None:
                    if reader.ended or time.monotonic() - silent_since > _SILENCE_S:
                        break
                    continue
                silent_since = time.monotonic()
                number += 1
                arrival = frame.arrival_ns
                stages = self._score(frame, lane, sink, watch, info)
                total = (time.monotonic_ns() - arrival) / 1e6
                if number <= warmup:
                    samples.warmup += 1
                    continue
                stages["queue"] = max(0.0, total - sum(stages.values()))
                samples.add(**stages)
                samples.end_to_end.append(total)
                samples.age.append(total - stages["sinks"])
                stretch.frames += 1
                if "infer" in stages and len(stretch.infer_ms) < MOST_SAMPLES:
                    stretch.infer_ms.append(stages["infer"])
            stretch.wall_s = time.perf_counter() - started if started else 0.0
            stretch.cpu_s = time.process_time() - cpu
            samples.cpu_s += stretch.cpu_s
            stretch.delivered, stretch.dropped = reader.seen - seen, reader.dropped - dropped
        if not stretch.frames:
            raise SourceError(f"'{info.label}' delivered too few frames to measure; {number} were scored")
        return stretch


def decode_alone(source: Source, count: int, warmup: int) -> tuple[float, float]:
    """Decode ``count`` frames and nothing else, after ``warmup`` uncounted ones: milliseconds and processor ms
    a frame. The decoder's own threads work ahead, so single frames say nothing."""
    source.open()
    frames = source.frames()
    cpu = begin = 0.0
    try:
        for number in range(warmup + count):
            if number == warmup:
                cpu, begin = time.process_time(), time.perf_counter()
            next(frames).release()
        return (time.perf_counter() - begin) * 1e3 / count, (time.process_time() - cpu) * 1e3 / count
    finally:
        end(frames)
        source.close()


def _exactly(readings: Iterator[Reading], count: int, what: str) -> Iterator[Reading]:
    """The next ``count`` readings; SourceError when there are fewer."""
    for number in range(count):
        reading = next(readings, None)
        if reading is None:
            raise SourceError(f"{what}: the source ended after {number} of {count} frames")
        yield reading


def median(values: Sequence[float]) -> float:
    """The median, 0 of nothing."""
    ranked = sorted(values)
    if not ranked:
        return 0.0
    middle = len(ranked) // 2
    return ranked[middle] if len(ranked) % 2 else (ranked[middle - 1] + ranked[middle]) / 2
