"""What a frame's pixels say before any network sees them: black, repeated, frozen.

Only pictures that are equal in every bit count as repeated. A frozen picture in a compressed video mostly is not:
the codec re-codes it with other noise. A camera that hangs, a paused capture card or a repeated frame of a decoder
is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memedge_engines.frame import ColorRange, Frame, MemoryKind, PixelFormat

# FFmpeg's blackdetect calls a picture black when 98 % of its pixels are below 10 % of the luma range; a night scene is
# often that dark. 5 % still holds a dark sensor's noise and a codec's (the test clip fades to exactly black).
BLACK_LEVEL = 0.05
BLACK_SHARE = 0.98
_ROWS = 32
_STEP = 8


@dataclass(frozen=True)
class Content:
    """Flags of a frame (``black``, ``frozen``, ``repeated``; sorted), and whether it equals the one before in every
    bit."""

    flags: tuple[str, ...]
    identical: bool


class ContentWatch:
    """Looks at each frame of one source, in order.

    The frame before is held for the comparison: by reference where the planes cannot be overwritten (memory that
    Python or FFmpeg counts references of), else as a copy. Frames in device memory are not looked at: no flags.

    Args:
        frozen_after_s: bit-identical frames for this long (capture time) are ``frozen``; none never says so (files).
    """

    def __init__(self, frozen_after_s: float | None = 10.0) -> None:
        self._frozen_after_s = frozen_after_s
        self._sample: NDArray[np.uint8] | None = None
        self._shape: tuple[object, ...] = ()
        self._planes: list[NDArray[np.uint8]] | None = None
        self._held: Frame | None = None
        self._since: float | None = None
        self._copy = False

    def look(self, frame: Frame) -> Content:
        """Flags of the next frame. The caller may release the frame afterwards."""
        if frame.memory is MemoryKind.DEVICE:
            self.reset()
            return Content((), False)
        planes = frame.host_planes()
        sample = _sample(planes[0])
        flags = ["black"] if _black(sample, frame) else []
        identical = self._same(frame, planes, sample)
        if not identical:
            self._since = frame.pts_s
            self._keep(frame, planes, sample)
        if identical:
            flags.append("repeated")
            since = frame.pts_s if self._since is None else self._since
            if self._frozen_after_s is not None and frame.pts_s - since >= self._frozen_after_s:
                flags.append("frozen")
        return Content(tuple(sorted(flags)), identical)

    def _same(self, frame: Frame, planes: list[NDArray[np.uint8]], sample: NDArray[np.uint8]) -> bool:
        if self._sample is None or self._planes is None or self._shape != _shape(frame):
            return False
        if not np.array_equal(sample, self._sample):
            return False
        if not self._copy and any(_aliased(a, b) for a, b in zip(planes, self._planes, strict=True)):
            # The source fills one buffer again and again: a reference says nothing, so keep copies from now on.
            self._copy = True
            return False
        return all(np.array_equal(a, b) for a, b in zip(planes, self._planes, strict=True))

    def _keep(self, frame: Frame, planes: list[NDArray[np.uint8]], sample: NDArray[np.uint8]) -> None:
        self._shape = _shape(frame)
        self._sample = sample
        old, self._held = self._held, None
        counted = frame.owner is not None or frame.on_release is None
        if counted and not self._copy and frame.memory is MemoryKind.HOST:
            self._held = frame.retain()
            self._planes = planes
        elif self._planes is not None and old is None and [p.shape for p in planes] == [p.shape for p in self._planes]:
            for target, plane in zip(self._planes, planes, strict=True):
                np.copyto(target, plane)
        else:
            self._planes = [plane.copy() for plane in planes]
        if old is not None:
            old.release()

    def reset(self) -> None:
        """Forget the frame before; the next one is compared with nothing."""
        self._sample = self._planes = self._since = None
        self._shape = ()
        if self._held is not None:
            self._held.release()
            self._held = None

    def close(self) -> None:
        """Let the held frame go; safe to call twice."""
        self.reset()


def _shape(frame: Frame) -> tuple[object, ...]:
    """What decides how the bytes look, besides the bytes."""
    return (frame.format, frame.width, frame.height, frame.rotation, frame.matrix, frame.color_range, frame.siting)


def _sample(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A contiguous copy of at most 32 whole rows, spread evenly."""
    step = -(-plane.shape[0] // _ROWS)
    return np.ascontiguousarray(plane[step // 2 :: step]).copy() if step > 1 else plane.copy()


def _aliased(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> bool:
    return bool(first.__array_interface__["data"][0] == second.__array_interface__["data"][0])


def _black(sample: NDArray[np.uint8], frame: Frame) -> bool:
    """At least 98 % of the sampled pixels below 5 % of the range (limited: luma 16..235)."""
    if frame.format in (PixelFormat.RGB24, PixelFormat.BGR24):
        width = sample.shape[1] // 3
        pixels = sample.reshape(sample.shape[0], width, 3)[:, :: _step(width)].max(axis=2)
    elif frame.format is PixelFormat.YUYV422:
        luma = sample[:, 0 : 2 * frame.width : 2]
        pixels = luma[:, :: _step(luma.shape[1])]
    else:
        pixels = sample[:, :: _step(sample.shape[1])]
    limited = frame.color_range is ColorRange.LIMITED and frame.format not in (PixelFormat.RGB24, PixelFormat.BGR24)
    level = 16 + BLACK_LEVEL * 219 if limited else BLACK_LEVEL * 255
    return bool(np.count_nonzero(pixels <= level) >= BLACK_SHARE * pixels.size)


def _step(width: int) -> int:
    return _STEP if width >= 64 * _STEP else 1
