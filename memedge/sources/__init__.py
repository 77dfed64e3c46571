"""Sources: frames from one URI.

``camera0``, ``/dev/video0``; a file; a picture; a folder or a glob (one source each); ``rtsp://``, ``rtsps://``,
``http://``, ``https://``; ``csi://0`` and ``gst://PIPELINE`` (GStreamer); ``test://`` (a synthetic moving pattern);
``-`` (standard input). ``SourceOptions.decoder`` says which library decodes. Other packages add schemes through the
entry-point group ``memedge.sources``: name = scheme, value = a callable ``(uri, options) -> Source``.
"""

from __future__ import annotations

import difflib
import glob
import re
from pathlib import Path
from urllib.parse import unquote

from ..errors import SourceError, UsageError
from .base import DEFAULT_PIXEL_LIMIT, Source, SourceInfo, SourceOptions
from .names import PICTURE_SUFFIXES, VIDEO_SUFFIXES, camera_name, is_media, is_picture, label, scheme

__all__ = [
    "DEFAULT_PIXEL_LIMIT",
    "PICTURE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "Source",
    "SourceInfo",
    "SourceOptions",
    "expand",
    "label",
    "open_source",
]

_SCHEMES = ("rtsp", "rtsps", "http", "https", "csi", "gst", "test", "file")
# What people call them otherwise.
_ALIASES = {"gstreamer": "gst", "gst-launch": "gst", "argus": "csi", "nvarguscamerasrc": "csi", "mipi": "csi"}


def expand(uri: str, options: SourceOptions | None = None) -> list[str]:
    """The sources that a name means: itself, or the media files of a folder or glob, sorted by name.

    Folders are not searched below their first level; hidden files and other files than media are left out.

    Raises:
        SourceError: a missing path, or a folder or glob without media.
    """
    if uri == "-" or camera_name(uri) is not None or scheme(uri) is not None:
        return [uri]
    path = Path(uri).expanduser()
    if path.is_dir():
        try:
            found = sorted(str(entry) for entry in path.iterdir() if is_media(entry) and entry.is_file())
        except OSError as error:
            raise SourceError(f"{uri}: cannot be read: {error.strerror or error}") from None
        if not found:
            raise SourceError(f"{uri}: a folder without videos or pictures; expected at least one")
        return found
    if not path.exists() and glob.has_magic(uri):
        matches = [Path(match) for match in glob.glob(str(path), recursive=True)]
        found = sorted(str(match) for match in matches if is_media(match) and match.is_file())
        if not found:
            raise SourceError(f"{uri}: {len(matches)} matches, no videos or pictures among them; expected at least one")
        return found
    if not path.exists():
        raise _missing(uri, path)
    return [uri]


def open_source(uri: str, options: SourceOptions | None = None) -> Source:
    """A source that is not yet opened.

    Args:
        uri: what :func:`expand` returns; a folder with one media file is that file.
        options: how it will be opened.

    Raises:
        UsageError: an unknown scheme, or parameters of ``test://`` that it does not have.
        SourceError: a missing path, a folder without media, or with more than one file.
    """
    options = options or SourceOptions()
    check_decoder(uri, options)
    if uri == "-":
        from .stdin import StdinSource

        return StdinSource(options)
    through_gstreamer = options.decoder == "gstreamer"
    if camera_name(uri) is not None and not through_gstreamer:
        from .camera import CameraSource

        return CameraSource(uri, options)
    kind = scheme(uri)
    if kind in ("csi", "gst") or (through_gstreamer and (kind in ("rtsp", "rtsps") or camera_name(uri) is not None)):
        from .gstreamer import open_gstreamer

        return open_gstreamer(uri, options)
    if kind is not None and kind != "file":
        return _by_scheme(kind, uri, options)
    path = Path(unquote(uri[len("file://") :]) if kind == "file" else uri).expanduser()
    if path.is_dir():
        found = expand(str(path))
        if len(found) > 1:
            raise SourceError(f"{uri}: a folder with {len(found)} videos and pictures; open them one by one")
        path = Path(found[0])
    if not path.exists():
        raise _missing(uri, path)
    name = str(path) if kind == "file" else uri
    if is_picture(path):
        from .picture import PictureSource

        return PictureSource(path, options, name)
    if through_gstreamer:
        from .gstreamer import open_gstreamer_file

        return open_gstreamer_file(path, options, name)
    if options.decoder == "nvcodec":
        from .nvcodec import NvcodecSource

        return NvcodecSource(path, options, name)
    from .file import FileSource

    return FileSource(path, options, name)


def check_decoder(uri: str, options: SourceOptions) -> None:
    """Raise UsageError where the decoder that was asked for cannot read this kind of source."""
    kind, wanted = scheme(uri), options.decoder
    camera = camera_name(uri) is not None
    a_file = uri != "-" and not camera and kind in (None, "file")
    reads = {
        "auto": True,
        "pyav": kind not in ("csi", "gst"),
        "gstreamer": a_file or camera or kind in ("csi", "gst", "rtsp", "rtsps"),
        "nvcodec": a_file,
    }
    if not reads[wanted]:
        able = [name for name, can in reads.items() if can and name != "auto"]
        raise UsageError(
            f"--decoder {wanted} does not read '{label(uri)}'; expected {' or '.join(able) or 'no --decoder'}"
        )


def _by_scheme(kind: str, uri: str, options: SourceOptions) -> Source:
    if kind in ("rtsp", "rtsps", "http", "https"):
        from .network import NetworkSource

        return NetworkSource(uri, options)
    if kind == "test":
        from .pattern import PatternSource

        return PatternSource(uri, options)
    from importlib.metadata import entry_points

    points = {point.name: point for point in entry_points(group="memedge.sources")}
    if kind in points:
        try:
            source = points[kind].load()(uri, options)
        except (ImportError, AttributeError) as error:
            raise SourceError(f"source '{kind}://' of another package cannot be loaded: {error}") from None
        if not isinstance(source, Source):
            raise SourceError(f"source '{kind}://' of another package made {type(source).__name__}; expected a Source")
        return source
    known = [*_SCHEMES, *sorted(points)]
    close = [_ALIASES[kind]] if kind in _ALIASES else difflib.get_close_matches(kind, known, n=1)
    hint = f"; did you mean {close[0]}://?" if close else ""
    raise UsageError(f"unknown scheme '{kind}://'{hint} Known: {', '.join(f'{name}://' for name in known)}")


def _missing(uri: str, path: Path) -> SourceError:
    """No such path, and what may have been meant."""
    try:
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    except OSError:
        names = []
    meant = difflib.get_close_matches(path.name, names, n=1, cutoff=0.75)
    if meant:
        return SourceError(f"{uri}: no such file; did you mean {path.parent / meant[0]}?")
    pipeline = re.match(r"gst(?:reamer)?:/?(?!/)(.*)", uri)
    if pipeline is not None or " ! " in uri:
        return SourceError(f"{label(f'gst://{uri}')[6:]}: no such file; did you mean a pipeline, gst://...?")
    sensor = re.fullmatch(r"csi:?/?(\d*)", uri)
    if sensor is not None:
        return SourceError(f"{uri}: no such file; did you mean csi://{sensor[1] or 0}?")
    if difflib.get_close_matches(uri.rstrip("0123456789"), ["camera"], n=1, cutoff=0.6):
        return SourceError(f"{uri}: no such file; did you mean camera0?")
    return SourceError(f"{uri}: no such file or folder")
