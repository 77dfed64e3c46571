"""Files: any container that FFmpeg reads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import av.error

from memedge_engines.frame import Frame

from ..errors import SourceError
from .base import Source, SourceInfo, SourceOptions
from .decoder import Decoder, check_file, unreadable
from .decoding import PictureDecoder
from .playback import Playback


class FileSource(Source):
    """A video file.

    Every frame that the decoder delivers is a frame; damaged ones carry ``corrupt``. A file that ends early gives
    what can be decoded; its last frame carries ``truncated``.

    Args:
        path: a file.
        options: ``from_s``, ``to_s``, ``realtime``, ``pixel_limit``.
        label: what readings call it; the path as it was given.
    """

    def __init__(self, path: str | Path, options: SourceOptions | None = None, label: str | None = None) -> None:
        self._path = Path(path).expanduser()
        self._options = options or SourceOptions()
        self._label = label or str(path)
        self._closing = threading.Event()
        self._playback: Playback | None = None
        self._taken = False
        self._info: SourceInfo | None = None

    def _decoder(self) -> Decoder:
        try:
            container = av.open(str(self._path), metadata_errors="replace")
        except (av.error.FFmpegError, UnicodeError, ValueError) as error:
            raise unreadable(self._path, self._label, error) from None
        try:
            return Decoder(container, self._label, pixel_limit=self._options.pixel_limit)
        except BaseException:
            container.close()
            raise

    def _make(self) -> tuple[PictureDecoder, Callable[[], Decoder] | None]:
        """What decodes the file, and what opens it anew for a seek, or none where that cannot be done."""
        return self._decoder(), self._decoder

    def open(self) -> SourceInfo:
        """Read the header and decode the first frame."""
        if self._info is None:
            if self._closing.is_set():
                raise SourceError(f"{self._label}: opened after it was closed")
            check_file(self._path, self._label)
            decoder, reopen = self._make()
            self._playback = Playback(decoder, self._options, self._closing, reopen)
            self._info = self._playback.info(self._label, "file")
        return self._info

    def frames(self) -> Iterator[Frame]:
        """The frames of the file, or of the part from ``from_s`` to ``to_s``."""
        self.open()
        if self._taken:
            raise SourceError(f"{self._label}: its frames were taken before; open it anew")
        self._taken = True
        assert self._playback is not None
        return iter(self._playback)

    def close(self) -> None:
        """Close the file."""
        self._closing.set()
        if self._playback is not None:
            self._playback.close()
