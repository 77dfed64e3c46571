"""Names of sources: which kind a name means, and the label that readings, errors and logs may show."""

from __future__ import annotations

import re
from pathlib import Path

_VIDEO = (
    ".mp4 .m4v .mov .mkv .webm .avi .ts .mts .m2ts .mpg .mpeg .vob .wmv .asf .flv .f4v .3gp .3g2 .ogv .mxf .y4m "
    ".h264 .264 .h265 .265 .hevc .ivf .obu .mjpeg .mjpg .nut .dv .divx .rm .rmvb"
)
_PICTURE = (
    ".jpg .jpeg .jpe .jfif .png .apng .bmp .dib .gif .webp .tif .tiff .ppm .pgm .pbm .pnm .jp2 .j2k .tga .ico .avif"
)
VIDEO_SUFFIXES = frozenset(_VIDEO.split())
PICTURE_SUFFIXES = frozenset(_PICTURE.split())
_MAGIC = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ",
)  # fmt: skip
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)://")
_CAMERA = re.compile(r"^camera(\d+)$|^(/dev/video\d+)$")
_AUTHORITY = re.compile(r"(?<=://)[^\s\"'@]*@")
_ACCOUNT = re.compile(r"(?i)(\b(?:user-id|user-pw|proxy-id|proxy-pw)\s*=\s*)(?:\"(?:[^\"\\\\]|\\\\.)*\"|\S+)")
_TELLING = (
    r"(?i)((?:user(?:name)?|usr|pass(?:word|wd|phrase)?|pwd|(?:\w*_)?token|(?:api_?)?key|secret|auth\w*|sig(?:nature)?"
    r"|credentials?|login|account)=)"
)
_SECRET = re.compile(_TELLING + r"[^&#/]*")
_SECRET_IN_TEXT = re.compile(_TELLING + r"[^&#/\s\"!]*")


def scheme(uri: str) -> str | None:
    """``rtsp`` of ``rtsp://...``, in lower case; none for paths (a Windows drive is a path)."""
    match = _SCHEME.match(uri)
    return match.group(1).lower() if match else None


def camera_name(uri: str) -> str | None:
    """The number of ``camera2`` or the path ``/dev/video2``; none for anything else."""
    match = _CAMERA.match(uri)
    return None if match is None else match.group(1) or match.group(2)


def label(uri: str) -> str:
    """The name of a source without credentials: the user part of an address and telling parameters become ``***``."""
    match = _SCHEME.match(uri)
    if match is None or match.group(1).lower() == "file":
        return uri
    if match.group(1).lower() == "gst":
        return without_secrets(uri)
    head, rest = uri[: match.end()], uri[match.end() :]
    place = re.split(r"[?#]", rest, maxsplit=1)[0]
    authority = place.split("/", 1)[0]
    # A password may hold "/" or "@" itself; better to hide too much of an address than to show a part of it.
    if "@" in authority or (":" in authority and "@" in place):
        rest = "***@" + rest[place.rfind("@") + 1 :]
    return head + _SECRET.sub(r"\1***", rest)


def without_secrets(text: str) -> str:
    """Any text (a pipeline, a library's message) with the credentials of every address in it hidden."""
    return _SECRET_IN_TEXT.sub(r"\1***", _ACCOUNT.sub(r"\1***", _AUTHORITY.sub("***@", text)))


def is_media(path: Path) -> bool:
    """Whether a folder's file counts as media, by its suffix; hidden files do not."""
    return path.suffix.lower() in VIDEO_SUFFIXES | PICTURE_SUFFIXES and not path.name.startswith(".")


def is_picture(path: Path) -> bool:
    """Whether Pillow should read the file: by its suffix, and where that says nothing by its first bytes."""
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES or suffix in PICTURE_SUFFIXES:
        return suffix in PICTURE_SUFFIXES
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:
        return False
    return head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
