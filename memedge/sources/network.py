"""Network streams: RTSP (over TCP), and whatever FFmpeg reads over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import av
import av.error

from ..errors import SourceError
from . import names
from .base import SourceOptions
from .decoder import Decoder, reason
from .live import LiveSource

Opener = Callable[[str, dict[str, str], tuple[float, float]], Any]
"""(address, FFmpeg options, (open, read) timeouts in seconds) to an opened container."""

_READ_TIMEOUT_S = 10.0


class NetworkSource(LiveSource):
    """``rtsp://``, ``rtsps://``, ``http://`` or ``https://``.

    RTSP is live. What comes over HTTP is live unless its header states a length (an mp4 on a web server): that is
    played like a file, without loss, and is not ``live``. A live stream that is lost or ends is connected again, for
    ever, with growing pauses; the first frame afterwards carries ``reconnected``. RTSP runs over TCP unless the address
    ends in ``?udp``.

    Args:
        uri: the address; credentials in it never appear in labels, messages or status lines.
        options: ``connect_timeout_s``, ``wait``, ``pixel_limit``; ``from_s`` and ``to_s`` for videos with an end.
        opener: opens the container; FFmpeg unless given.
        read_timeout_s: silence for this long means that the connection is lost.
    """

    def __init__(
        self,
        uri: str,
        options: SourceOptions | None = None,
        *,
        opener: Opener | None = None,
        read_timeout_s: float = _READ_TIMEOUT_S,
    ) -> None:
        super().__init__(names.label(uri), "network", options or SourceOptions(), read_timeout_s)
        self._uri = uri
        self._opener = opener or _open
        self._scheme = names.scheme(uri) or ""

    def _connect(self) -> Decoder:
        open_s = self._options.connect_timeout_s
        address, settings = self._uri, self._settings()
        if settings.get("rtsp_transport") == "udp":
            address = address[: -len("?udp")]
        begin = time.monotonic()
        try:
            container = self._opener(address, settings, (open_s, self._stall_s))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            # An RTSP handshake that was interrupted for its time is reported as invalid data.
            if time.monotonic() - begin >= 0.95 * open_s:
                raise self._no_answer() from None
            raise self._refused(error) from None
        try:
            live = self._scheme not in ("http", "https") or not _states_length(container)
            return Decoder(container, self._label, live=live, pixel_limit=self._options.pixel_limit)
        except BaseException:
            container.close()
            raise

    def _settings(self) -> dict[str, str]:
        micros = str(int(self._stall_s * 1e6))
        if self._scheme.startswith("rtsp"):
            return {
                "rtsp_transport": "udp" if self._uri.endswith("?udp") else "tcp",
                "fflags": "nobuffer",
                "max_delay": "500000",
                "timeout": micros,
                "allowed_media_types": "video",
            }
        # FFmpeg takes up the broken transfer of a file where it broke. A stream is connected again by us, so that it
        # shows in the readings.
        return {"rw_timeout": micros, "reconnect": "1", "reconnect_delay_max": "4"}

    def _refused(self, error: BaseException) -> SourceError:
        why = reason(error)
        fix = None
        if "401" in why or "nauthorized" in why or "403" in why:
            fix = f"give user and password: {self._scheme}://USER:PASSWORD@HOST/..."
        elif isinstance(error, ConnectionRefusedError):
            fix = "check address and port; --wait keeps trying"
        elif isinstance(error, av.error.InvalidDataError):
            why = "what it sends is not a video that FFmpeg can read"
        return SourceError(f"{self._label}: cannot be opened: {why}", fix=fix)


def _states_length(container: Any) -> bool:
    return any((value or 0) > 0 for value in (container.duration, *(s.duration for s in container.streams.video)))


def _open(address: str, settings: dict[str, str], timeouts: tuple[float, float]) -> Any:
    return av.open(address, "r", options=settings, timeout=timeouts, metadata_errors="replace")
