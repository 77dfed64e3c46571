"""What ``memedge run`` does: sources one after the other through opened bundles into sinks, ended by a signal."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from memedge_engines import backends
from memedge_engines.choice import PRECISIONS, unbuilt

from .console import print_error, progress, say, status
from .errors import EngineError, FrameError, PreprocessError, SourceError, UsageError
from .loading import open_bundle
from .loop import Loop, LoopOptions
from .scorer import Scorer
from .sinks.base import Sink, Summary
from .sources import names
from .sources.base import Source, SourceOptions
from .tuning import Tuner


@dataclass(frozen=True)
class Outputs:
    """Which sinks to feed; see ``memedge run --help``."""

    jsonl: str | None = None
    rotate_mb: float | None = None
    csv: str | None = None
    summary_csv: str | None = None
    video: Path | None = None
    show: bool = False
    moments: Path | None = None
    moments_count: int = 5
    view: bool = True

    def texts(self) -> dict[str, str]:
        """Flag to path of those that write text; ``-`` is stdout."""
        given = {"--jsonl": self.jsonl, "--csv": self.csv, "--summary-csv": self.summary_csv}
        return {flag: path for flag, path in given.items() if path is not None}

    @property
    def stdout_taken(self) -> bool:
        """Whether readings go to stdout, so that nothing else may."""
        return "-" in self.texts().values()


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
    build: bool = True
    source_options: SourceOptions = field(default_factory=SourceOptions)
    loop_options: LoopOptions = field(default_factory=LoopOptions)
    outputs: Outputs = field(default_factory=Outputs)


def run(request: RunRequest) -> int:
    """Run to the end; the exit code.

    Raises:
        UsageError: flags that contradict each other.
        MemedgeError: nothing could be scored, or an output could not be written.
    """
    from .sources import open_source

    sources = checked_sources(request)
    # A wrong name is told before a bundle is opened; of a folder each file is made in its turn.
    only = open_source(sources[0], request.source_options) if len(sources) == 1 else None
    with ExitStack() as stack:
        scorers = _open_scorers(request, stack)
        # Before the sinks, so that it is left after them: no signal interrupts the closing of an output.
        signals = stack.enter_context(_signals())
        sinks = _open_sinks(request.outputs)
        for sink in sinks:
            stack.callback(sink.close)
        return _run_all(request, sources, only, scorers, sinks, _between(request, scorers, stack), signals)


def checked_sources(request: RunRequest) -> list[str]:
    """The sources that the request means, once all of it was checked.

    Raises:
        UsageError, SourceError: as :func:`check`, and a source that is not there.
    """
    from .sources import expand

    for flag, name in {"--source": request.source, **request.outputs.texts()}.items():
        if not name.strip():  # an unset variable of a shell: the path "" would mean the folder one is in
            raise UsageError(f"{flag} is empty; expected a name")
    sources = expand(request.source, request.source_options)
    check(request, sources)
    return sources


def _run_all(
    request: RunRequest,
    sources: Sequence[str],
    only: Source | None,
    scorers: dict[str, Scorer],
    sinks: list[Sink],
    between: Callable[[int], None] | None,
    signals: _Signals,
) -> int:
    from .sources import label, open_source

    failed = 0
    for uri in sources:
        if signals.caught is not None:
            break
        try:
            source = only or open_source(uri, request.source_options)
            source.on_status = status
            loop = Loop(source, scorers, sinks, request.loop_options, between)
            signals.attach(loop)
            summaries = loop.run()
        except (SourceError, FrameError, PreprocessError) as error:
            if len(sources) == 1:
                raise
            failed += 1
            print_error(error)
            continue
        finally:
            signals.loop = None
        _warn(label(uri), next(iter(summaries.values()), None))
        if not request.outputs.stdout_taken:
            for summary in summaries.values():
                print(result_line(label(uri), summary, len(scorers) > 1), flush=True)
    if signals.caught is not None:
        return 128 + signals.caught
    if failed:
        status(f"memedge: {failed} of {len(sources)} sources failed")
    return 1 if failed else 0


def _warn(label: str, summary: Summary | None) -> None:
    """Say on stderr what a person should know of a source that was scored nevertheless."""
    flags = {} if summary is None else summary.flags
    if flags.get("truncated"):
        status(f"memedge: {label}: the file ends early; what is there was scored")
    if flags.get("corrupt"):
        status(f"memedge: {label}: {flags['corrupt']} damaged frames, scored as they were decoded")


def result_line(label: str, summary: Summary, several: bool) -> str:
    """One line for stdout: the source, each target's score and how many frames it rests on."""
    scores = ", ".join(f"{n} {'none' if v is None else format(v, '.4f')}" for n, v in summary.video_score.items())
    bundle = f" [{summary.bundle}]" if several else ""
    counts = f"({summary.frames_scored} of {summary.frames_seen} frames scored)"
    early = f", ended by a signal at {summary.duration_s:.1f} s" if summary.ended == "signal" else ""
    untrained = " UNTRAINED: scores mean nothing" if summary.untrained else ""
    return f"{label}{bundle}: {scores} {counts}{early}{untrained}"


def check(request: RunRequest, sources: Sequence[str]) -> None:
    """Raise UsageError for flags that contradict each other, or an output that would overwrite what it is made of."""
    outputs, options = request.outputs, request.source_options
    for name in {request.engine} - {"auto"}:
        backends.get(name)
    if request.threads < 0:
        raise UsageError(f"--threads {request.threads}; expected 0 (all cores) or more")
    if request.precision not in PRECISIONS:
        raise UsageError(f"--precision {request.precision}; expected one of {', '.join(PRECISIONS)}")
    if outputs.rotate_mb is not None:
        if outputs.jsonl in (None, "-"):
            raise UsageError("--rotate-mb rotates a file: it needs --jsonl FILE")
        if not 0 < outputs.rotate_mb < math.inf:
            raise UsageError(f"--rotate-mb {outputs.rotate_mb:g}; expected more than 0")
    _check_paths(outputs, sources)
    if outputs.video is not None and len(sources) > 1:
        raise UsageError(f"--video takes one source; '{request.source}' has {len(sources)}")
    scheme = names.scheme(request.source)
    camera = names.camera_name(request.source) is not None or scheme == "csi"
    if any((options.camera_size, options.camera_fps, options.camera_format)) and not camera:
        raise UsageError("--camera-size, --camera-fps and --camera-format belong to a camera")
    if options.camera_format is not None and scheme == "csi":
        raise UsageError("--camera-format belongs to a USB camera; a CSI camera's processor always delivers NV12")
    _check_nvcodec(request)
    if (camera or scheme in ("rtsp", "rtsps")) and (options.from_s or options.to_s is not None):
        raise UsageError("--from and --to belong to a file, not to a live source", fix="use --max-seconds")
    if options.wait and not camera and scheme in (None, "file", "test"):
        raise UsageError("--wait waits for a camera or a network source")
    if request.bf16 and request.engine not in ("auto", "openvino"):
        raise UsageError(f"--bf16 is an option of the engine openvino, not of {request.engine}")
    if request.bf16 and request.precision in ("fp16", "int8"):
        raise UsageError(f"--bf16 and --precision {request.precision} contradict each other")


def _check_nvcodec(request: RunRequest) -> None:
    """Frames stay in device memory, where engines read them, but no sink that wants to look at them."""
    if request.source_options.decoder != "nvcodec":
        return
    outputs = request.outputs
    looks = {"--video": outputs.video, "--moments": outputs.moments, "--show": outputs.show}
    for flag in (flag for flag, wanted in looks.items() if wanted):
        raise UsageError(
            f"{flag} needs frames in the host's memory; --decoder nvcodec leaves them in the GPU's",
            fix="--decoder pyav",
        )


def _check_paths(outputs: Outputs, sources: Sequence[str]) -> None:
    texts = outputs.texts()
    taken = [flag for flag, path in texts.items() if path == "-"]
    if len(taken) > 1:
        raise UsageError(f"{' and '.join(taken)} cannot both be written to stdout")
    files = {flag: Path(path) for flag, path in texts.items() if path != "-"}
    if outputs.video is not None:
        files["--video"] = outputs.video
    read = {os.path.realpath(source): source for source in sources if os.path.exists(source)}
    seen: dict[str, str] = {}
    for flag, path in files.items():
        if path.is_dir():
            raise UsageError(f"{flag} '{path}' is a folder; expected a file to write")
        place = os.path.realpath(path)
        if place in read:
            raise UsageError(f"{flag} '{path}' would overwrite the source", fix="choose another name")
        other = seen.setdefault(place, flag)
        if other != flag and not path.is_char_device():
            raise UsageError(f"{other} and {flag} have the same path '{path}'")
    if outputs.moments is not None and outputs.moments.is_file():
        raise UsageError(f"--moments '{outputs.moments}' is a file; expected a folder")


def _between(request: RunRequest, scorers: dict[str, Scorer], stack: ExitStack) -> Callable[[int], None] | None:
    """What goes on beside the scoring, called between frames: building a plan that is missing, then timing engines."""
    if request.engine != "auto" or request.bf16:
        return None
    calls: list[Callable[[int], None]] = []
    busy: Callable[[], bool] = bool
    if _may_build(request):
        from .planning import Planner

        planner = Planner(scorers)
        stack.callback(planner.close)
        calls.append(planner.between)
        busy = planner.busy
    if request.tune:
        tuner = Tuner(scorers, busy=busy)
        stack.callback(tuner.close)
        calls.append(tuner.between)

    def between(frames: int) -> None:
        for call in calls:
            call(frames)

    return between if calls else None


def _may_build(request: RunRequest) -> bool:
    """Whether there is anything to build plans with, as far as can be told without importing it."""
    return request.build and backends.get("tensorrt").installed()


def _open_scorer(request: RunRequest, path: Path | None) -> Scorer:
    """Open a bundle; where only TensorRT may run it and has no plan yet, build that first."""
    bundle = open_bundle(path)

    def opened() -> Scorer:
        return Scorer(bundle, request.engine, request.precision, threads=request.threads, bf16=request.bf16, tell=say)

    try:
        return opened()
    except EngineError:
        wanted = unbuilt(bundle, request.engine, request.precision) if _may_build(request) else None
        if wanted is None:
            raise
    from .building import PERCENT
    from .planning import build_plan

    with progress(f"memedge: building the TensorRT plan of {bundle.manifest.name}", PERCENT) as tracker:
        build_plan(bundle, wanted, 1, tracker)
    return opened()


def _open_scorers(request: RunRequest, stack: ExitStack) -> dict[str, Scorer]:
    scorers: dict[str, Scorer] = {}
    for path in request.bundles or (None,):
        scorer = stack.enter_context(_open_scorer(request, path))
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

        sinks.append(MomentsSink(outputs.moments, outputs.moments_count))
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

    def attach(self, loop: Loop) -> None:
        """A loop begins; it ends at once if the signal came before there was one."""
        self.loop = loop
        if self.caught is not None:
            loop.stop("signal")

    def handle(self, number: int, _frame: FrameType | None) -> None:
        if self.caught is not None:
            # Not through sys.stderr: the interrupted code may be in the middle of a write to it.
            os.write(2, b"memedge: second signal, leaving at once\n")
            os._exit(128 + number)
        self.caught = number
        if self.loop is not None:
            self.loop.stop("signal")


@contextmanager
def _signals() -> Iterator[_Signals]:
    state = _Signals()
    old = {}
    numbers = [signal.SIGINT, signal.SIGTERM]
    # A closed terminal ends a run like SIGTERM; under nohup the signal is ignored, and stays so.
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        numbers.append(hangup)
    for number in numbers:
        try:
            old[number] = signal.signal(number, state.handle)
        except ValueError:  # not the main thread: whoever runs us there handles signals
            break
    try:
        yield state
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
