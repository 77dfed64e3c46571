"""``me_job`` of ``kernels/pixels.h`` as a ctypes structure, and its fields from a frame and a contract.

The compiled CPU path and the CUDA kernel take the same structure; only the addresses are of another memory.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from ..frame import Frame, PixelFormat
from ..manifest import Preprocess
from ..preprocess.tables import chroma_steps, color_table

FORMATS: tuple[PixelFormat, ...] = (
    PixelFormat.RGB24,
    PixelFormat.BGR24,
    PixelFormat.GRAY8,
    PixelFormat.NV12,
    PixelFormat.I420,
    PixelFormat.YUV422P,
    PixelFormat.YUV444P,
    PixelFormat.YUYV422,
)
"""In the order of ``enum me_format``."""

ORDERS: tuple[str, ...] = ("rgb", "bgr", "gray")
"""In the order of ``enum me_order``."""


class ColorFields(ctypes.Structure):
    """``me_color``."""

    _fields_ = [(name, ctypes.c_int32) for name in ("base", "luma", "red_cr", "green_cb", "green_cr", "blue_cb")]


class AxisFields(ctypes.Structure):
    """``me_axis``: addresses of an :class:`AxisTable`'s arrays, number of results, taps of each."""

    _fields_ = [
        ("first", ctypes.c_uint64),
        ("weight", ctypes.c_uint64),
        ("count", ctypes.c_int32),
        ("taps", ctypes.c_int32),
    ]


class Job(ctypes.Structure):
    """``me_job``: one picture."""

    _fields_ = [
        ("plane", ctypes.c_uint64 * 3),
        ("pitch", ctypes.c_int32 * 3),
        *((name, ctypes.c_int32) for name in ("format", "width", "height", "rotation")),
        *((name, ctypes.c_int32) for name in ("sub_x", "sub_y", "half_x", "half_y", "order", "element")),
        ("color", ColorFields),
        ("x", AxisFields),
        ("y", AxisFields),
        ("table", ctypes.c_uint64),
        ("target", ctypes.c_uint64),
    ]


def describe(job: Job, frame: Frame, contract: Preprocess, planes: Sequence[tuple[int, int]]) -> None:
    """Set what a frame and its contract say; axes, table, element and target are the caller's.

    Args:
        job: written in place.
        frame: format, size, rotation, colour and siting are read; its planes are not.
        contract: for the order of channels.
        planes: (address, pitch in bytes) of each plane, pixel (0, 0) first.
    """
    for number, (address, pitch) in enumerate(planes):
        job.plane[number], job.pitch[number] = address, pitch
    job.format = FORMATS.index(frame.format)
    job.width, job.height, job.rotation = frame.width, frame.height, frame.rotation
    job.sub_x, job.sub_y, job.half_x, job.half_y = chroma_steps(frame)
    job.order = ORDERS.index(contract.color)
    color = color_table(frame.matrix, frame.color_range)
    job.color = ColorFields(color.base, color.luma, color.red_cr, color.green_cb, color.green_cr, color.blue_cb)
