"""Which part of a frame the kernel reads, and where it lies in a staging buffer.

Only what the crop needs is copied: of a 16:9 picture cropped to a square, some 45 %. Rows are stored at a pitch of a
multiple of 16 bytes, so that the kernel reads whole words, and all parts of a batch lie in one buffer, so that one copy
takes them to the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import FrameError
from ..frame import Frame, MemoryKind, PixelFormat, Plane, plane_shapes
from .driver import ALIGNMENT

_COLUMNS = 16
"""Parts begin at columns that are multiples of this: then rows of every plane begin at multiples of four bytes."""

_WHOLE, _PAIR = (1, 1, 1), (2, 1, 1)
_UNITS: dict[PixelFormat, tuple[tuple[int, int, int], ...]] = {
    PixelFormat.RGB24: ((1, 3, 1),),
    PixelFormat.BGR24: ((1, 3, 1),),
    PixelFormat.GRAY8: (_WHOLE,),
    PixelFormat.NV12: (_WHOLE, (2, 2, 2)),
    PixelFormat.I420: (_WHOLE, (2, 1, 2), (2, 1, 2)),
    PixelFormat.YUV422P: (_WHOLE, _PAIR, _PAIR),
    PixelFormat.YUV444P: (_WHOLE, _WHOLE, _WHOLE),
    PixelFormat.YUYV422: ((2, 4, 1),),
}
"""Of each plane: pixels across, and bytes, of its smallest unit; pixels down."""

Range = tuple[int, int]


@dataclass(frozen=True)
class Part:
    """A rectangle of one plane: rows from ``row``, bytes of each from ``byte``; ``pitch`` and ``offset`` in staging."""

    row: int
    rows: int
    byte: int
    row_bytes: int
    pitch: int
    offset: int

    @property
    def end_aligned(self) -> int:
        """Where the next part may begin."""
        return -(-self.end // ALIGNMENT) * ALIGNMENT

    @property
    def end(self) -> int:
        """First byte of the staging buffer behind the part."""
        return self.offset + self.rows * self.pitch

    def plane_address(self, staging: int) -> int:
        """Address that the whole plane would have; of it, only the part is there."""
        return staging + self.offset - self.row * self.pitch - self.byte


def parts(frame: Frame, columns: Range, rows: Range, offset: int, *, whole_rows: bool = False) -> list[Part]:
    """What the kernel reads of each plane for the source ``columns`` and ``rows`` (from, to) of its tables.

    Args:
        frame: format, size and the planes' pitches.
        columns, rows: in stored orientation.
        offset: where staging begins for this frame, a multiple of 256.
        whole_rows: rows as they lie in the frame, at its own pitch, so that one copy takes each plane.
    """
    # Around the tables' range: groups of four columns, chroma neighbours on either side.
    x0, x1 = _around(columns, _COLUMNS, frame.width)
    y0, y1 = _around(rows, 2, frame.height)
    found = []
    for plane, shape, unit in zip(
        frame.planes, plane_shapes(frame.format, frame.width, frame.height), _UNITS[frame.format], strict=True
    ):
        across, size, down = unit
        row, last = y0 // down, -(-y1 // down)
        byte, end = (0, shape[1]) if whole_rows else (x0 // across * size, -(-x1 // across) * size)
        pitch = plane.pitch if whole_rows else -(-(end - byte) // 16) * 16
        found.append(Part(row, last - row, byte, end - byte, pitch, offset))
        offset = found[-1].end_aligned
    return found


def _around(kept: Range, step: int, limit: int) -> Range:
    return max(kept[0] // step * step - step, 0), min(-(-kept[1] // step) * step + step, limit)


def copy_parts(planes: Sequence[NDArray[np.uint8]], found: Sequence[Part], staging: NDArray[np.uint8]) -> None:
    """Copy host planes (``Frame.host_planes``) into staging memory."""
    for plane, part in zip(planes, found, strict=True):
        target = staging[part.offset : part.end].reshape(part.rows, part.pitch)[:, : part.row_bytes]
        target[:] = plane[part.row : part.row + part.rows, part.byte : part.byte + part.row_bytes]


def device_plane(plane: Plane, rows: int, row_bytes: int) -> int:
    """Address of a plane in device memory, checked against what the frame declares.

    Raises:
        FrameError: no CUDA array interface, not uint8, released memory, rows of another pitch, or too little memory.
    """
    interface = getattr(plane.buffer, "__cuda_array_interface__", None)
    if interface is None:
        raise FrameError(
            f"device plane of {type(plane.buffer).__name__}; expected an object with the CUDA array interface"
        )
    address, shape, strides = interface["data"][0], interface["shape"], interface.get("strides")
    if interface["typestr"] not in ("|u1", "<u1") or not address:
        raise FrameError(f"device plane of type {interface['typestr']} at {address:#x}; expected |u1 at an address")
    inner = int(np.prod(shape[1:], dtype=np.int64))
    if strides is not None and _steps(shape[1:], strides[1:]) is False:
        raise FrameError(
            f"device plane of shape {shape} with strides {strides}; expected the bytes of a row side by side"
        )
    pitch = int(strides[0]) if strides is not None else inner
    if len(shape) < 2 or shape[0] < rows or (shape[0] > 1 and pitch != plane.pitch) or min(pitch, inner) < row_bytes:
        raise FrameError(
            f"device plane of shape {shape}, {pitch} bytes from row to row; expected {rows} rows of {row_bytes} bytes "
            f"at a pitch of {plane.pitch}"
        )
    return int(address)


def _steps(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether the elements of a row of bytes lie side by side."""
    step = 1
    for side, stride in zip(reversed(shape), reversed(strides), strict=True):
        if side > 1 and stride != step:
            return False
        step *= side
    return True


def pinned_address(plane: Plane) -> int:
    """Address of a page-locked plane. FrameError where its array has not the plane's pitch."""
    array = np.asarray(plane.buffer)
    if array.dtype != np.uint8 or array.strides != (plane.pitch, 1):
        raise FrameError(
            f"page-locked plane of {array.dtype}, strides {array.strides}; expected uint8, {plane.pitch} and 1"
        )
    return int(array.ctypes.data)


def memory_of(frame: Frame) -> MemoryKind:
    """The one memory kind of a frame's planes. FrameError where they differ."""
    kinds = {plane.memory for plane in frame.planes}
    if len(kinds) > 1:
        raise FrameError(f"planes in {' and '.join(sorted(k.value for k in kinds))} memory; expected one kind")
    return frame.memory
