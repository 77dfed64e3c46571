"""From a GStreamer sample to a Frame: layout from the video meta, colours from the caps, turn from the tags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memedge_engines.frame import ChromaSiting, ColorMatrix, ColorRange, Frame, PixelFormat, Plane, plane_shapes

from ..errors import SourceError
from .gstreamer_library import Gstreamer

_PIXEL_FORMATS = {
    "NV12": PixelFormat.NV12,
    "I420": PixelFormat.I420,
    "Y42B": PixelFormat.YUV422P,
    "Y444": PixelFormat.YUV444P,
    "YUY2": PixelFormat.YUYV422,
    "GRAY8": PixelFormat.GRAY8,
    "RGB": PixelFormat.RGB24,
    "BGR": PixelFormat.BGR24,
}
# GstVideoColorMatrix by nick. FCC is BT.601 within a percent, SMPTE 240M is BT.709 within one.
_MATRICES = {
    "bt709": ColorMatrix.BT709,
    "bt601": ColorMatrix.BT601,
    "fcc": ColorMatrix.BT601,
    "smpte240m": ColorMatrix.BT709,
    "bt2020": ColorMatrix.BT2020,
}
_RANGES = {"0-255": ColorRange.FULL, "16-235": ColorRange.LIMITED}
_ORIENTATIONS = {"rotate-0": 0, "rotate-90": 90, "rotate-180": 180, "rotate-270": 270}


@dataclass(frozen=True)
class Layout:
    """What caps say of every picture; ``offsets``, ``strides``: bytes of planes where a buffer has no video meta."""

    format: PixelFormat
    width: int
    height: int
    offsets: tuple[int, ...]
    strides: tuple[int, ...]
    matrix: ColorMatrix
    color_range: ColorRange
    siting: ChromaSiting
    fps: float | None


def layout(gst: Gstreamer, caps: Any, coded: Any, label: str, *, camera: bool, pixel_limit: int) -> Layout:
    """Read caps.

    Args:
        caps: of the pictures.
        coded: caps of the stream before its decoder, or none. GStreamer writes a guess into the pictures' caps where
            the stream declares no colours (BT.2020 for any 8-bit picture of UHD size); the stream's caps tell which
            it is, and then memedge's own rule holds: BT.709 from 720 lines on, BT.601 below and for cameras.
        camera: whether the stream is a camera's own.

    Raises:
        SourceError: not plain video in ordinary memory in one of our formats, or larger than the limit.
    """
    structure = caps.get_structure(0)
    features = caps.get_features(0)
    system = features is None or features.contains("memory:SystemMemory")
    name = structure.get_string("format") or ""
    if structure.get_name() != "video/x-raw" or not system or name not in _PIXEL_FORMATS:
        found = structure.get_name() + ("" if system else f"({features.to_string()})") + (f" {name}" if name else "")
        convert = "nvvidconv" if "NVMM" in found else "videoconvert"
        raise SourceError(
            f"{label}: the pipeline delivers {found}; expected video/x-raw in {', '.join(_PIXEL_FORMATS)}",
            fix=f"end the pipeline in '{convert} ! video/x-raw,format=NV12'",
        )
    info = gst.GstVideo.VideoInfo.new_from_caps(caps)
    if info.width * info.height > pixel_limit:
        raise SourceError(f"{label}: pictures of {info.width}x{info.height} pixels; the limit is {pixel_limit} pixels")
    declared = caps if coded is None else coded
    jpeg = coded is not None and coded.get_structure(0).get_name() == "image/jpeg"
    pixel_format = _PIXEL_FORMATS[name]
    planes = len(plane_shapes(pixel_format, info.width, info.height))
    return Layout(
        pixel_format,
        info.width,
        info.height,
        tuple(info.offset[:planes]),
        tuple(info.stride[:planes]),
        _matrix(info, declared, camera or jpeg),
        _range(info, declared, pixel_format, jpeg),
        _siting(gst, info, declared, jpeg),
        # Containers of variable rate declare the unit of their clock; no camera or film is that fast.
        info.fps_n / info.fps_d if 0 < info.fps_n <= 1000 * info.fps_d else None,
    )


def _declares(caps: Any, field: str) -> bool:
    return bool(caps.get_structure(0).has_field(field))


def _matrix(info: Any, declared: Any, sd: bool) -> ColorMatrix:
    if _declares(declared, "colorimetry"):
        found = _MATRICES.get(_nick(info.colorimetry.matrix))
        if found is not None:
            return found
    return ColorMatrix.BT601 if sd or info.height < 720 else ColorMatrix.BT709


def _range(info: Any, declared: Any, pixel_format: PixelFormat, jpeg: bool) -> ColorRange:
    if pixel_format in (PixelFormat.RGB24, PixelFormat.BGR24):
        return ColorRange.FULL
    if _declares(declared, "colorimetry"):
        found = _RANGES.get(_nick(info.colorimetry.range))
        if found is not None:
            return found
    return ColorRange.FULL if jpeg else ColorRange.LIMITED


def _siting(gst: Gstreamer, info: Any, declared: Any, jpeg: bool) -> ChromaSiting:
    if _declares(declared, "chroma-site"):
        sites = gst.GstVideo.VideoChromaSite
        if info.chroma_site == sites.COSITED:
            return ChromaSiting.TOPLEFT
        if info.chroma_site == sites.H_COSITED:
            return ChromaSiting.LEFT
        if info.chroma_site == sites.NONE:
            return ChromaSiting.CENTER
    return ChromaSiting.CENTER if jpeg else ChromaSiting.LEFT


def _nick(value: Any) -> str:
    return str(getattr(value, "value_nick", ""))


def frame(gst: Gstreamer, buffer: Any, known: Layout, rotation: int, flags: tuple[str, ...]) -> Frame:
    """A Frame with a copy of the picture: one, so that a camera's few buffers go back to it at once.

    Raises:
        SourceError: the buffer cannot be read, or is smaller than its picture.
    """
    meta = gst.GstVideo.buffer_get_video_meta(buffer)
    shapes = plane_shapes(known.format, known.width, known.height)
    offsets = known.offsets if meta is None else tuple(meta.offset[: len(shapes)])
    strides = known.strides if meta is None else tuple(meta.stride[: len(shapes)])
    answer = buffer.map(gst.Gst.MapFlags.READ)
    # (success, what was mapped); with gst-python's overrides only the latter, and a failure is raised.
    readable, mapped = answer if isinstance(answer, tuple) else (True, answer)
    if not readable:
        raise SourceError("a GStreamer buffer cannot be read by the CPU")
    try:
        data = np.frombuffer(bytes(mapped.data), np.uint8)  # a copy, unless PyGObject made one already
    finally:
        buffer.unmap(mapped)
    planes = [
        _plane(data, offset, stride, rows, row_bytes)
        for offset, stride, (rows, row_bytes) in zip(offsets, strides, shapes, strict=True)
    ]
    if known.format is PixelFormat.YUYV422 and known.width % 2:
        planes = [_whole_pairs(planes[0], known.width)]
    return Frame(
        planes,
        known.format,
        known.width,
        known.height,
        rotation=rotation,
        matrix=known.matrix,
        color_range=known.color_range,
        siting=known.siting,
        flags=flags,
    )


def _plane(data: NDArray[np.uint8], offset: int, stride: int, rows: int, row_bytes: int) -> Plane:
    end = offset + stride * (rows - 1) + row_bytes
    if stride < row_bytes or offset < 0 or end > data.size:
        raise SourceError(f"a GStreamer buffer of {data.size} bytes; its picture needs {end}")
    whole = data[offset : offset + stride * rows]
    if whole.size < stride * rows:  # the last row may come without its padding
        whole = np.concatenate([whole, np.zeros(stride * rows - whole.size, np.uint8)])
    return Plane(whole.reshape(rows, stride), stride)


def _whole_pairs(plane: Plane, width: int) -> Plane:
    """GStreamer leaves the second luma and the V of an odd row's last pair as they were in memory: fill them in."""
    rows = plane.buffer.copy()
    last = width // 2 * 4
    rows[:, last + 2] = rows[:, last]
    rows[:, last + 3] = rows[:, last - 1] if last else 128
    return Plane(rows, plane.pitch)


def turn(gst: Gstreamer, pad: Any) -> tuple[int, tuple[str, ...]]:
    """Clockwise quarter turns that the stream's tags ask for, and ``mirrored`` where they ask for more."""
    Gst = gst.Gst
    found = ""
    for number in range(8):  # a sticky event of each demuxer and parser on the way
        event = pad.get_sticky_event(Gst.EventType.TAG, number)
        if event is None:
            break
        there, text = event.parse_tag().get_string(Gst.TAG_IMAGE_ORIENTATION)
        found = text if there else found
    flags = ("mirrored",) if found.startswith("flip-") else ()
    return _ORIENTATIONS.get(found.removeprefix("flip-"), 0), flags
