"""From a decoder's frame to a Frame: planes without copying where the pixel format allows it, and what they mean.

Formats outside :class:`PixelFormat`:

- ``yuvj420p``, ``yuvj422p``, ``yuvj444p``: the same planes at full range. ``yuva...p``: the alpha plane is left out.
- 9 to 16 bits a sample, planar YUV, grey, P010, P012 and P016: reduced to 8 bits by a rounded table, subsampling kept
  (limited range: ``(v + half) >> (bits - 8)``; full range: ``v * 255 / (2 ** bits - 1)``). No tone mapping: HDR
  pictures look flat, as they do in any reader that does not know them.
- ``rgba``, ``gbrp``, ``pal8`` and all other RGB: swscale to ``rgb24``; alpha is dropped, as in Pillow's
  ``convert("RGB")``.
- all other YUV (4:1:1, 4:1:0, 4:4:0, NV21, UYVY ...): swscale with accurate rounding and full chroma, to the planar
  format of the same subsampling, else to 4:4:4, in the same matrix and range.

PyAV does not hand out the chroma siting that a stream declares, so it follows from the codec: ``center`` for JPEG,
MPEG-1, H.263 and Theora, ``left`` for the rest.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memedge_engines.frame import ChromaSiting, ColorMatrix, ColorRange, Frame, PixelFormat, Plane, plane_shapes

if TYPE_CHECKING:
    import av

_DIRECT = {
    **{pixel_format.value: pixel_format for pixel_format in PixelFormat},
    "gray8": PixelFormat.GRAY8,
    "yuvj420p": PixelFormat.I420,
    "yuvj422p": PixelFormat.YUV422P,
    "yuvj444p": PixelFormat.YUV444P,
    "yuva420p": PixelFormat.I420,
    "yuva422p": PixelFormat.YUV422P,
    "yuva444p": PixelFormat.YUV444P,
}
_DEEP = {"yuv420p": PixelFormat.I420, "yuv422p": PixelFormat.YUV422P, "yuv444p": PixelFormat.YUV444P}
_SEMI_PLANAR = {"p010": 10, "p012": 12, "p016": 16}  # bits lie at the top of 16

# AVColorSpace numbers: FCC, BT.470BG and SMPTE 170M share BT.601's numbers; SMPTE 240M is within 1 % of BT.709.
_MATRICES = {
    1: ColorMatrix.BT709,
    4: ColorMatrix.BT601,
    5: ColorMatrix.BT601,
    6: ColorMatrix.BT601,
    7: ColorMatrix.BT709,
    9: ColorMatrix.BT2020,
    10: ColorMatrix.BT2020,
}
_JPEG_CODECS = frozenset({"mjpeg", "mjpegb", "ljpeg", "jpegls", "jpeg2000", "libopenjpeg", "webp", "amv"})
_CENTERED = _JPEG_CODECS | {"mpeg1video", "h261", "h263", "h263p", "flv", "theora"}
# Codecs that code luma: their grey pictures are limited unless they say otherwise; others hold plain grey levels.
_VIDEO_CODECS = frozenset({"h264", "hevc", "av1", "libdav1d", "libaom-av1", "vp8", "vp9", "mpeg2video", "mpeg4", "vvc"})

# swscale: BILINEAR | FULL_CHR_H_INT | FULL_CHR_H_INP | ACCURATE_RND; the numbers are FFmpeg's ABI.
_ACCURATE = 0x2 | 0x2000 | 0x4000 | 0x40000


@dataclass(frozen=True)
class StreamFacts:
    """What the stream says for all its frames.

    Attributes:
        codec: FFmpeg's name of the codec.
        colorspace, color_range: AVColorSpace and AVColorRange of the codec context; 2 and 0 are "unspecified".
        camera: raw camera pictures are BT.601 unless they say otherwise (UVC 1.5, color matching descriptor).
        rotation: quarter turns that the container asks for, where frames do not say it themselves.
        turns: what was read of display matrices so far, by PyAV's angle of the frame.
    """

    codec: str = ""
    colorspace: int = 2
    color_range: int = 0
    camera: bool = False
    rotation: int = 0
    turns: dict[int, tuple[int, tuple[str, ...]]] = field(default_factory=dict, compare=False)


def to_frame(decoded: av.VideoFrame, facts: StreamFacts, flags: tuple[str, ...] = ()) -> Frame:
    """A Frame over the decoder's own memory, or over converted planes where its format needs it.

    Times, index and arrival are left at their defaults for the caller to fill. ``owner`` is the ``av.VideoFrame`` whose
    planes the Frame shows (of a converted frame: the converted one; none where the planes are the Frame's own).
    """
    name = decoded.format.name
    color_range = _range(decoded, facts, name)
    rotation, turn_flags = _rotation(decoded, facts)
    owner: Any = decoded
    deep = _deep_format(name)
    if name in _DIRECT:
        pixel_format = _DIRECT[name]
        planes = _views(decoded, pixel_format)
    elif deep is not None:
        pixel_format, bits, shift = deep
        planes = _reduced(decoded, pixel_format, bits, shift, color_range)
        owner = None
    else:
        pixel_format = _target(decoded.format)
        owner = _swscale(decoded, pixel_format, color_range)
        planes = _views(owner, pixel_format)
    if pixel_format in (PixelFormat.RGB24, PixelFormat.BGR24):
        color_range = ColorRange.FULL
    return Frame(
        planes,
        pixel_format,
        decoded.width,
        decoded.height,
        rotation=rotation,
        matrix=_matrix(decoded, facts),
        color_range=color_range,
        siting=ChromaSiting.CENTER if facts.codec in _CENTERED else ChromaSiting.LEFT,
        owner=owner,
        flags=(*flags, *(("corrupt",) if decoded.is_corrupt else ()), *turn_flags),
    )


def _matrix(decoded: av.VideoFrame, facts: StreamFacts) -> ColorMatrix:
    for declared in (int(decoded.colorspace), facts.colorspace):
        if declared in _MATRICES:
            return _MATRICES[declared]
    if facts.camera or facts.codec in _JPEG_CODECS:
        return ColorMatrix.BT601
    return ColorMatrix.BT709 if decoded.height >= 720 else ColorMatrix.BT601


def _range(decoded: av.VideoFrame, facts: StreamFacts, name: str) -> ColorRange:
    if name.startswith("yuvj"):
        return ColorRange.FULL
    for declared in (int(decoded.color_range), facts.color_range):
        if declared in (1, 2):
            return ColorRange.FULL if declared == 2 else ColorRange.LIMITED
    if facts.codec in _JPEG_CODECS:
        return ColorRange.FULL
    grey = name.startswith(("gray", "mono", "ya"))
    return ColorRange.FULL if grey and facts.codec not in _VIDEO_CODECS else ColorRange.LIMITED


def _views(decoded: av.VideoFrame, pixel_format: PixelFormat) -> list[Plane]:
    """The planes as they lie in the decoder's memory."""
    planes = []
    for source, (rows, row_bytes) in zip(
        decoded.planes, plane_shapes(pixel_format, decoded.width, decoded.height), strict=False
    ):
        array = _rows(source, rows)
        if array.shape[1] < row_bytes:  # the packed 4:2:2 of an odd width ends in half a pixel pair
            array = np.pad(array, ((0, 0), (0, row_bytes - array.shape[1])), mode="edge")
        planes.append(Plane(array, array.strides[0]))
    return planes


def _rows(source: Any, rows: int) -> NDArray[np.uint8]:
    pitch = source.line_size
    array = np.frombuffer(source, np.uint8, count=abs(pitch) * rows).reshape(rows, abs(pitch))
    # Bottom-up pictures have a negative pitch, which no kernel takes: these are copied.
    return array if pitch > 0 else np.ascontiguousarray(array[::-1])


def _deep_format(name: str) -> tuple[PixelFormat, int, int] | None:
    """(8-bit format, significant bits, unused low bits) of a format with more than 8 bits a sample, else none."""
    end = "le" if sys.byteorder == "little" else "be"
    if not name.endswith(end):
        return None
    stem = name[: -len(end)]
    if stem in _SEMI_PLANAR:
        bits = _SEMI_PLANAR[stem]
        return PixelFormat.NV12, bits, 16 - bits
    for prefix, pixel_format in (*_DEEP.items(), ("gray", PixelFormat.GRAY8)):
        if stem.startswith(prefix) and stem[len(prefix) :].isdigit():
            bits = int(stem[len(prefix) :])
            return (pixel_format, bits, 0) if 8 < bits <= 16 else None
    return None


def _reduced(
    decoded: av.VideoFrame, pixel_format: PixelFormat, bits: int, shift: int, color_range: ColorRange
) -> list[Plane]:
    table = _eight_bits(bits, color_range)
    planes = []
    for source, (rows, row_bytes) in zip(
        decoded.planes, plane_shapes(pixel_format, decoded.width, decoded.height), strict=False
    ):
        samples = _rows(source, rows).view(np.uint16)[:, :row_bytes]
        array = table.take(samples >> shift if shift else samples, mode="clip")
        planes.append(Plane(array, array.strides[0]))
    return planes


@lru_cache(maxsize=16)
def _eight_bits(bits: int, color_range: ColorRange) -> NDArray[np.uint8]:
    """Table from ``bits``-bit samples to 8-bit ones, rounded."""
    levels: NDArray[np.int64] = np.arange(1 << bits, dtype=np.int64)
    if color_range is ColorRange.FULL:
        top = (1 << bits) - 1
        levels = (levels * 255 + top // 2) // top
    else:
        levels = np.minimum((levels + (1 << (bits - 9))) >> (bits - 8), 255)
    return levels.astype(np.uint8)


def _target(pixel_format: av.VideoFormat) -> PixelFormat:
    """The nearest format that a Frame can hold."""
    name = pixel_format.name
    if pixel_format.is_rgb or pixel_format.has_palette or name.startswith(("xyz", "bayer")):
        return PixelFormat.RGB24
    if name.startswith(("gray", "mono", "ya")):
        return PixelFormat.GRAY8
    components: Sequence[Any] = pixel_format.components
    if len(components) < 3:
        return PixelFormat.GRAY8
    # Compared at this frame's size, so that both sides round in the same way.
    wide, tall = components[1].width == components[0].width, components[1].height == components[0].height
    half_w = components[1].width == (components[0].width + 1) // 2
    half_h = components[1].height == (components[0].height + 1) // 2
    if half_w and half_h and not wide and not tall:
        return PixelFormat.I420
    return PixelFormat.YUV422P if half_w and tall and not wide else PixelFormat.YUV444P


def _swscale(decoded: av.VideoFrame, pixel_format: PixelFormat, color_range: ColorRange) -> av.VideoFrame:
    yuv = pixel_format.is_yuv or pixel_format is PixelFormat.GRAY8
    number = (2 if color_range is ColorRange.FULL else 1) if yuv else 2
    return decoded.reformat(
        format=pixel_format.value,
        interpolation=_ACCURATE,
        src_color_range=number if yuv else None,
        dst_color_range=number,
    )


def _rotation(decoded: av.VideoFrame, facts: StreamFacts) -> tuple[int, tuple[str, ...]]:
    """Clockwise quarter turns that show the frame upright, and what cannot be said in quarter turns.

    An angle between quarter turns becomes the nearest one with the flag ``rotation_rounded``. A mirrored matrix (front
    cameras) is turned upright but left and right stay as stored, with the flag ``mirrored``.
    """
    angle = int(getattr(decoded, "rotation", 0))
    # PyAV's `side_data` ties frame and picture memory into a cycle that only the garbage collector undoes, so it is
    # read once for each angle and not for each frame.
    if angle not in facts.turns:
        facts.turns[angle] = (facts.rotation, ())
        entries: Any = decoded.side_data
        for data in entries:
            if getattr(data.type, "name", "") == "DISPLAYMATRIX":
                facts.turns[angle] = quarter_turns(bytes(data))
    return facts.turns[angle]


def quarter_turns(matrix: bytes) -> tuple[int, tuple[str, ...]]:
    """Clockwise turn in degrees and flags of a display matrix: nine native 32-bit integers, 16.16 fixed point.

    FFmpeg's ``display.h``: rows (a, b, u), (c, d, v), (x, y, w); a point (p, q) is shown at (a p + c q, b p + d q),
    with q counted downwards, so that (a, b) = (0, 1) is a quarter turn clockwise.
    """
    a, b, _, c, d = struct.unpack_from("=5i", matrix)
    flags: list[str] = []
    if a * d - b * c < 0:
        a = -a  # what is left when the picture shown is mirrored left to right
        flags.append("mirrored")
    if a == 0 and b == 0:
        return 0, tuple(flags)
    angle = float(np.degrees(np.arctan2(b, a))) % 360.0
    turn = round(angle / 90.0)
    if abs(angle - 90.0 * turn) > 1.0:
        flags.append("rotation_rounded")
    return turn % 4 * 90, tuple(flags)
