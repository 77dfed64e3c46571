"""``bench``: every combination in interleaved rounds, so that drift of clocks and load hits all alike."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from memedge_engines.backends.base import EngineOptions
from memedge_engines.bundle import Bundle

from ..environment import Clocks, CpuTimes, clocks, cpu_times, environment
from ..errors import UsageError
from ..loading import open_bundle
from ..scorer import FixedScorer
from ..sources.base import SourceOptions
from . import child
from .blocks import Measurer, Samples, Stretch, decode_alone, median
from .combinations import Combination, opened, plan
from .feeds import MOST_SAMPLES, Feed, feed
from .report import SCHEMA, STAGES, BenchReport, Decoding, Histogram, Machine, Paced, Result, Settings, Spread
from .sentences import sentences, warnings

DEFAULT_SECONDS = 10.0
_START_FRAMES = 20
_ESTIMATE_FRAMES = 3
_FEWEST = 4
_DECODED_FRAMES = 30
_YARDSTICK = bytes(2 << 20)

Progress = Callable[[int, int, str], None]


@dataclass
class _Measured:
    """What one combination gathers over the rounds."""

    combination: Combination
    scorer: FixedScorer
    measurer: Measurer
    frame_ms: float = 0.0
    samples: Samples = field(default_factory=Samples)
    stretches: list[Stretch] = field(default_factory=list)
    infer_rounds: list[float] = field(default_factory=list)
    engine_cpu_ms: list[float] = field(default_factory=list)


@dataclass
class _Watch:
    """The machine over the whole measurement."""

    load_before: float | None
    times: CpuTimes | None
    wall: float
    own: float
    yardstick: list[float] = field(default_factory=list)
    clocks: list[Clocks] = field(default_factory=list)

    @classmethod
    def start(cls) -> _Watch:
        return cls(clocks().load, cpu_times(), time.perf_counter(), time.process_time())

    def tick(self) -> None:
        """The start of a round."""
        self.clocks.append(clocks())
        self.yardstick.append(round(yardstick_ms(), 4))

    def finish(self) -> Machine:
        after, wall = cpu_times(), time.perf_counter() - self.wall
        others = stolen = None
        if self.times is not None and after is not None and wall > 0:
            stole = after.stolen - self.times.stolen
            busy = after.busy - self.times.busy - stole - (time.process_time() - self.own)
            others = round(max(0.0, busy) / wall, 3)
            stolen = round(max(0.0, stole) / (wall * (os.cpu_count() or 1)), 4)
        return Machine(
            load_before=self.load_before,
            others_busy=others,
            stolen_share=stolen,
            yardstick_ms=self.yardstick,
            clocks=self.clocks,
        )


def yardstick_ms() -> float:
    """Milliseconds of one fixed piece of single-threaded arithmetic, the best of five: a clock to be read anywhere."""
    best = float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        hashlib.sha256(_YARDSTICK).digest()
        best = min(best, time.perf_counter() - begin)
    return best * 1e3


def bench(
    bundles: Sequence[str | os.PathLike[str] | Bundle] = (),
    source: str | None = None,
    engines: str | Sequence[str] = "auto",
    precisions: str | Sequence[str] = "auto",
    *,
    frames: int | None = None,
    seconds: float | None = None,
    warmup: int = 5,
    rounds: int = 5,
    threads: int = 0,
    bf16: bool = False,
    start: bool = True,
    source_options: SourceOptions | None = None,
    progress: Progress | None = None,
) -> BenchReport:
    """Measure bundles on this machine, stage by stage and end to end.

    Args:
        bundles: folders or opened bundles; none: the default bundle.
        source: a file, camera, stream or ``test://`` (paced as a live source); none: frames of the test pattern
            rendered beforehand, so that decoding is not included.
        engines: ``auto``, ``all``, or names.
        precisions: ``auto``, ``all`` (every lowering), or names.
        frames, seconds: how many frames to count, or how long to measure, for each combination; 10 seconds unless said.
        warmup: frames left out at the start of every stretch.
        rounds: how often each combination has its turn.
        threads: of the engines; 0: all cores.
        bf16: let OpenVINO compute in bfloat16.
        start: also run each combination in a process of its own, for start-up time and peak memory.
        source_options: how the source is opened.
        progress: called with (turns done, turns in all or 0 while that is not known, what is being done).

    Raises:
        UsageError: numbers out of range, contradictory arguments.
        BundleError, SourceError, EngineError: nothing that could be measured.
    """
    _check(frames, seconds, warmup, rounds, threads)
    found = [item if isinstance(item, Bundle) else open_bundle(item) for item in bundles] or [open_bundle(None)]
    fed = feed(source, source_options)
    before = environment()
    tell = _Teller(progress)
    planned = plan(found, engines, precisions, EngineOptions(threads=threads, bf16=bf16), tell.note)
    skipped = planned.skipped
    ready = opened(planned.combinations, skipped)
    tell.total = len(ready) * (rounds + 1 + int(start))
    decoded: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="memedge-bench-") as folder:
        measured = [_Measured(c, s, Measurer(s, c.name, Path(folder))) for c, s in ready]
        try:
            for one in measured:
                tell(f"{one.combination.label}: warm-up")
                _estimate(one, fed, warmup)
            watch = _Watch.start()
            for number in range(rounds):
                watch.tick()
                if fed.kind == "file":
                    decoded.append(decode_alone(fed.make(), _DECODED_FRAMES, warmup))
                turn = number % len(measured)
                for one in measured[turn:] + measured[:turn]:
                    tell(f"{one.combination.label}: round {number + 1} of {rounds}")
                    _round(one, fed, rounds, warmup, frames, seconds)
            machine = watch.finish()
        finally:
            for one in measured:
                one.scorer.close()
    decoding = None
    if decoded:
        wall_ms, cpu_ms = (round(median(column), 4) for column in zip(*decoded, strict=True))
        decoding = Decoding(wall_ms=wall_ms, cpu_ms=cpu_ms)
    results = []
    for one in measured:
        result = _result(one, fed, decoding)
        if start:
            tell(f"{one.combination.label}: start")
            result = _with_start(result, one.combination, source if fed.kind == "file" else None)
        results.append(result)
    settings = Settings(
        source=fed.info.label,
        kind=fed.kind,
        width=fed.info.width,
        height=fed.info.height,
        rounds=rounds,
        warmup=warmup,
        frames=frames,
        seconds=seconds if frames is None and seconds is not None else (DEFAULT_SECONDS if frames is None else None),
        threads=threads,
    )
    return BenchReport(
        schema=SCHEMA,
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        settings=settings,
        environment=before,
        machine=machine,
        decoding=decoding,
        results=results,
        skipped=skipped,
        auto=planned.auto,
        sentences=sentences(results, before, decoding, skipped, planned.auto),
        warnings=warnings(results, before, machine),
    )


def _check(frames: int | None, seconds: float | None, warmup: int, rounds: int, threads: int) -> None:
    if frames is not None and seconds is not None:
        raise UsageError("--frames and --seconds contradict each other; give one of them")
    if frames is not None and not 1 <= frames <= MOST_SAMPLES:
        raise UsageError(f"--frames {frames}; expected 1 to {MOST_SAMPLES}")
    if seconds is not None and not 0 < seconds <= 86_400:
        raise UsageError(f"--seconds {seconds:g}; expected more than 0, at most 86400")
    if not 0 <= warmup <= 10_000:
        raise UsageError(f"--warmup {warmup}; expected 0 to 10000")
    if not 1 <= rounds <= 1000:
        raise UsageError(f"--rounds {rounds}; expected 1 to 1000")
    if threads < 0:
        raise UsageError(f"--threads {threads}; expected 0 (all cores) or more")


class _Teller:
    """Tells the caller how far it is: ``note`` within a turn, the call itself at the start of one."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._done = 0
        self.total = 0

    def note(self, what: str) -> None:
        if self._progress is not None:
            self._progress(self._done, self.total, what)

    def __call__(self, what: str) -> None:
        if self._progress is not None:
            self._progress(self._done, self.total, what)
        self._done += 1


def _estimate(one: _Measured, fed: Feed, warmup: int) -> None:
    """Warm the engine up, and find out about how long a frame takes."""
    if fed.kind == "paced":
        one.frame_ms = 1e3 / (fed.info.fps or 30.0)
        return
    trial = Samples()
    one.measurer.frame_by_frame(fed.make(), _ESTIMATE_FRAMES, max(1, warmup), trial)
    one.frame_ms = max(0.01, median(trial.end_to_end))
    one.samples.warmup += trial.warmup + trial.count


def _round(one: _Measured, fed: Feed, rounds: int, warmup: int, frames: int | None, seconds: float | None) -> None:
    """One turn of one combination: a stretch frame by frame, then one overlapped; a live source in one stretch."""
    if fed.kind == "paced":
        share = (frames * one.frame_ms / 1e3 if frames is not None else seconds or DEFAULT_SECONDS) / rounds
        stretch = one.measurer.paced(fed.make(), share, warmup, one.samples)
        one.stretches.append(stretch)
        one.infer_rounds.append(round(median(stretch.infer_ms), 4))
        return
    if frames is not None:
        count = -(-frames // rounds)
    else:
        share_ms = 1e3 * (seconds or DEFAULT_SECONDS) / (2 * rounds)
        count = min(MOST_SAMPLES // rounds, max(_FEWEST, int(share_ms / one.frame_ms)))
    infer = one.measurer.frame_by_frame(fed.make(), count, warmup, one.samples)
    one.infer_rounds.append(round(infer, 4))
    one.engine_cpu_ms.append(one.measurer.engine_alone(max(3, count // 4)))
    one.stretches.append(one.measurer.overlapped(fed.make(), count, warmup))
    one.samples.warmup += warmup


def _result(one: _Measured, fed: Feed, decoding: Decoding | None) -> Result:
    samples, stretches = one.samples, one.stretches
    spreads = {name: Spread.of(samples.stages[name]) for name in STAGES if name in samples.stages}
    stages = {name: spread for name, spread in spreads.items() if spread is not None}
    total = Spread.of(samples.end_to_end)
    if total is None:
        raise UsageError("no frame was counted; expected more frames than warm-up")
    rates = [s.frames / s.wall_s for s in stretches if s.wall_s > 0]
    wall = sum(s.wall_s for s in stretches)
    scored = sum(s.frames for s in stretches)
    cpu = sum(s.cpu_s for s in stretches)
    return Result(
        **one.combination.fields(),
        warmup=samples.warmup,
        samples=samples.count,
        stages=stages,
        end_to_end=total,
        histogram=Histogram.of(samples.end_to_end),
        throughput_fps=round(median(rates), 3),
        throughput_rounds=[round(rate, 3) for rate in rates],
        infer_rounds=one.infer_rounds,
        cpu_ms=round(1e3 * cpu / scored, 4) if scored else 0.0,
        cores_busy=round(cpu / wall, 3) if wall else 0.0,
        engine_cpu_ms=round(median(one.engine_cpu_ms), 4),
        added_share=_added_share(samples, median(one.engine_cpu_ms), decoding),
        open_ms=round(one.combination.open_ms, 3),
        node_ms=_nodes(one)[0],
        node_period_s=_nodes(one)[1],
        repeated=sum(s.repeated for s in stretches),
        paced=_paced(samples, stretches, stages, one.frame_ms) if fed.kind == "paced" else None,
    )


def _nodes(one: _Measured) -> tuple[dict[str, float], dict[str, float]]:
    """Times and periods of the graph nodes, where there are several."""
    times = one.measurer.node_ms
    if len(times) < 2:
        return {}, {}
    nodes = {node.name: node for node in one.measurer.scorer.manifest.nodes}
    return (
        {name: round(median(found), 4) for name, found in times.items()},
        {name: nodes[name].period_s for name in times},
    )


def _added_share(samples: Samples, engine_cpu_ms: float, decoding: Decoding | None) -> float | None:
    """Processor time of frames one by one beyond that of decoding alone and the engine alone, as a share of these."""
    if decoding is None or not samples.count:
        return None
    least = decoding.cpu_ms + engine_cpu_ms
    return round((1e3 * samples.cpu_s / samples.count - least) / least, 4) if least > 0 else None


def _paced(samples: Samples, stretches: Sequence[Stretch], stages: dict[str, Spread], interval_ms: float) -> Paced:
    wall = sum(s.wall_s for s in stretches)
    delivered = sum(s.delivered for s in stretches)
    fps = delivered / wall if wall else 0.0
    age = Spread.of(samples.age)
    assert age is not None
    work = sum(stages[name].p99 for name in ("preprocess", "infer") if name in stages)
    bound = work + (1e3 / fps if fps else interval_ms)
    within = sum(value <= bound for value in samples.age) / len(samples.age)
    return Paced(
        source_fps=round(fps, 3),
        age=age,
        bound_ms=round(bound, 4),
        within_bound=round(within, 4),
        dropped=sum(s.dropped for s in stretches),
    )


def _with_start(result: Result, combination: Combination, source: str | None) -> Result:
    import msgspec

    request = child.Request(
        bundle=str(combination.bundle.path),
        engine=combination.engine,
        lowering=combination.lowering,
        threads=combination.options.threads,
        bf16=combination.options.bf16,
        source=source,
        frames=_START_FRAMES,
    )
    return msgspec.structs.replace(result, start=child.measure(request))


__all__ = ["DEFAULT_SECONDS", "bench", "yardstick_ms"]
