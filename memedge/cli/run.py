"""``memedge run``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError

Opt = typer.Option
_AGGREGATES = ("mean", "median", "exponential")


def command(
    source: Annotated[
        str,
        Opt(help="camera0, /dev/video0, file, picture, folder, glob, rtsp://, http(s)://, test://, - (stdin)."),
    ],
    bundle: Annotated[
        list[Path] | None, Opt(help="Bundle folder; may be given twice. Default: the one that ships.")
    ] = None,
    engine: Annotated[str, Opt(help="auto, or an engine that `memedge doctor` lists.")] = "auto",
    precision: Annotated[str, Opt(help="auto, fp32, fp16 or int8.")] = "auto",
    threads: Annotated[int, Opt(help="CPU threads of the engine; 0: all cores.")] = 0,
    bf16: Annotated[bool, Opt("--bf16", help="Let OpenVINO compute in bfloat16: faster, another number.")] = False,
    rate: Annotated[float | None, Opt(help="Score at most this many frames a second. Default: every frame.")] = None,
    window: Annotated[float | None, Opt(help="Rolling window in seconds. Default: the bundle's.")] = None,
    aggregate: Annotated[str | None, Opt(help="Rolling score: mean, median or exponential.")] = None,
    from_s: Annotated[float, Opt("--from", help="Start of a file's part, seconds.")] = 0.0,
    to_s: Annotated[float | None, Opt("--to", help="End of a file's part, seconds, not included.")] = None,
    max_seconds: Annotated[float | None, Opt(help="Stop after this much capture time.")] = None,
    jsonl: Annotated[str | None, Opt(help="Readings as JSON Lines; - is stdout.")] = None,
    rotate_mb: Annotated[float | None, Opt(help="Start a new JSON Lines file at this size.")] = None,
    csv: Annotated[Path | None, Opt(help="Readings as CSV.")] = None,
    summary_csv: Annotated[Path | None, Opt(help="One row a source: file, video scores, frames scored.")] = None,
    video: Annotated[Path | None, Opt(help="Annotated video, OUT.mp4.")] = None,
    show: Annotated[bool, Opt("--show", help="Show a window (needs the extra opencv and a display).")] = False,
    moments: Annotated[Path | None, Opt(help="Folder for pictures of the most memorable moments.")] = None,
    moments_count: Annotated[int, Opt(help="How many moments.")] = 5,
    frozen_after: Annotated[float, Opt(help="Seconds of bit-identical live frames that raise the flag frozen.")] = 10.0,
    skip_frozen: Annotated[bool, Opt("--skip-frozen", help="Leave frozen frames out of the rolling score.")] = False,
    skip_black: Annotated[bool, Opt("--skip-black", help="Leave black frames out of the rolling score.")] = False,
    camera_size: Annotated[str | None, Opt(help="Picture size asked of a camera, e.g. 1280x720.")] = None,
    camera_fps: Annotated[float | None, Opt(help="Frames per second asked of a camera.")] = None,
    camera_format: Annotated[str | None, Opt(help="Format asked of a camera: mjpeg, yuyv422 ...")] = None,
    wait: Annotated[bool, Opt("--wait", help="Keep trying the first connection, too.")] = False,
    connect_timeout: Annotated[float, Opt(help="Seconds that a first connection may take.")] = 15.0,
    caller: Annotated[list[str] | None, Opt(help="Value of a caller input, NAME=NUMBER[,NUMBER...].")] = None,
    tune: Annotated[bool, Opt(help="Time the other engines after the first scores and use the best.")] = True,
    quiet: Annotated[bool, Opt("--quiet", "-q", help="No live view.")] = False,
) -> None:
    """Score a camera, a file, a stream or a folder, frame by frame."""
    from ..lane import LaneOptions
    from ..loop import LoopOptions
    from ..running import Outputs, RunRequest, run
    from ..sources.base import SourceOptions

    if aggregate is not None and aggregate not in _AGGREGATES:
        raise UsageError(f"--aggregate {aggregate}; expected one of {', '.join(_AGGREGATES)}")
    if moments_count < 1:
        raise UsageError(f"--moments-count {moments_count}; expected at least 1")
    skips = [name for name, on in (("frozen", skip_frozen), ("black", skip_black)) if on]
    lane = LaneOptions(
        window_s=window, aggregate=aggregate, rate_hz=rate, skip_flags=frozenset(skips), moments=moments_count
    )
    request = RunRequest(
        source=source,
        bundles=tuple(bundle or ()),
        engine=engine,
        precision=precision,
        threads=threads,
        bf16=bf16,
        tune=tune,
        source_options=SourceOptions(
            camera_size=_size(camera_size),
            camera_fps=camera_fps,
            camera_format=camera_format,
            connect_timeout_s=connect_timeout,
            wait=wait,
            from_s=from_s,
            to_s=to_s,
        ),
        loop_options=LoopOptions(lane, frozen_after, max_seconds, _callers(caller or [])),
        outputs=Outputs(
            jsonl=jsonl,
            rotate_mb=rotate_mb,
            csv=csv,
            summary_csv=summary_csv,
            video=video,
            show=show,
            moments=moments,
            view=not quiet,
        ),
    )
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


def _callers(words: list[str]) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}
    for word in words:
        name, equals, numbers = word.partition("=")
        try:
            if not (name and equals):
                raise ValueError(word)
            values[name] = [float(n) for n in numbers.split(",")]
        except ValueError:
            raise UsageError(f"--caller {word}; expected NAME=NUMBER[,NUMBER...]") from None
    return values
