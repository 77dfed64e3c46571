"""The report of a measurement: plain records, the same in memory and in JSON.

``benchmarks/README.md`` defines each number.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from ..environment import Clocks, Environment
from ..errors import MemedgeError, UsageError

SCHEMA = 1
# In the order in which a frame passes them.
STAGES = ("decode", "preprocess", "infer", "queue", "rolling", "sinks")


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A sample of milliseconds. Percentiles interpolate between samples."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """The spread of some milliseconds, or none when there are none."""
        if not len(values):
            return None
        array = np.asarray(values, np.float64)
        p50, p90, p99 = (round(float(v), 4) for v in np.percentile(array, (50, 90, 99)))
        mean, largest = round(float(array.mean()), 4), round(float(array.max()), 4)
        return cls(count=len(array), mean=mean, p50=p50, p90=p90, p99=p99, max=largest)


class Histogram(msgspec.Struct, frozen=True):
    """``counts[i]`` samples lie in [``edges[i]``, ``edges[i + 1]``), milliseconds; edges evenly spaced in the log."""

    edges: list[float]
    counts: list[int]

    @classmethod
    def of(cls, values: Sequence[float], bins: int = 24) -> Histogram | None:
        """The histogram of some milliseconds, or none when there are none."""
        if not len(values):
            return None
        array = np.maximum(np.asarray(values, np.float64), 1e-4)
        edges = np.geomspace(array.min() * 0.999, array.max() * 1.001, bins + 1)
        counts, _ = np.histogram(array, edges)
        return cls([round(float(e), 5) for e in edges], [int(c) for c in counts])


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """One combination in a process of its own.

    Attributes:
        first_score_ms: from the start of the process to its first score.
        open_ms: of it, reading the bundle and opening the engine.
        peak_memory_mb: largest resident memory of that process, MiB, after ``frames`` frames.
    """

    first_score_ms: float
    open_ms: float
    peak_memory_mb: float | None
    frames: int


class Paced(msgspec.Struct, frozen=True, kw_only=True):
    """What only a source with a clock of its own can show.

    Attributes:
        source_fps: frames a second that the source delivered.
        age: from a frame's arrival to its reading, milliseconds.
        bound_ms: p99 of preprocess and inference plus one frame interval: how old a frame may be.
        within_bound: fraction of the readings that were no older.
        dropped: frames that a newer one replaced unseen.
    """

    source_fps: float
    age: Spread
    bound_ms: float
    within_bound: float
    dropped: int


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One bundle on one engine with one lowering.

    Attributes:
        label: what tables call it.
        bundle, model, untrained, bundle_hash: which bundle.
        engine, precision, lowering: what ran it.
        warmup, samples: frames not counted; frames counted one by one.
        repeated: frames of the throughput runs that repeated the one before and so took its score.
        stages: stage name to milliseconds a frame. A stage that was not measured is absent.
        end_to_end: the sum of the stages, frame by frame (paced sources: without decode, from arrival on).
        histogram: of ``end_to_end``.
        throughput_fps: frames a second when the stages overlap as in ``memedge run``; median of the rounds.
        throughput_rounds: frames a second, round by round.
        infer_rounds: median inference, milliseconds, round by round.
        cpu_ms: processor time of the whole process for a frame of the throughput runs.
        cores_busy: processors in use meanwhile.
        engine_cpu_ms: processor time of the process for one inference and nothing else.
        added_share: what memedge adds (preprocess, queue, rolling, sinks) to the processor time of decoding alone and
            of the engine alone, as a share of these; none without decoding.
        node_ms: where there are several graph nodes, each one's median milliseconds a run, and how often it runs:
            ``node_period_s``, 0 for whenever an input is new or a frame is offered.
        open_ms: opening the engine in the measuring process.
        start: the same in a process of its own, or none when not asked for.
        paced: for sources with a clock of their own.
    """

    label: str
    bundle: str
    model: str
    untrained: bool
    bundle_hash: str
    engine: str
    precision: str
    lowering: str
    warmup: int
    samples: int
    stages: dict[str, Spread]
    end_to_end: Spread
    histogram: Histogram | None
    throughput_fps: float
    throughput_rounds: list[float]
    infer_rounds: list[float]
    cpu_ms: float
    cores_busy: float
    engine_cpu_ms: float
    added_share: float | None
    open_ms: float
    repeated: int = 0
    node_ms: dict[str, float] = {}
    node_period_s: dict[str, float] = {}
    start: Start | None = None
    paced: Paced | None = None


class Decoding(msgspec.Struct, frozen=True, kw_only=True):
    """The file decoded with nothing else going on: time and processor time a frame in ms, median of rounds."""

    wall_ms: float
    cpu_ms: float


class Skipped(msgspec.Struct, frozen=True):
    """A combination that could not be measured, and why."""

    bundle: str
    engine: str
    reason: str


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How it was measured.

    Attributes:
        source: what was scored. ``kind``: ``prepared`` (frames rendered beforehand, no decoding), ``file``, ``paced``.
        width, height: of the frames; 0 where unknown.
        rounds: every combination was measured once in each, in rotating order.
        warmup: frames left out at the start of each run.
        frames, seconds: what was asked for, per combination.
        threads: of the engines; 0 is all cores.
    """

    source: str
    kind: str
    width: int
    height: int
    rounds: int
    warmup: int
    frames: int | None
    seconds: float | None
    threads: int


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine did meanwhile.

    Attributes:
        load_before: load average over one minute before the measurement.
        others_busy: processors that other processes kept busy meanwhile, or none where it cannot be told.
        stolen_share: share of the machine's time that the hypervisor took.
        yardstick_ms: time of one fixed piece of arithmetic at the start of each round: its spread is the clocks'.
        clocks: clocks, temperatures and power at the start of each round.
    """

    load_before: float | None
    others_busy: float | None
    stolen_share: float | None
    yardstick_ms: list[float]
    clocks: list[Clocks]


class BenchReport(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement: every combination, on one machine, in one run.

    Attributes:
        schema: of this record.
        created: ISO 8601, with offset.
        settings, environment, machine, decoding, results, skipped: see there.
        auto: bundle to the engine and precision that ``auto`` takes for it here, where that was found out.
        sentences: what bounds each result and how they compare.
        warnings: what makes the numbers less than certain.
    """

    schema: int
    created: str
    settings: Settings
    environment: Environment
    machine: Machine
    decoding: Decoding | None
    results: list[Result]
    skipped: list[Skipped]
    auto: dict[str, str] = {}
    sentences: list[str] = []
    warnings: list[str] = []

    def to_json(self) -> str:
        """The report as indented JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write :meth:`to_json` to a file; MemedgeError when it cannot be written."""
        try:
            Path(path).write_text(self.to_json() + "\n", encoding="utf-8")
        except OSError as error:
            raise MemedgeError(f"cannot write '{path}': {error.strerror or error}") from None

    def lines(self) -> list[str]:
        """Everything as plain, untruncated lines."""
        from .table import lines

        return lines(self)

    def print(self) -> None:
        """To stdout: a table on a terminal, plain lines elsewhere."""
        from .table import show

        show(self)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the stages and the spread of every combination into a picture.

        Raises:
            MemedgeError: matplotlib is not installed, or the file cannot be written.
            UsageError: the name's ending is none of .png, .svg and .pdf.
        """
        from .plot import plot

        plot(self, path)


def from_json(text: str | bytes) -> BenchReport:
    """A report out of its JSON.

    Raises:
        UsageError: it is not one, or of a newer schema.
    """
    try:
        report = msgspec.json.decode(text, type=BenchReport)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise UsageError(f"not a report of memedge bench: {error}") from None
    if report.schema != SCHEMA:
        raise UsageError(f"report of schema {report.schema}; this memedge reads {SCHEMA}")
    return report
