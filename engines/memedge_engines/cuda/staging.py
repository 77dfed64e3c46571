"""Staging memory of one batch: page-locked on the host, and its copy on the device."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import CudaError, FrameError
from ..frame import Frame, MemoryKind, plane_shapes
from .driver import Driver
from .memory import DeviceBuffer, PinnedBuffer
from .parts import Range, copy_parts, device_plane, memory_of, parts, pinned_address

KEPT_BYTES = 64 << 20
"""Buffers above this size are given back when a later batch needs less than half: one huge photograph does not hold
memory for ever."""

Planes = list[tuple[int, int]]
"""(device address, pitch) of each plane."""


class Staging:
    """Grows to the largest batch up to :data:`KEPT_BYTES`.

    Args:
        mapped: the device reads page-locked memory in place, and nothing is copied.
    """

    def __init__(self, driver: Driver, mapped: bool) -> None:
        self._driver = driver
        self._mapped = mapped
        self._host: PinnedBuffer | None = None
        self._device: DeviceBuffer | None = None
        self._copies: list[tuple[int, int, int]] = []

    def fill(self, frames: Sequence[Frame], ranges: Sequence[tuple[Range, Range]]) -> list[Planes]:
        """Take over the part of each frame that its tables need; where the kernel finds each frame's planes.

        Host frames are copied here and now; page-locked frames are copied by ``upload`` from where they lie; device
        frames are left where they are.

        Raises:
            FrameError: planes that are not what the frame declares.
            CudaError: no memory.
        """
        self._copies = []
        found: list[Planes] = [[] for _ in frames]
        placed, direct, end = [], [], 0
        for number, frame in enumerate(frames):
            kind = memory_of(frame)
            if kind is MemoryKind.DEVICE:
                shapes = plane_shapes(frame.format, frame.width, frame.height)
                for plane, shape in zip(frame.planes, shapes, strict=True):
                    found[number].append((device_plane(plane, *shape), plane.pitch))
            elif kind is MemoryKind.PINNED and not self._mapped:
                direct.append(number)
            else:
                placed.append((number, parts(frame, *ranges[number], end)))
                end = placed[-1][1][-1].end_aligned
        copied = end
        late = []
        for number in direct:
            late.append((number, parts(frames[number], *ranges[number], end, whole_rows=True)))
            end = late[-1][1][-1].end_aligned
        base = self._reserve(copied, end)
        for number, cut in placed + late:
            found[number] = [(part.plane_address(base), part.pitch) for part in cut]
        for number, cut in placed:
            assert self._host is not None
            copy_parts(frames[number].host_planes(), cut, self._host.array)
        if copied and not self._mapped:
            assert self._host is not None
            self._copies.append((base, self._host.address, copied))
        for number, cut in late:
            for plane, part in zip(frames[number].planes, cut, strict=True):
                source = pinned_address(plane) + part.row * part.pitch
                self._copies.append((base + part.offset, source, (part.rows - 1) * part.pitch + part.row_bytes))
        return found

    def upload(self, stream: int) -> None:
        """Queue the copies."""
        for target, source, size in self._copies:
            self._driver.copy_to_device(target, source, size, stream)

    def close(self) -> None:
        """Free the buffers; nothing queued may use them."""
        self._copies = []
        for buffer in (self._host, self._device):
            if buffer is not None:
                buffer.close()
        self._host = self._device = None

    def _reserve(self, host: int, device: int) -> int:
        """Room for so many bytes; the address that the kernel uses."""
        if host and not _fits(self._host, host):
            if self._host is not None:
                self._host.close()
                self._host = None
            self._host = PinnedBuffer(self._driver, host, self._mapped)
        if self._mapped:
            return self._host.device_address if self._host is not None else 0
        if device and not _fits(self._device, device):
            if self._device is not None:
                self._device.close()
                self._device = None
            self._device = DeviceBuffer(self._driver, device)
        return self._device.address if self._device is not None else 0


def _fits(buffer: PinnedBuffer | DeviceBuffer | None, size: int) -> bool:
    return buffer is not None and size <= buffer.size <= max(2 * size, KEPT_BYTES)


def wait_for(driver: Driver, frame: Frame) -> None:
    """Wait until a frame's planes may be read, also by the kernel.

    Raises:
        FrameError: the frame was released, or names a stream that this driver cannot wait for.
    """
    if frame.released:
        raise FrameError("frame used after its release")
    if frame.ready is not None:
        frame.ready.wait()
    for plane in frame.planes:
        interface = getattr(plane.buffer, "__cuda_array_interface__", None) or {}
        stream = interface.get("stream")
        if stream is None:
            continue
        try:
            driver.stream_synchronize(int(stream))
        except CudaError as error:
            raise FrameError(
                f"a device plane names stream {stream} as its producer's, for which {driver.name} cannot wait: "
                f"{error.message}",
                fix="synchronise the producer and give the frame without a stream, or with a ready event",
            ) from None
