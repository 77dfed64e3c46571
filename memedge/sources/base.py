"""The source seam: something that delivers frames in capture time."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

from memedge_engines.frame import Frame

from ..errors import UsageError

DEFAULT_PIXEL_LIMIT = 100_000_000
DECODERS = ("auto", "pyav", "gstreamer", "nvcodec")


@dataclass(frozen=True)
class SourceOptions:
    """Options of opening a source.

    Attributes:
        camera_size: (width, height) asked of a camera, or none.
        camera_fps: frames per second asked of a camera, or none.
        camera_format: pixel or codec format asked of a camera (``mjpeg``, ``yuyv422`` ...), or none.
        connect_timeout_s: a first connection that takes longer is an error.
        wait: keep trying the first connection, too.
        from_s, to_s: part of a file, seconds from its first frame; ``to_s`` not included.
        pixel_limit: pictures with more pixels are refused from their header.
        realtime: play a file at the pace of its clock, as a live source (for tests and demos).
        decoder: ``pyav``, ``gstreamer`` or ``nvcodec``; ``auto`` is PyAV wherever it can read the source.
    """

    camera_size: tuple[int, int] | None = None
    camera_fps: float | None = None
    camera_format: str | None = None
    connect_timeout_s: float = 15.0
    wait: bool = False
    from_s: float = 0.0
    to_s: float | None = None
    pixel_limit: int = DEFAULT_PIXEL_LIMIT
    realtime: bool = False
    decoder: str = "auto"

    def __post_init__(self) -> None:
        end = math.inf if self.to_s is None else self.to_s
        if not (0 <= self.from_s < end and self.from_s < math.inf):
            raise UsageError(f"--from {self.from_s:g} --to {self.to_s}: expected 0 <= from < to")
        if self.camera_fps is not None and not 0 < self.camera_fps < math.inf:
            raise UsageError(f"--camera-fps {self.camera_fps:g}; expected more than 0")
        if self.decoder not in DECODERS:
            raise UsageError(f"--decoder {self.decoder}; expected one of {', '.join(DECODERS)}")
        if not 0 < self.connect_timeout_s < math.inf:
            raise UsageError(f"--connect-timeout {self.connect_timeout_s:g}; expected more than 0")


@dataclass(frozen=True)
class SourceInfo:
    """What is known of an opened source.

    ``width`` and ``height`` are the displayed size (after rotation); 0, none where unknown.
    ``kind``: ``file``, ``camera``, ``network``, ``pipeline``, ``picture``, ``test``, ``stdin``, ``synthetic``.
    """

    label: str
    kind: str
    live: bool
    width: int = 0
    height: int = 0
    fps: float | None = None
    duration_s: float | None = None
    frames: int | None = None


class Source(ABC):
    """An opened or openable source.

    ``open`` connects; ``frames`` may be iterated once; ``close`` is safe to call twice, from another thread too, and
    ends a blocked ``frames``.

    Attributes:
        on_status: called with one line when something happens that a person should know (a connection lost, an attempt
            to reconnect), from any thread; none to say nothing. Lines never hold credentials.
        dropped: frames that the source itself had to throw away because nobody took them.
    """

    on_status: Callable[[str], None] | None = None
    dropped: int = 0

    def tell(self, line: str) -> None:
        """Hand a line of status to ``on_status``."""
        if self.on_status is not None:
            self.on_status(line)

    @abstractmethod
    def open(self) -> SourceInfo:
        """Connect and read the header.

        Raises:
            SourceError: with what was found and what would mend it.
        """

    @abstractmethod
    def frames(self) -> Iterator[Frame]:
        """The frames in order of time; each is owned by whoever takes it.

        ``pts_s`` counts from the first frame of the file (with ``from_s``, too: file time) or of the first
        connection; a live source's runs on the monotonic clock and keeps rising across reconnections. It always
        rises. ``duration_s`` is exact (time to the next frame) for files, the nominal interval for live sources.
        Flags: ``corrupt`` (the decoder reports damage), ``reconnected`` (first frame after a loss), ``time_repaired``
        (the container's time did not rise), ``truncated`` (last frame of a file that ends early), ``mirrored``,
        ``rotation_rounded``.

        Raises:
            SourceLost: a live source stopped delivering and cannot be reconnected.
            SourceError: a file that turns out to be unreadable before its first frame.
        """

    @abstractmethod
    def close(self) -> None:
        """Give the device or file back."""

    def __enter__(self) -> Source:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
