"""Standard input: a container that FFmpeg can read from a pipe."""

from __future__ import annotations

import select
import sys
import threading
from collections.abc import Iterator
from typing import BinaryIO

import av
import av.error

from memedge_engines.frame import Frame

from ..errors import SourceError
from .base import Source, SourceInfo, SourceOptions
from .decoder import Decoder, unreadable
from .playback import Playback

_POLL_S = 0.2
_MP4_FIX = "mp4 needs its index in front: ffmpeg -movflags +faststart, or send matroska or mpegts"


class StdinSource(Source):
    """A video from a pipe, such as ``ffmpeg ... -f matroska - | memedge run --source -``.

    An mp4 whose index lies at its end cannot be read from a pipe.

    Args:
        options: ``from_s``, ``to_s``, ``realtime``, ``pixel_limit``.
        stream: where to read; standard input unless given.
    """

    def __init__(self, options: SourceOptions | None = None, stream: BinaryIO | None = None) -> None:
        self._options = options or SourceOptions()
        self._stream = stream
        self._closing = threading.Event()
        self._playback: Playback | None = None
        self._taken = False
        self._info: SourceInfo | None = None

    def open(self) -> SourceInfo:
        """Read the header from the pipe and decode the first frame."""
        if self._info is None:
            if self._closing.is_set():
                raise SourceError("standard input: opened after it was closed")
            stream = self._stream if self._stream is not None else sys.stdin.buffer
            if stream.isatty():
                raise SourceError(
                    "standard input is a terminal; expected a video",
                    fix="ffmpeg -i IN -f matroska - | memedge run --source -",
                )
            decoder = self._decoder(stream)
            # FFmpeg finds the index at the end of a pipe, but cannot go back to the pictures before it.
            fix = _MP4_FIX if "mp4" in decoder.container_format else None
            try:
                self._playback = Playback(decoder, self._options, self._closing)
            except SourceError as error:
                raise SourceError(error.message, fix=fix) from None
            self._info = self._playback.info("-", "stdin")
        return self._info

    def _decoder(self, stream: BinaryIO) -> Decoder:
        pipe = _Pipe(stream, self._closing)
        try:
            container = av.open(pipe, "r", metadata_errors="replace")
        except (av.error.FFmpegError, ValueError, OSError) as error:
            if pipe.count == 0:
                raise SourceError("standard input: empty; expected a container that FFmpeg can read") from None
            told = unreadable(None, "standard input", error)
            raise SourceError(told.message, fix=_MP4_FIX) from None
        try:
            return Decoder(container, "standard input", pixel_limit=self._options.pixel_limit)
        except BaseException:
            container.close()
            raise

    def frames(self) -> Iterator[Frame]:
        """The frames as they arrive; none is lost."""
        self.open()
        if self._taken:
            raise SourceError("standard input: its frames were taken before")
        self._taken = True
        assert self._playback is not None
        return iter(self._playback)

    def close(self) -> None:
        """Stop reading; a reader blocked on an idle pipe ends at once."""
        self._closing.set()
        if self._playback is not None:
            self._playback.close()


class _Pipe:
    """What FFmpeg reads from: not seekable, and at its end as soon as the source is closed."""

    def __init__(self, stream: BinaryIO, closing: threading.Event) -> None:
        self._stream = stream
        self._closing = closing
        self._pollable = sys.platform != "win32"  # select takes sockets only there
        self.count = 0

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes, as soon as there are any; empty at the end."""
        if self._pollable:
            try:
                while not select.select([self._stream], [], [], _POLL_S)[0]:
                    if self._closing.is_set():
                        return b""
            except (OSError, ValueError):  # no descriptor behind it (a BytesIO)
                self._pollable = False
        if self._closing.is_set():
            return b""
        # read1 returns what is there; read would wait until `size` bytes are.
        data: bytes = getattr(self._stream, "read1", self._stream.read)(size)
        self.count += len(data)
        return data
