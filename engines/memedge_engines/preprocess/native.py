"""The compiled CPU fast path: a frame and a contract to a job of ``kernels/host.cpp``.

Integer arithmetic (``kernels/pixels.h``), the same bytes as the CUDA kernel's; within one level of the reference,
whereby a YUV sample that lies within two millionths of half a level (one in a million) may be rounded to 8 bit the
other way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import PreprocessError
from ..frame import ChromaSiting, ColorMatrix, ColorRange, Frame, PixelFormat
from ..kernels.host import Absent, HostKernels, kernels
from ..kernels.job import AxisFields, Job, describe
from ..manifest import InputStorage, Preprocess
from .geometry import Geometry, geometry
from .reference import host_planes
from .tables import AxisTable, axes, value_table
from .workspace import Workspace

KEPT_GEOMETRIES = 16
"""Jobs that a preprocessor keeps ready; a camera needs one, a folder of photographs as many as it has sizes."""

LARGEST_RESULT = 1 << 30
"""Pixels of a result that ``kernels/host.cpp`` takes."""

Key = tuple[PixelFormat, int, int, int, ColorMatrix, ColorRange, ChromaSiting]

_workspace = Workspace()


@dataclass(frozen=True)
class _Prepared:
    """A job without addresses of planes, table and target. ``tables`` are held because the job has their addresses."""

    job: bytes
    shape: Geometry
    tables: tuple[AxisTable, AxisTable]
    scratch: int


class NativePreprocessor:
    """Carries out one contract on host frames by compiled code. Thread-safe: scratch memory is per thread.

    Args:
        contract: the preprocess contract.
        instructions: one of :attr:`HostKernels.instructions`; the fastest when none is named.

    Attributes:
        contract: the preprocess contract.
        name: what does the work, as reports print it.

    Raises:
        PreprocessError: there is no compiled code, or this processor has no such instructions.
    """

    def __init__(self, contract: Preprocess, instructions: str | None = None) -> None:
        found = kernels()
        if isinstance(found, Absent):
            raise PreprocessError(f"no compiled preprocessing: {found.reason}", fix=found.fix)
        chosen = instructions or found.instructions[-1]
        if chosen not in found.instructions:
            raise PreprocessError(f"instruction set '{chosen}'; this processor has {', '.join(found.instructions)}")
        self._kernels: HostKernels = found
        self._number = found.instructions.index(chosen)
        self._prepared: dict[Key, _Prepared] = {}
        self.contract = contract
        self.name = f"native ({chosen})"

    def geometry(self, frame: Frame) -> Geometry:
        """Sizes and offsets for this frame; PreprocessError where the contract cannot be carried out."""
        return geometry(self.contract, *frame.display_size)

    def picture(self, frame: Frame) -> NDArray[np.uint8]:
        """The resized, cropped, upright picture: uint8 ``[h, w, C]``, C-contiguous, owning its memory.

        Raises:
            PreprocessError: the frame lies in device memory, or the geometry is impossible (see :func:`geometry`).
            FrameError: the frame was released.
        """
        prepared = self._prepare(frame)
        shape = prepared.shape
        result = np.empty((shape.out_h, shape.out_w, self.contract.channels), np.uint8)
        self._run(prepared, frame, result, None)
        return result

    def tensor(self, frame: Frame, storage: InputStorage | None = None) -> NDArray[Any]:
        """What a node takes of this frame alone: the same as :func:`to_tensor` of the picture, in the input's dtype.

        Raises:
            PreprocessError, FrameError: as :meth:`picture`; or mean and std that do not fit.
        """
        prepared = self._prepare(frame)
        shape, channels = prepared.shape, self.contract.channels
        table = value_table(self.contract, storage)
        result = np.empty((1, channels, shape.out_h, shape.out_w), table.dtype)
        self._run(prepared, frame, result, table)
        if self.contract.layout == "nchw":
            return result
        return result[:, :, None] if self.contract.layout == "ncthw" else result[:, None]

    def _prepare(self, frame: Frame) -> _Prepared:
        """The job of frames like this one, kept for the next."""
        key = (
            frame.format, frame.width, frame.height, frame.rotation, frame.matrix, frame.color_range, frame.siting,
        )  # fmt: skip
        found = self._prepared.get(key)
        if found is None:
            if len(self._prepared) >= KEPT_GEOMETRIES:
                self._prepared.clear()
            found = self._prepared[key] = self._new(frame)
        return found

    def _new(self, frame: Frame) -> _Prepared:
        shape = self.geometry(frame)
        if shape.out_w * shape.out_h > LARGEST_RESULT:
            raise PreprocessError(
                f"a picture of {shape.out_w}x{shape.out_h} pixels as result; the limit is {LARGEST_RESULT} pixels"
            )
        tables = axes(shape.unrotated(frame.rotation), self.contract.resize.filter)
        job = Job()
        describe(job, frame, self.contract, [])
        job.x, job.y = (_axis(table) for table in tables)
        # The size of the scratch memory does not depend on these addresses; a job without any is not valid.
        job.plane[:] = [1, 1, 1]
        job.target = 1
        scratch = self._kernels.scratch_bytes(job)
        if not scratch:
            raise PreprocessError(f"no job for a {frame.format.value} frame of {frame.width}x{frame.height} pixels")
        return _Prepared(bytes(job), shape, tables, scratch)

    def _run(self, prepared: _Prepared, frame: Frame, result: NDArray[Any], table: NDArray[Any] | None) -> None:
        planes = [_bytes(plane) for plane in host_planes(frame)]
        job = Job.from_buffer_copy(prepared.job)
        for number, plane in enumerate(planes):
            job.plane[number], job.pitch[number] = _address(plane), plane.strides[0]
        if table is not None:
            job.table, job.element = _address(table), table.itemsize
        job.target = _address(result)
        scratch = _workspace.array("scratch", (prepared.scratch,), np.uint8)
        code = self._kernels.run(job, self._number, scratch)
        if code:
            raise PreprocessError(
                f"compiled preprocessing refused a {frame.format.value} frame of {frame.width}x{frame.height} pixels "
                f"(code {code})",
                fix="set MEMEDGE_PREPROCESS=numpy and report this",
            )


def _axis(table: AxisTable) -> AxisFields:
    count, taps = table.weights.shape
    return AxisFields(_address(table.first), _address(table.weights), count, taps)


def _address(array: NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _bytes(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The plane with the bytes of a row side by side."""
    if plane.dtype != np.uint8:
        raise PreprocessError(f"plane of {plane.dtype}; expected uint8")
    return plane if plane.strides[1] == 1 or plane.shape[1] == 1 else np.ascontiguousarray(plane)
