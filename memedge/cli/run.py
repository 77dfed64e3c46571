"""``memedge run``."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UsageError
from ..titles import TITLE

_AGGREGATES = ("mean", "median", "exponential")
_ENGINE, _SCORING, _OUTPUTS, _CAMERA = "Engine", "Scoring", "Outputs", "Cameras and streams"


def _option(help: str, *names: str, panel: str | None = None, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


def command(
    source: Annotated[
        str,
        _option(
            "camera0, /dev/video0, a file, picture, folder or glob, rtsp://, http(s)://, csi://0, gst://PIPELINE, "
            "test://, - (stdin).",
            metavar="SOURCE",
        ),
    ],
    bundle: Annotated[
        list[Path] | None,
        _option("Bundle folder; may be given twice. Default: the one that ships.", metavar="DIR"),
    ] = None,
    from_s: Annotated[float, _option("Start of a file's part, seconds.", "--from", metavar="S")] = 0.0,
    to_s: Annotated[float | None, _option("End of a file's part, not included.", "--to", metavar="S")] = None,
    max_seconds: Annotated[float | None, _option("Stop after this much capture time.", metavar="S")] = None,
    quiet: Annotated[bool, _option("No live view.", "--quiet", "-q")] = False,
    dry_run: Annotated[bool, _option("Print what would run, open no source, write nothing.", "--dry-run")] = False,
    rate: Annotated[
        float | None,
        _option("Score at most this many frames a second. Default: every frame.", panel=_SCORING, metavar="HZ"),
    ] = None,
    window: Annotated[
        float | None, _option("Rolling window. Default: the bundle's.", panel=_SCORING, metavar="S")
    ] = None,
    aggregate: Annotated[
        str | None, _option("Rolling score: mean, median or exponential.", panel=_SCORING, metavar="NAME")
    ] = None,
    frozen_after: Annotated[
        float, _option("Bit-identical live frames for this long raise the flag frozen.", panel=_SCORING, metavar="S")
    ] = 10.0,
    skip_frozen: Annotated[
        bool, _option("Leave frozen frames out of the rolling score.", "--skip-frozen", panel=_SCORING)
    ] = False,
    skip_black: Annotated[
        bool, _option("Leave black frames out of the rolling score.", "--skip-black", panel=_SCORING)
    ] = False,
    caller: Annotated[
        list[str] | None,
        _option("Value of a bundle's caller input.", panel=_SCORING, metavar="NAME=NUMBER[,NUMBER...]"),
    ] = None,
    title: Annotated[
        str | None, _option("Title of the video, for bundles that take one.", panel=_SCORING, metavar="TEXT")
    ] = None,
    delay: Annotated[
        float | None,
        _option(
            "Also the score after this delay, for bundles that give their decay (semantic-memnet).",
            panel=_SCORING,
            metavar="S",
        ),
    ] = None,
    distinctiveness: Annotated[
        bool,
        _option(
            "Also how far each picture stands out from what the stream showed before, for bundles with an embedding.",
            "--distinctiveness",
            panel=_SCORING,
        ),
    ] = False,
    memory: Annotated[
        float | None,
        _option("Seconds until that memory has faded to a third. Default: 600.", panel=_SCORING, metavar="S"),
    ] = None,
    jsonl: Annotated[
        str | None, _option("Readings as JSON Lines; - is stdout.", panel=_OUTPUTS, metavar="FILE")
    ] = None,
    rotate_mb: Annotated[
        float | None, _option("Start a new JSON Lines file at this size.", panel=_OUTPUTS, metavar="MB")
    ] = None,
    csv: Annotated[str | None, _option("Readings as CSV; - is stdout.", panel=_OUTPUTS, metavar="FILE")] = None,
    summary_csv: Annotated[
        str | None,
        _option("One row a source: file, video scores, frames scored.", panel=_OUTPUTS, metavar="FILE"),
    ] = None,
    video: Annotated[Path | None, _option("Annotated video.", panel=_OUTPUTS, metavar="OUT.mp4")] = None,
    moments: Annotated[
        Path | None, _option("Folder for pictures of the most memorable moments.", panel=_OUTPUTS, metavar="DIR")
    ] = None,
    moments_count: Annotated[int, _option("How many moments.", panel=_OUTPUTS, metavar="N")] = 5,
    show: Annotated[
        bool, _option("Show a window (needs the extra opencv and a display).", "--show", panel=_OUTPUTS)
    ] = False,
    engine: Annotated[
        str, _option("auto, or an engine that `memedge doctor` lists.", panel=_ENGINE, metavar="NAME")
    ] = "auto",
    precision: Annotated[str, _option("auto, fp32, fp16 or int8.", panel=_ENGINE, metavar="NAME")] = "auto",
    threads: Annotated[int, _option("CPU threads; 0: all cores.", panel=_ENGINE, metavar="N")] = 0,
    bf16: Annotated[
        bool, _option("Let OpenVINO compute in bfloat16: faster, another number.", "--bf16", panel=_ENGINE)
    ] = False,
    tune: Annotated[
        bool, _option("Time the other engines after the first scores and use the best.", panel=_ENGINE)
    ] = True,
    build: Annotated[
        bool, _option("Build a missing TensorRT plan while scoring and go over to it.", panel=_ENGINE)
    ] = True,
    camera_size: Annotated[
        str | None, _option("Picture size asked of a camera, e.g. 1280x720.", panel=_CAMERA, metavar="WxH")
    ] = None,
    camera_fps: Annotated[
        float | None, _option("Frames per second asked of a camera.", panel=_CAMERA, metavar="HZ")
    ] = None,
    camera_format: Annotated[
        str | None, _option("Format asked of a camera: mjpeg, yuyv422 ...", panel=_CAMERA, metavar="NAME")
    ] = None,
    decoder: Annotated[
        str, _option("auto (PyAV), pyav, gstreamer or nvcodec (NVDEC).", panel=_CAMERA, metavar="NAME")
    ] = "auto",
    wait: Annotated[bool, _option("Keep trying the first connection, too.", "--wait", panel=_CAMERA)] = False,
    connect_timeout: Annotated[
        float, _option("How long a first connection may take.", panel=_CAMERA, metavar="S")
    ] = 15.0,
) -> None:
    """Score a camera, a file, a stream or a folder, frame by frame."""
    from ..distinctiveness import MEMORY_S
    from ..lane import LaneOptions
    from ..loop import LoopOptions
    from ..running import Outputs, RunRequest, run
    from ..sources.base import SourceOptions

    if aggregate is not None and aggregate not in _AGGREGATES:
        raise UsageError(f"--aggregate {aggregate}; expected one of {', '.join(_AGGREGATES)}")
    if moments_count < 1:
        raise UsageError(f"--moments-count {moments_count}; expected at least 1")
    if memory is not None and not 0 < memory < float("inf"):
        raise UsageError(f"--memory {memory:g}; expected more than 0 seconds")
    if memory is not None and not distinctiveness:
        raise UsageError(f"--memory {memory:g} belongs to --distinctiveness", fix="--distinctiveness")
    skips = [name for name, on in (("frozen", skip_frozen), ("black", skip_black)) if on]
    lane = LaneOptions(
        window_s=window,
        aggregate=aggregate,
        rate_hz=rate,
        skip_flags=frozenset(skips),
        moments=moments_count,
        delay_s=delay,
        memory_s=(MEMORY_S if memory is None else memory) if distinctiveness else None,
    )
    request = RunRequest(
        source=source,
        bundles=tuple(bundle or ()),
        engine=engine,
        precision=precision,
        threads=threads,
        bf16=bf16,
        tune=tune,
        build=build,
        source_options=SourceOptions(
            camera_size=_size(camera_size),
            camera_fps=camera_fps,
            camera_format=camera_format,
            connect_timeout_s=connect_timeout,
            wait=wait,
            from_s=from_s,
            to_s=to_s,
            decoder=decoder,
        ),
        loop_options=LoopOptions(lane, frozen_after, max_seconds, _callers(caller or [], title)),
        outputs=Outputs(
            jsonl=jsonl,
            rotate_mb=rotate_mb,
            csv=csv,
            summary_csv=summary_csv,
            video=video,
            show=show,
            moments=moments,
            moments_count=moments_count,
            view=not quiet,
        ),
    )
    if dry_run:
        from ..dry_run import dry_run as describe

        for line in describe(request):
            print(line, flush=True)
        return
    code = run(request)
    if code:
        raise typer.Exit(code)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise UsageError(f"--camera-size {text}; expected WIDTHxHEIGHT, e.g. 1280x720")
    return int(match[1]), int(match[2])


def _callers(words: list[str], title: str | None) -> dict[str, list[float] | str]:
    values: dict[str, list[float] | str] = {} if title is None else {TITLE: title}
    for word in words:
        name, equals, numbers = word.partition("=")
        try:
            if not (name and equals):
                raise ValueError(word)
            given = [float(n) for n in numbers.split(",")]
            if name == TITLE or not all(map(math.isfinite, given)):
                raise ValueError(word)
            values[name] = given
        except ValueError:
            raise UsageError(f"--caller {word}; expected NAME=NUMBER[,NUMBER...]") from None
    return values
