"""``memedge run --dry-run``: what would run, without opening a source, an engine or an output."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from memedge_engines import backends, choice
from memedge_engines.backends.base import EngineOptions
from memedge_engines.bundle import Bundle

from .errors import EngineError, SourceError
from .loading import open_bundle
from .running import Outputs, RunRequest, checked_sources
from .sources import Source, label, names, open_source


def dry_run(request: RunRequest) -> Iterator[str]:
    """Whole lines: sources with their decoder and pipeline, bundles with their engine, outputs.

    Files are read as far as their header; nothing is written.

    Raises:
        MemedgeError: whatever would keep the run from beginning, as far as it shows without opening anything.
    """
    for uri in checked_sources(request):
        yield from _source(uri, request)
    for path in request.bundles or (None,):
        yield _bundle(path, request)
    yield from _outputs(request.outputs)


def _source(uri: str, request: RunRequest) -> list[str]:
    source = open_source(uri, request.source_options)
    line = f"source {label(uri)}: {_kind(uri, source)}, read by {_decoder(source)}"
    return [line, *_pipeline(source)]


def _kind(uri: str, source: Source) -> str:
    scheme = names.scheme(uri)
    if names.camera_name(uri) is not None or scheme == "csi":
        return "camera"
    if uri == "-":
        return "standard input"
    named = {"gst": "pipeline", "test": "test pattern", "file": "file", None: "file"}
    return "picture" if _module(source) == "picture" else named.get(scheme, "network")


def _module(source: Source) -> str:
    return type(source).__module__.rpartition(".")[2]


def _decoder(source: Source) -> str:
    """What reads it. By the module of its class, so that no optional library is imported for the question."""
    readers = {
        "gstreamer": "GStreamer",
        "nvcodec": "PyNvVideoCodec (NVDEC), frames in device memory",
        "picture": "Pillow",
        "pattern": "the synthetic pattern",
    }
    own = type(source).__module__.startswith("memedge.")
    return readers.get(_module(source), "PyAV (FFmpeg)") if own else f"{type(source).__module__} (another package)"


def _pipeline(source: Source) -> list[str]:
    """What an optional library would be given, and why it cannot be used here."""
    if _module(source) == "nvcodec":
        from .sources import nvcodec

        found = nvcodec.availability()
        return [] if found.usable else [f"not usable here: {found.reason} (fix: {found.fix})"]
    if _module(source) != "gstreamer":
        return []
    from .sources import gstreamer, gstreamer_library

    if not isinstance(source, (gstreamer.GstSource, gstreamer.GstFileSource)):
        return []
    planned = source.planned()
    lines = [f"pipeline: {planned.shown}"]
    try:
        route = gstreamer.route(source.kind)
        lines.append(f"pipeline through: {route}")
        if route == "PyGObject" and source.kind != "pipeline":
            gstreamer_library.check(planned, gstreamer_library.elements())
    except SourceError as error:
        lines.append(f"not usable here: {error}")
    return lines


def _bundle(path: Path | None, request: RunRequest) -> str:
    bundle = open_bundle(path)
    options = EngineOptions(threads=request.threads, bf16=request.bf16)
    order = choice.candidates(bundle, request.engine, request.precision)
    known = choice.remembered(bundle, request.precision, options) if request.engine == "auto" else None
    if known in order:
        order = [known, *(one for one in order if one != known)]
    reasons: dict[str, str] = {}
    name = bundle.manifest.name
    wanted, fix = _to_build(bundle, request), "memedge doctor"
    for candidate in order:
        found = backends.get(candidate.backend).availability()
        if not found.usable:
            reasons[candidate.backend] = found.reason
        elif candidate.backend == "tensorrt" and not choice.planned(bundle, candidate, options):
            reasons[candidate.backend], fix = "its plan was not built here yet", "memedge build"
        else:
            why = ", remembered as the fastest here" if candidate == known else ""
            passed = "".join(f"; not {engine}: {reason}" for engine, reason in reasons.items())
            beside = wanted is not None and candidate.backend != "tensorrt"
            later = f"; {wanted}: its plan is built meanwhile and takes over" if beside else ""
            return f"bundle {name}: {_engine(candidate)}{why}{passed}{later}"
    if wanted is not None:
        return f"bundle {name}: {_engine(wanted)}; its plan is built first"
    told = "; ".join(f"{engine}: {reason}" for engine, reason in reasons.items())
    raise EngineError(f"no engine can run bundle '{name}' here: {told}", fix=fix)


def _engine(candidate: choice.Candidate) -> str:
    return f"engine {candidate.backend}, {candidate.precision} (lowering {candidate.lowering})"


def _to_build(bundle: Bundle, request: RunRequest) -> choice.Candidate | None:
    """What the run would build a plan for."""
    if not request.build or request.bf16:
        return None
    return choice.unbuilt(bundle, request.engine, request.precision)


def _outputs(outputs: Outputs) -> Iterator[str]:
    for flag, path in outputs.texts().items():
        yield f"output {flag}: {'stdout' if path == '-' else path}"
    for flag, place in (("--video", outputs.video), ("--moments", outputs.moments)):
        if place is not None:
            yield f"output {flag}: {place}"
    if outputs.show:
        yield "output --show: a window"
    yield "output: the live view in the terminal" if outputs.view else "output: no live view (--quiet)"
