"""Decoder: one video stream of an opened container, frame by frame, with damage reported instead of raised."""

from __future__ import annotations

import gc
import threading
from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memedge_engines.frame import Frame

from ..errors import SourceError
from .convert import StreamFacts, quarter_turns, to_frame

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

_OUTPUT_CORRUPT = 1 << 3  # AV_CODEC_FLAG_OUTPUT_CORRUPT
_LOW_DELAY = 1 << 19  # AV_CODEC_FLAG_LOW_DELAY
_DEFAULT_INTERVAL_S = 1 / 25
# What a decoder keeps after it was closed, in pictures (reference frames and threads), and how much of that may wait.
_POOLED_PICTURES = 16
_COLLECT_BYTES = 32 << 20


class Decoder:
    """Decodes the first video stream of a container that is not a cover picture.

    Args:
        container: opened; closed by :meth:`close`.
        label: what messages call it.
        live: decode without delay (no frame threads) and raise read errors; otherwise a read error ends the stream.
        camera: raw camera pictures have BT.601's colours unless they say otherwise.
        pixel_limit: larger pictures are refused from the header.

    Attributes:
        broken: the container ended with a read error.
        on_packet: called after every packet; may raise to leave :meth:`read`.
        time_base, nominal_s: seconds per unit of ``pts``; nominal interval between frames.
        duration_s, header_frames: length and number of frames as the header tells them, or none.

    Raises:
        SourceError: no video stream, or pictures above the limit.
    """

    def __init__(
        self, container: InputContainer, label: str, *, live: bool = False, camera: bool = False, pixel_limit: int
    ) -> None:
        self._container: InputContainer | None = container
        self.label = label
        self.container_format = str(getattr(getattr(container, "format", None), "name", ""))
        self.broken = False
        self.live = live
        self.on_packet: Callable[[], None] | None = None
        self._pending: deque[av.VideoFrame] = deque()
        self._packets: Iterator[Any] | None = None
        self._damaged = False
        self._ended = False
        stream = video_stream(container)
        if stream is None:
            kinds = " and ".join(sorted({str(s.type) for s in container.streams})) or "nothing"
            raise SourceError(f"{label}: no video in it, only {kinds}; expected a video stream")
        self._stream: VideoStream | None = stream
        context = stream.codec_context
        self._picture_bytes = context.width * context.height * 3 // 2
        if context.width * context.height > pixel_limit:
            raise SourceError(
                f"{label}: pictures of {context.width}x{context.height} pixels; the limit is {pixel_limit} pixels"
            )
        stream.thread_type = "SLICE" if live else "AUTO"
        # A file's damaged frames are delivered (and flagged); a live stream starts at its first key frame.
        context.flags = int(context.flags) | (_LOW_DELAY if live else _OUTPUT_CORRUPT)
        self.time_base: Fraction = stream.time_base or Fraction(1, 1000)
        rate = stream.guessed_rate or stream.average_rate
        self.fps: float | None = float(rate) if rate and 0 < rate <= 1000 else None
        self.nominal_s = 1 / self.fps if self.fps else _DEFAULT_INTERVAL_S
        self.header_frames: int | None = stream.frames or None
        self.duration_s: float | None = None
        if stream.duration:
            self.duration_s = float(stream.duration * self.time_base)
        elif container.duration and container.duration > 0:
            self.duration_s = container.duration / 1e6
        self.facts = StreamFacts(
            codec=context.name,
            colorspace=int(context.colorspace),
            color_range=int(context.color_range),
            camera=camera,
            rotation=_stream_rotation(stream),
        )

    def packets(self) -> Iterator[Any]:
        """The stream's packets from here on, not decoded."""
        return iter(()) if self._container is None else self._container.demux(self._stream)

    def read(self) -> tuple[av.VideoFrame, tuple[str, ...]] | None:
        """The next frame in order of presentation with the flags that packets before it earned; none at the end.

        Raises:
            av.error.FFmpegError: a live container cannot be read any more.
        """
        import av.error

        while not self._pending:
            if self._ended:
                return None
            if self._packets is None:
                self._packets = self.packets()
            try:
                packet = next(self._packets, None)
            except av.error.FFmpegError:
                if self.live:
                    raise
                self.broken = True
                packet = None
            if packet is None:
                self._ended = True
                if self.broken:
                    self._decode(None)
                continue
            if self.on_packet is not None:
                self.on_packet()
            self._damaged = self._damaged or bool(packet.is_corrupt)
            self._decode(packet)
        flags = ("corrupt",) if self._damaged and not self._pending[0].is_corrupt else ()
        self._damaged = False
        return self._pending.popleft(), flags

    def _decode(self, packet: Any) -> None:
        import av.error

        if self._stream is None:
            return
        try:
            for frame in self._stream.decode(packet):
                # Decoders leave pictures without planes behind in rare cases of damage; these are not frames.
                if frame.width > 0 and frame.height > 0 and len(frame.planes):
                    self._pending.append(frame)
        except EOFError:
            pass
        except av.error.FFmpegError:
            self._damaged = True

    def frame(self, picture: av.VideoFrame, flags: tuple[str, ...]) -> Frame:
        """A Frame over the decoder's memory where its format allows that."""
        return to_frame(picture, self.facts, flags)

    def seek(self, pts: int) -> None:
        """Go on from the key frame at or before ``pts``. Raises av.error.FFmpegError where that cannot be done."""
        if self._container is None:
            return
        self._container.seek(pts, stream=self._stream, backward=True)
        self._pending.clear()
        self._packets = None
        self._ended = self._damaged = self.broken = False

    def close(self) -> None:
        """Close the container; safe to call twice."""
        self._pending.clear()
        self._packets = None
        self._ended = True
        container, self._container, self._stream = self._container, None, None
        if container is not None:
            container.close()
            del container
            _closed(self._picture_bytes)


class _Uncollected:
    """Bytes of closed decoders' pictures that nobody has collected yet."""

    lock = threading.Lock()
    total = 0


def _closed(picture_bytes: int) -> None:
    """PyAV's container and its streams hold each other, and with them the decoder's pool of pictures: tens of megabytes
    for a large file, of which the collector's own schedule knows nothing. Collecting takes a tenth of a second where
    torch is loaded, so small files wait until they are many."""
    with _Uncollected.lock:
        _Uncollected.total += picture_bytes * _POOLED_PICTURES
        due = _Uncollected.total >= _COLLECT_BYTES
        if due:
            _Uncollected.total = 0
    if due:
        gc.collect()


def video_stream(container: InputContainer) -> VideoStream | None:
    """The first video stream that is not an attached (cover) picture."""
    for stream in container.streams.video:
        disposition = getattr(stream, "disposition", None)  # absent before PyAV 14.1
        if "attached_pic" not in str(getattr(disposition, "name", disposition) or ""):
            return stream
    return None


def _stream_rotation(stream: VideoStream) -> int:
    """Quarter turns from the stream itself: only FFmpeg before version 5 leaves them there and not on the frames."""
    turn = stream.metadata.get("rotate", "")
    if turn.lstrip("-").isdigit():
        return round(int(turn) / 90) % 4 * 90
    side_data: Any = getattr(stream, "side_data", None)
    if isinstance(side_data, dict) and isinstance(side_data.get("DISPLAYMATRIX"), bytes):
        return quarter_turns(side_data["DISPLAYMATRIX"])[0]
    return 0


def reason(error: BaseException) -> str:
    """Why FFmpeg failed, in words and without the address (which may hold credentials)."""
    text = getattr(error, "strerror", None) or type(error).__name__
    return "no answer in time" if "Immediate exit" in str(text) else str(text)


def check_file(path: Path, label: str) -> None:
    """Refuse what is no readable file before FFmpeg sees it. Raises SourceError."""
    try:
        if path.is_dir():
            raise SourceError(f"{label}: a folder; expected a file")
        with path.open("rb") as file:
            if not file.read(1) and path.is_file():
                raise SourceError(f"{label}: the file is empty; expected a video or a picture")
    except FileNotFoundError:
        raise SourceError(f"{label}: no such file") from None
    except PermissionError:
        raise SourceError(f"{label}: not readable by this user", fix=f"chmod +r '{label}'") from None
    except OSError as error:
        raise SourceError(f"{label}: cannot be read: {error.strerror or error}") from None


def unreadable(path: Path | None, label: str, error: BaseException) -> SourceError:
    """What to say of data that FFmpeg refuses: a recording cut off, text, or something else."""
    import av.error

    if not isinstance(error, av.error.InvalidDataError):
        return SourceError(f"{label}: cannot be read: {reason(error)}")
    head = b""
    if path is not None:
        try:
            with path.open("rb") as file:
                head = file.read(512)
        except OSError:
            head = b""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"):
        return SourceError(
            f"{label}: an mp4 or mov file without its index: the recording or the copy was cut off",
            fix="copy it again; record in fragmented mp4, mkv or ts, which survive a cut",
        )
    if head and all(byte >= 9 for byte in head) and head.isascii():
        return SourceError(
            f"{label}: text, not a video; expected a container or picture that FFmpeg or Pillow can read"
        )
    return SourceError(f"{label}: not a video that FFmpeg can read, or damaged from its start")
