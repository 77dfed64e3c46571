"""Frames to the tensor of one input on the GPU: one upload, one launch of the preprocessing kernel.

How an executor uses it, from its bound worker thread::

    maker = PicturesToTensor(driver, contract, storage, max_batch=4, slots=2)
    maker.picture_shape(frame)              # (C, h, w); the same for every frame when the contract fixes the size
    maker.prepare(slot, frames, target)     # host work: staging memory and the slot's parameter block are written
    maker.upload(slot, copy_stream)         # queues the copies to the device, of any size; outside a captured graph
    maker.launch(slot, stream)              # queues one kernel; may be captured
    maker.enqueue(slot, frames, target, stream)     # the three in one stream

- A *slot* is one set of staging memory and parameter block. ``prepare`` may write it only when all work that was queued
  from it is done (wait for the event behind its launch); two slots overlap the upload of frame n+1 with the work on n.
- A captured ``launch(slot, stream)`` stays valid for every later ``prepare`` of the same slot whose
  :meth:`PicturesToTensor.signature` is the same: geometry, colour, formats, addresses and the target are read from the
  parameter block. Different signature (another number of frames or another picture size): another graph.
- ``target`` is the device address of ``[len(frames), C, h, w]`` elements of the input's dtype, contiguous.
- Frames stay the caller's. Host frames may be released when ``prepare`` has returned (their planes were copied into
  staging memory); page-locked and device frames are read by ``upload`` and by the kernel: release them when the work
  is done.
- ``prepare``, ``upload`` and ``launch`` raise :class:`FrameError` / :class:`PreprocessError` for what cannot be done
  and :class:`CudaError` from the driver. After a failed ``prepare`` the slot holds no batch.
- ``close`` frees everything, after the caller has waited for what it queued and destroyed graphs that were captured.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import CudaError, EngineError, PreprocessError
from ..frame import Frame
from ..kernels.job import Job, describe
from ..manifest import InputStorage, Preprocess
from ..preprocess.geometry import Geometry, geometry
from ..preprocess.tables import axes, value_table
from .driver import Driver
from .driver_errors import unless_lost
from .kernel import JobBlock, Kernel
from .staging import Staging, wait_for
from .tables import DeviceArray, DeviceAxes, DeviceAxis

Signature = tuple[int, int, int]
"""(frames, height, width)."""


class PicturesToTensor:
    """Carries out one contract for one input of one engine; see the module.

    Args:
        driver: bound; every method is called from a thread that is.
        contract: the input's preprocess contract, of layout ``nchw``.
        storage: dtype (and scale) of the input; none: float32.
        max_batch: most frames of one ``prepare``.
        slots: batches that may be under way at once.
        mapped: the kernel reads staging memory in place instead of a copy on the device (integrated GPUs).

    Raises:
        PreprocessError: mean and std that do not fit the contract's channels.
        CudaError: the kernel cannot be loaded, or memory ran out.
    """

    def __init__(
        self,
        driver: Driver,
        contract: Preprocess,
        storage: InputStorage | None = None,
        max_batch: int = 1,
        slots: int = 1,
        mapped: bool = False,
    ) -> None:
        values = value_table(contract, storage)
        self.contract = contract
        self.max_batch = max_batch
        self._driver = driver
        self._element = values.itemsize
        self._slots: list[_Slot] = []
        self._values: DeviceArray | None = None
        self._axes: DeviceAxes | None = None
        self._kernel: Kernel | None = None
        # For tables alone: their copies are waited for before anything that uses them is queued.
        self._stream = driver.stream_create()
        try:
            self._kernel = Kernel(driver)
            self._axes = DeviceAxes(driver, self._stream)
            self._values = DeviceArray(driver, self._stream, values)
            while len(self._slots) < slots:
                self._slots.append(_Slot(driver, max_batch, mapped))
        except BaseException:
            self.close()
            raise

    def picture_shape(self, frame: Frame) -> tuple[int, int, int]:
        """(channels, height, width) of this frame's part of the tensor. PreprocessError: the contract cannot be met."""
        shape = self._geometry(frame)
        return self.contract.channels, shape.out_h, shape.out_w

    def prepare(self, slot: int, frames: Sequence[Frame], target: int) -> None:
        """Write a slot for these frames; nothing queued may read the slot.

        Raises:
            PreprocessError: the contract cannot be carried out, or gives pictures of different sizes.
            FrameError: a frame that was released, or whose planes are not what it declares.
            EngineError: no frame, or more than ``max_batch``.
            CudaError: the driver refuses.
        """
        state = self._slot(slot)
        state.signature = None
        if not 1 <= len(frames) <= self.max_batch:
            raise EngineError(f"{len(frames)} frames for one launch; expected 1 to {self.max_batch}")
        shapes = [self._geometry(frame) for frame in frames]
        height, width = shapes[0].out_h, shapes[0].out_w
        for frame, shape in zip(frames, shapes, strict=True):
            if (shape.out_h, shape.out_w) != (height, width):
                raise PreprocessError(
                    f"pictures of {width}x{height} and {shape.out_w}x{shape.out_h} in one tensor; expected one size"
                )
            wait_for(self._driver, frame)
        axes_, old = self._take_axes(frames, shapes), state.axes
        # From here on the slot's block no longer names the old axes, whatever happens.
        state.axes = [axis for pair in axes_ for axis in pair]
        self._give_back(old)
        ranges = [(x.table.source_range, y.table.source_range) for x, y in axes_]
        planes = state.staging.fill(frames, ranges)
        size = self.contract.channels * height * width * self._element
        jobs = []
        for number, frame in enumerate(frames):
            job = Job()
            describe(job, frame, self.contract, planes[number])
            job.x, job.y = axes_[number][0].fields, axes_[number][1].fields
            job.table, job.element = self._address_of_values(), self._element
            job.target = target + number * size
            jobs.append(job)
        state.block.write(jobs)
        state.signature = (len(frames), height, width)

    def signature(self, slot: int) -> Signature:
        """What a captured ``launch`` of the slot depends on. EngineError where nothing is prepared."""
        found = self._slot(slot).signature
        if found is None:
            raise EngineError(f"slot {slot} holds no batch; prepare it first")
        return found

    def upload(self, slot: int, stream: int) -> None:
        """Queue the copies of a prepared slot to the device."""
        count = self.signature(slot)[0]
        state = self._slot(slot)
        state.staging.upload(stream)
        state.block.upload(count, stream)

    def launch(self, slot: int, stream: int) -> None:
        """Queue the kernel for a prepared slot; its upload must come before it."""
        count, height, width = self.signature(slot)
        if self._kernel is None:
            raise EngineError("PicturesToTensor was used after it was closed")
        self._kernel.launch(self._slot(slot).block.address, (height, width), count, stream)

    def enqueue(self, slot: int, frames: Sequence[Frame], target: int, stream: int) -> None:
        """``prepare``, ``upload`` and ``launch``."""
        self.prepare(slot, frames, target)
        self.upload(slot, stream)
        self.launch(slot, stream)

    def close(self) -> None:
        """Free everything; safe to call twice."""
        while self._slots:
            self._slots.pop().close()
        for held in (self._values, self._axes, self._kernel):
            if held is not None:
                held.close()
        self._values = self._axes = self._kernel = None
        stream, self._stream = self._stream, 0
        if stream:
            unless_lost(lambda: self._driver.stream_destroy(stream))

    def _slot(self, number: int) -> _Slot:
        if not 0 <= number < len(self._slots):
            raise EngineError(f"slot {number}; expected 0 to {len(self._slots) - 1}, before close")
        return self._slots[number]

    def _geometry(self, frame: Frame) -> Geometry:
        return geometry(self.contract, *frame.display_size)

    def _address_of_values(self) -> int:
        assert self._values is not None
        return self._values.buffer.address

    def _take_axes(self, frames: Sequence[Frame], shapes: Sequence[Geometry]) -> list[tuple[DeviceAxis, DeviceAxis]]:
        assert self._axes is not None
        taken: list[DeviceAxis] = []
        try:
            for frame, shape in zip(frames, shapes, strict=True):
                for table in axes(shape.unrotated(frame.rotation), self.contract.resize.filter):
                    taken.append(self._axes.take(table))
        except CudaError:
            self._give_back(taken)
            raise
        return list(zip(taken[::2], taken[1::2], strict=True))

    def _give_back(self, axes_: Sequence[DeviceAxis]) -> None:
        assert self._axes is not None
        for axis in axes_:
            self._axes.give_back(axis)


class _Slot:
    """Parameter block, staging memory and present axes of one batch."""

    def __init__(self, driver: Driver, max_batch: int, mapped: bool) -> None:
        self.block = JobBlock(driver, max_batch, mapped)
        self.staging = Staging(driver, mapped)
        self.axes: list[DeviceAxis] = []
        self.signature: Signature | None = None

    def close(self) -> None:
        """Free both."""
        self.block.close()
        self.staging.close()
