"""What ``memedge run`` does: sources one after the other through opened bundles into sinks, ended cleanly by a
signal."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from .console import print_error, status
from .errors import SourceError, UsageError
from .loading import open_bundle
from .loop import Loop, LoopOptions
from .scorer import Scorer
from .sinks.base import Sink, Summary
from .sources.base import SourceOptions
from .tuning import Tuner


@dataclass(frozen=True)
class Outputs:
    """Which sinks to feed; see ``memedge run --help``."""

    jsonl: str | None = None
    rotate_mb: float | None = None
    csv: Path | None = None
    summary_csv: Path | None = None
    video: Path | None = None
    show: bool = False
    moments: Path | None = None
    view: bool = True


@dataclass(frozen=True)
class RunRequest:
    """Everything that ``memedge run`` was asked for."""

    source: str
    bundles: tuple[Path, ...] = ()
    engine: str = "auto"
    precision: str = "auto"
    threads: int = 0
    bf16: bool = False
    tune: bool = True
    source_options: SourceOptions = field(default_factory=SourceOptions)
    loop_options: LoopOptions = field(default_factory=LoopOptions)
    outputs: Outputs = field(default_factory=Outputs)


def run(request: RunRequest) -> int:
    """Run to the end; the exit code.

    Raises:
        UsageError: flags that contradict each other.
        MemedgeError: nothing could be scored, or an output could not be written.
    """
    from .sources import expand

    sources = expand(request.source, request.source_options)
    check(request, sources)
    with ExitStack() as stack:
        scorers = _open_scorers(request, stack)
        sinks = _open_sinks(request.outputs)
        for sink in sinks:
            stack.callback(sink.close)
        signals = stack.enter_context(_signals())
        tuner = Tuner(scorers) if _may_tune(request) else None
        if tuner is not None:
            stack.callback(tuner.close)
        return _run_all(request, sources, scorers, sinks, tuner, signals)


def _run_all(
    request: RunRequest,
    sources: Sequence[str],
    scorers: dict[str, Scorer],
    sinks: list[Sink],
    tuner: Tuner | None,
    signals: _Signals,
) -> int:
    from .sources import label, open_source

    failed = 0
    for uri in sources:
        loop = Loop(
            open_source(uri, request.source_options),
            scorers,
            sinks,
            request.loop_options,
            tuner.between if tuner is not None else None,
        )
        signals.loop = loop
        if signals.caught is not None:
            break
        try:
            summaries = loop.run()
        except SourceError as error:
            if len(sources) == 1:
                raise
            failed += 1
            print_error(error)
            continue
        finally:
            signals.loop = None
        if request.outputs.jsonl != "-":
            for summary in summaries.values():
                print(result_line(label(uri), summary, len(scorers) > 1), flush=True)
    if signals.caught is not None:
        return 128 + signals.caught
    if failed:
        status(f"memedge: {failed} of {len(sources)} sources failed")
    return 1 if failed else 0


def result_line(label: str, summary: Summary, several: bool) -> str:
    """One line for stdout: the source, each target's score and how many frames it rests on."""
    scores = ", ".join(f"{n} {'none' if v is None else format(v, '.4f')}" for n, v in summary.video_score.items())
    bundle = f" [{summary.bundle}]" if several else ""
    untrained = " UNTRAINED: scores mean nothing" if summary.untrained else ""
    return f"{label}{bundle}: {scores} ({summary.frames_scored} of {summary.frames_seen} frames scored){untrained}"


def check(request: RunRequest, sources: Sequence[str]) -> None:
    """Raise UsageError for flags that contradict each other."""
    outputs, options = request.outputs, request.source_options
    if outputs.rotate_mb is not None:
        if outputs.jsonl in (None, "-"):
            raise UsageError("--rotate-mb rotates a file: it needs --jsonl FILE")
        if not outputs.rotate_mb > 0:
            raise UsageError(f"--rotate-mb {outputs.rotate_mb:g}; expected more than 0")
    named = [p for p in (outputs.jsonl, outputs.csv, outputs.summary_csv, outputs.video) if p not in (None, "-")]
    paths = [os.path.abspath(str(p)) for p in named]
    if len(set(paths)) != len(paths):
        raise UsageError(f"two outputs have the same path: {sorted(paths)}")
    if outputs.video is not None and len(sources) > 1:
        raise UsageError(f"--video takes one source; '{request.source}' has {len(sources)}")
    camera = any((options.camera_size, options.camera_fps, options.camera_format))
    if camera and not request.source.startswith(("camera", "/dev/video")):
        raise UsageError("--camera-size, --camera-fps and --camera-format belong to a camera")
    live = request.source.startswith(("camera", "/dev/video", "rtsp:", "rtsps:"))
    if live and (options.from_s or options.to_s is not None):
        raise UsageError("--from and --to belong to a file, not to a live source", fix="use --max-seconds")
    if options.wait and not live and "://" not in request.source:
        raise UsageError("--wait waits for a camera or a network source")
    if request.engine not in ("auto", "openvino") and request.bf16:
        raise UsageError(f"--bf16 is an option of the engine openvino, not of {request.engine}")
    for path in request.outputs.video, request.outputs.csv, request.outputs.summary_csv:
        if path is not None and path.is_dir():
            raise UsageError(f"'{path}' is a folder; expected a file to write")


def _may_tune(request: RunRequest) -> bool:
    return request.tune and request.engine == "auto" and not request.bf16


def _open_scorers(request: RunRequest, stack: ExitStack) -> dict[str, Scorer]:
    scorers: dict[str, Scorer] = {}
    for path in request.bundles or (None,):
        scorer = stack.enter_context(
            Scorer(open_bundle(path), request.engine, request.precision, threads=request.threads, bf16=request.bf16)
        )
        name, number = scorer.manifest.name, 2
        while name in scorers:
            name, number = f"{scorer.manifest.name}#{number}", number + 1
        scorers[name] = scorer
        note = " UNTRAINED: its scores mean nothing" if scorer.manifest.untrained else ""
        status(f"memedge: {name} on {scorer.engine} ({scorer.precision}){note}")
    return scorers


def _open_sinks(outputs: Outputs) -> list[Sink]:
    sinks: list[Sink] = []
    if outputs.jsonl is not None:
        from .sinks.jsonl import JsonlSink

        sinks.append(JsonlSink(outputs.jsonl, rotate_mb=outputs.rotate_mb))
    if outputs.csv is not None:
        from .sinks.csv import CsvSink

        sinks.append(CsvSink(outputs.csv))
    if outputs.summary_csv is not None:
        from .sinks.summary_csv import SummaryCsvSink

        sinks.append(SummaryCsvSink(outputs.summary_csv))
    if outputs.video is not None:
        from .sinks.video import VideoSink

        sinks.append(VideoSink(outputs.video))
    if outputs.moments is not None:
        from .sinks.moments import MomentsSink

        sinks.append(MomentsSink(outputs.moments))
    if outputs.show:
        from .sinks.show import ShowSink

        sinks.append(ShowSink())
    if outputs.view:
        from .sinks.terminal import TerminalSink

        sinks.append(TerminalSink())
    return sinks


@dataclass
class _Signals:
    """What a signal does: it ends the loop at hand after its frame; a second one ends the process at once."""

    loop: Loop | None = None
    caught: int | None = None

    def handle(self, number: int, _frame: FrameType | None) -> None:
        if self.caught is not None:
            sys.stderr.write("memedge: second signal, leaving at once\n")
            os._exit(128 + number)
        self.caught = number
        if self.loop is not None:
            self.loop.stop("signal")


@contextmanager
def _signals() -> Iterator[_Signals]:
    state = _Signals()
    old = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            old[number] = signal.signal(number, state.handle)
        except ValueError:  # not the main thread: whoever runs us there handles signals
            break
    try:
        yield state
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
