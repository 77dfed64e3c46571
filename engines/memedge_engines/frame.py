"""Frame: one picture of a source, in whatever memory and pixel format the source delivers it.

A frame owns nothing by itself: whoever made the planes passes ``release``, and whoever drops the frame calls it.
Host planes are numpy arrays; device planes are anything with the CUDA array interface or DLPack.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import FrameError


class PixelFormat(enum.Enum):
    """Pixel formats that every preprocessing path takes. The value is FFmpeg's name."""

    RGB24 = "rgb24"
    BGR24 = "bgr24"
    GRAY8 = "gray"
    NV12 = "nv12"
    I420 = "yuv420p"
    YUV422P = "yuv422p"
    YUV444P = "yuv444p"
    YUYV422 = "yuyv422"

    @property
    def is_yuv(self) -> bool:
        """Whether colour matrix, range and siting apply."""
        return self not in (PixelFormat.RGB24, PixelFormat.BGR24, PixelFormat.GRAY8)


class ColorMatrix(enum.Enum):
    """YCbCr to RGB matrix (Kr, Kb): BT.601 .299 .114, BT.709 .2126 .0722, BT.2020 .2627 .0593."""

    BT601 = "bt601"
    BT709 = "bt709"
    BT2020 = "bt2020"


class ColorRange(enum.Enum):
    """``limited``: luma 16..235, chroma 16..240; ``full``: 0..255. RGB is always full; GRAY8 follows its
    declaration."""

    LIMITED = "limited"
    FULL = "full"


class ChromaSiting(enum.Enum):
    """Where subsampled chroma samples lie: ``left`` (H.264, VP9, MPEG-4), ``center`` (JPEG, MPEG-1), ``topleft``."""

    LEFT = "left"
    CENTER = "center"
    TOPLEFT = "topleft"


class MemoryKind(enum.Enum):
    """Where a plane lies: ordinary host memory, page-locked host memory, device memory."""

    HOST = "host"
    PINNED = "pinned"
    DEVICE = "device"


class ReadyEvent(Protocol):
    """Completion of work that is still filling a frame's planes."""

    def wait(self) -> None:
        """Block until the planes may be read."""


@dataclass(frozen=True)
class Plane:
    """One plane. ``buffer``: uint8 ``[rows, pitch]`` on the host, or an object with ``__cuda_array_interface__``.

    ``pitch`` is the number of bytes from one row to the next; the payload of a row may be shorter.
    """

    buffer: Any
    pitch: int
    memory: MemoryKind = MemoryKind.HOST


@dataclass
class Frame:
    """One picture with everything that decides what it looks like and when it was taken.

    Attributes:
        planes: one plane for packed formats and GRAY8; Y, UV for NV12; Y, U, V for planar formats.
        format: pixel format.
        width, height: stored size in pixels, before rotation.
        rotation: clockwise quarter turns in degrees (0, 90, 180, 270) that show the picture upright.
        matrix, color_range, siting: colour of a YUV frame; ``color_range`` also of GRAY8; the rest unused for RGB.
        pts_s: capture time in seconds; for a file counted from its first frame.
        duration_s: time until the next frame where known, else the nominal interval, else 0.
        index: number of the frame in its source, from 0.
        arrival_ns: ``time.monotonic_ns()`` when the source handed it out.
        ready: completion of an asynchronous producer, or none.
        owner: the decoder's own frame object (an ``av.VideoFrame``), for paths that can use it directly.
        flags: what the source says of this frame (``corrupt``, ``reconnected`` ...); copied into the reading.
    """

    planes: Sequence[Plane]
    format: PixelFormat
    width: int
    height: int
    rotation: int = 0
    matrix: ColorMatrix = ColorMatrix.BT709
    color_range: ColorRange = ColorRange.LIMITED
    siting: ChromaSiting = ChromaSiting.LEFT
    pts_s: float = 0.0
    duration_s: float = 0.0
    index: int = 0
    arrival_ns: int = 0
    ready: ReadyEvent | None = None
    owner: Any = None
    flags: tuple[str, ...] = ()
    on_release: Callable[[], None] | None = None
    _references: int = field(default=1, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise FrameError(f"frame of {self.width}x{self.height} pixels; both sides must be at least 1")
        if self.rotation not in (0, 90, 180, 270):
            raise FrameError(f"rotation {self.rotation}; expected 0, 90, 180 or 270")
        expected = plane_shapes(self.format, self.width, self.height)
        if len(self.planes) != len(expected):
            raise FrameError(f"{self.format.value} frame with {len(self.planes)} planes; expected {len(expected)}")
        for number, (plane, (rows, row_bytes)) in enumerate(zip(self.planes, expected, strict=True)):
            if plane.pitch < row_bytes:
                raise FrameError(f"plane {number}: pitch {plane.pitch} bytes; a row needs {row_bytes}")
            if plane.memory is not MemoryKind.DEVICE:
                shape = getattr(plane.buffer, "shape", None)
                if shape is None or len(shape) != 2 or shape[0] < rows or shape[1] < row_bytes:
                    raise FrameError(f"plane {number}: buffer {shape}; expected uint8 [{rows}, >= {row_bytes}]")

    @property
    def display_size(self) -> tuple[int, int]:
        """(width, height) in pixels after rotation."""
        return (self.height, self.width) if self.rotation in (90, 270) else (self.width, self.height)

    @property
    def memory(self) -> MemoryKind:
        """Memory kind of the planes."""
        return self.planes[0].memory

    @property
    def released(self) -> bool:
        """Whether the last holder has let go."""
        return self._references <= 0

    def host_planes(self) -> list[NDArray[np.uint8]]:
        """The planes as uint8 ``[rows, row_bytes]`` views, waiting for ``ready``.

        Raises:
            FrameError: the frame was released, or lies in device memory.
        """
        if self.released:
            raise FrameError("frame used after its release")
        if self.memory is MemoryKind.DEVICE:
            raise FrameError("frame lies in device memory; a host path was asked to read it")
        if self.ready is not None:
            self.ready.wait()
        shapes = plane_shapes(self.format, self.width, self.height)
        return [
            np.asarray(plane.buffer)[:rows, :row_bytes]
            for plane, (rows, row_bytes) in zip(self.planes, shapes, strict=True)
        ]

    def retain(self) -> Frame:
        """One more holder; each holder calls :meth:`release` once."""
        with self._lock:
            if self._references <= 0:
                raise FrameError("frame retained after its release")
            self._references += 1
        return self

    def release(self) -> None:
        """Let go; the last holder's call gives the memory back. Raises FrameError when called once too often."""
        with self._lock:
            if self._references <= 0:
                raise FrameError("frame released twice")
            self._references -= 1
            last = self._references == 0
        if last:
            self.owner = None
            if self.on_release is not None:
                self.on_release()

    @classmethod
    def from_rgb(cls, picture: NDArray[np.uint8], **fields: Any) -> Frame:
        """A frame over an RGB uint8 ``[H, W, 3]`` array (not copied unless its rows are not contiguous)."""
        return cls._packed(picture, PixelFormat.RGB24, fields)

    @classmethod
    def from_bgr(cls, picture: NDArray[np.uint8], **fields: Any) -> Frame:
        """A frame over a BGR uint8 ``[H, W, 3]`` array, OpenCV's order."""
        return cls._packed(picture, PixelFormat.BGR24, fields)

    @classmethod
    def _packed(cls, picture: NDArray[np.uint8], pixel_format: PixelFormat, fields: dict[str, Any]) -> Frame:
        array = np.asarray(picture)
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
            raise FrameError(f"picture {array.dtype} {array.shape}; expected uint8 [height, width, 3]")
        height, width, _ = array.shape
        rows = np.ascontiguousarray(array).reshape(height, width * 3)
        return cls([Plane(rows, width * 3)], pixel_format, width, height, color_range=ColorRange.FULL, **fields)

    @classmethod
    def from_planes(
        cls, arrays: Sequence[NDArray[np.uint8]], pixel_format: PixelFormat, width: int, height: int, **fields: Any
    ) -> Frame:
        """A frame over host planes, each uint8 ``[rows, pitch]``."""
        return cls([Plane(a, a.strides[0]) for a in arrays], pixel_format, width, height, **fields)

    @classmethod
    def from_device(
        cls, surfaces: Sequence[Any], pixel_format: PixelFormat, width: int, height: int, **fields: Any
    ) -> Frame:
        """A frame over device planes: objects with the CUDA array interface, or DLPack producers that also have it.

        Raises:
            FrameError: a surface carries neither, or is not uint8.
        """
        planes = []
        for surface in surfaces:
            interface = getattr(surface, "__cuda_array_interface__", None)
            if interface is None:
                if hasattr(surface, "__dlpack__"):
                    raise FrameError(
                        "DLPack surface without the CUDA array interface; wrap it first",
                        fix="cupy.from_dlpack(surface) or torch.from_dlpack(surface)",
                    )
                raise FrameError(f"{type(surface).__name__} has no __cuda_array_interface__; expected a device array")
            if interface["typestr"] not in ("|u1", "<u1"):
                raise FrameError(f"device plane of type {interface['typestr']}; expected |u1")
            strides = interface.get("strides")
            shape = interface["shape"]
            pitch = int(strides[0]) if strides else int(np.prod(shape[1:], dtype=np.int64))
            planes.append(Plane(surface, pitch, MemoryKind.DEVICE))
        return cls(planes, pixel_format, width, height, **fields)


def plane_shapes(pixel_format: PixelFormat, width: int, height: int) -> list[tuple[int, int]]:
    """(rows, bytes of payload per row) of each plane; odd sides round chroma up, as FFmpeg does."""
    half_w, half_h = (width + 1) // 2, (height + 1) // 2
    if pixel_format in (PixelFormat.RGB24, PixelFormat.BGR24):
        return [(height, width * 3)]
    if pixel_format is PixelFormat.GRAY8:
        return [(height, width)]
    if pixel_format is PixelFormat.NV12:
        return [(height, width), (half_h, half_w * 2)]
    if pixel_format is PixelFormat.YUYV422:
        return [(height, half_w * 4)]
    if pixel_format is PixelFormat.YUV444P:
        return [(height, width)] * 3
    chroma = (half_h, half_w) if pixel_format is PixelFormat.I420 else (height, half_w)
    return [(height, width), chroma, chroma]
