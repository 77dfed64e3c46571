"""Live sources: a thread that keeps the connection drained, and a bounded hand-over to whoever takes the frames.

FFmpeg's calls can block for long (an address that is not resolved, a device that hangs), and a container must not be
closed under a thread that reads it. So everything that blocks happens in the source's own thread, and callers only ever
wait for a condition that ``close`` can end.
"""

from __future__ import annotations

import random
import threading
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator

import av.error

from memedge_engines.frame import Frame

from ..errors import SourceError, SourceLost
from .base import Source, SourceInfo, SourceOptions
from .decoder import reason
from .decoding import PictureDecoder
from .playback import Playback
from .timeline import LiveClock

_DEPTH = 4
_POLL_S = 0.2


class Backoff:
    """Waiting times of attempts to reconnect: doubling from ``first_s`` to ``most_s``.

    Each is shortened or lengthened by up to a quarter, so that many devices do not come back in step.
    """

    def __init__(self, first_s: float = 0.5, most_s: float = 30.0, seed: int | None = None) -> None:
        self._first_s, self._most_s = first_s, most_s
        self._next_s = first_s
        self._random = random.Random(seed)

    def next_s(self) -> float:
        """Seconds to wait before the next attempt."""
        wait_s = self._next_s * self._random.uniform(0.75, 1.25)
        self._next_s = min(self._next_s * 2, self._most_s)
        return wait_s

    def reset(self) -> None:
        """A connection held: start small again."""
        self._next_s = self._first_s


class LiveSource(Source):
    """Base of sources that are read in a thread of their own.

    Subclasses say how to connect and whether to reconnect. If :meth:`_connect` hands out a decoder that is not live (a
    video on a web server), it is played like a file: nothing is lost, the reader waits for whoever takes the frames.

    Args:
        label: what readings and messages call it, without credentials.
        kind: of the SourceInfo.
        options: ``connect_timeout_s``, ``wait``, ``pixel_limit``.
        stall_s: no frame for this long means that the source is lost.
    """

    def __init__(self, label: str, kind: str, options: SourceOptions, stall_s: float = 10.0) -> None:
        self._label = label
        self._kind = kind
        self._options = options
        self._stall_s = stall_s
        self._backoff = Backoff()
        self._closing = threading.Event()
        self._changed = threading.Condition()
        self._ready: deque[Frame] = deque()
        self._info: SourceInfo | None = None
        self._error: SourceError | None = None
        self._ended = False
        self._finite = False
        self._taken = False
        self._thread: threading.Thread | None = None
        self._clock = LiveClock()
        self._index = 0
        self._alive_at = 0.0
        self.dropped = 0

    @abstractmethod
    def _connect(self) -> PictureDecoder:
        """Open the source, in the reader's thread; may block. Raises SourceError or av.error.FFmpegError."""

    @property
    def _reconnects(self) -> bool:
        return True

    def _ended_by_itself(self) -> SourceError | None:
        """What it means that a live stream has no more pictures; none: it is done."""
        return SourceLost(f"{self._label}: the stream ended")

    def open(self) -> SourceInfo:
        """Connect and wait for the first frame.

        Raises:
            SourceError: refused, not found, or no answer within ``connect_timeout_s``; with ``wait`` it is tried again
                until :meth:`close`.
        """
        info = self._info
        if info is not None:
            return info
        if self._closing.is_set():
            raise SourceError(f"{self._label}: opened after it was closed")
        self._thread = threading.Thread(target=self._run, name=f"memedge-{self._kind}", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + self._options.connect_timeout_s
        with self._changed:
            while self._info is None and self._error is None and not self._closing.is_set():
                if not self._options.wait and time.monotonic() >= deadline:
                    self._error = self._no_answer()
                    break
                self._changed.wait(_POLL_S)
            info = self._info
            if info is not None:
                return info
            error = self._error or SourceError(f"{self._label}: closed before it answered")
        self.close()
        raise error

    def _no_answer(self) -> SourceError:
        return SourceError(
            f"{self._label}: no picture within {self._options.connect_timeout_s:g} s",
            fix="check address and power; --wait keeps trying",
        )

    def frames(self) -> Iterator[Frame]:
        """The frames as they arrive; of a live source, those that nobody took in time are dropped, oldest first."""
        self.open()
        if self._taken:
            raise SourceError(f"{self._label}: its frames were taken before; open it anew")
        self._taken = True
        return self._hand_out()

    def _hand_out(self) -> Iterator[Frame]:
        try:
            while True:
                with self._changed:
                    while not (self._ready or self._ended or self._closing.is_set()):
                        self._changed.wait(_POLL_S)
                        self._check_stall()
                    if self._closing.is_set():
                        return
                    if not self._ready:
                        if self._error is not None:
                            raise self._error
                        return
                    frame = self._ready.popleft()
                    self._changed.notify_all()
                if self._finite:
                    frame.arrival_ns = time.monotonic_ns()  # what waited here was not late, only ready early
                yield frame
        finally:
            self.close()

    def _check_stall(self) -> None:
        """A device that hangs inside the driver cannot be interrupted: give it up instead."""
        # The reader notices silence by itself where it can; it is given half as much again to do so.
        silent_s = time.monotonic() - self._alive_at
        if not self._reconnects and silent_s > 1.5 * self._stall_s and not self._ended:
            self._error = SourceLost(
                f"{self._label}: no frame for {self._stall_s:g} s; the device hangs or was removed"
            )
            self._ended = True

    def close(self) -> None:
        """End :meth:`frames` and :meth:`open` at once; the thread lets go of the device as soon as it can."""
        with self._changed:
            self._closing.set()
            while self._ready:
                self._ready.popleft().release()
            self._changed.notify_all()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(0.5)  # long enough to close an ordinary device; a hanging one must not hold up the caller

    # --- the reader's thread ---

    def _run(self) -> None:
        try:
            lost = False
            while not self._closing.is_set():
                error = self._session(lost)
                if error is None:
                    break
                first = self._info is None
                again = self._options.wait if first else self._reconnects and not self._finite
                if self._closing.is_set() or not again:
                    raise error
                wait_s = self._backoff.next_s()
                self.tell(f"{error.message}; trying again in {wait_s:.1f} s")
                lost = not first
                self._closing.wait(wait_s)
        except SourceError as error:
            self._error = self._error or error
        except Exception as error:  # whatever a driver comes up with must reach the caller
            self._error = self._error or SourceLost(f"{self._label}: failed: {reason(error)}")
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _session(self, lost: bool) -> SourceError | None:
        """One connection from beginning to end: none when it ended as it should, else why it was lost."""
        decoder: PictureDecoder | None = None
        try:
            decoder = self._connect()
            if self._info is None and not decoder.live:
                self._finite = True
                self._play(decoder)
                return None
            if lost:
                self._clock.restart()
            self._stream(decoder, lost)
            return None if self._closing.is_set() else self._ended_by_itself()
        except SourceError as error:
            return error
        except (av.error.FFmpegError, OSError) as error:
            if self._info is None:
                return SourceError(f"{self._label}: cannot be opened: {reason(error)}")
            return SourceLost(f"{self._label}: connection lost: {reason(error)}")
        finally:
            if decoder is not None:
                decoder.close()

    def _play(self, decoder: PictureDecoder) -> None:
        playback = Playback(decoder, self._options, self._closing)
        try:
            self._announce(playback.info(self._label, self._kind))
            for frame in playback:
                if not self._offer(frame):
                    break
        finally:
            playback.close()

    def _stream(self, decoder: PictureDecoder, lost: bool) -> None:
        flags: tuple[str, ...] = ("reconnected",) if lost else ()
        decoder.on_packet = self._watch
        self._alive_at = time.monotonic()
        while not self._closing.is_set():
            item = decoder.read()
            now_ns = time.monotonic_ns()
            if item is None:
                return
            decoded, damage = item
            frame = decoder.frame(decoded, (*flags, *damage))
            pts_s = None if decoded.pts is None else float(decoded.pts * decoder.time_base)
            frame.pts_s = self._clock.stamp(pts_s, now_ns / 1e9)
            frame.duration_s = decoder.nominal_s if decoder.fps else 0.0
            frame.arrival_ns = now_ns
            frame.index = self._index
            self._index += 1
            if self._info is None:
                width, height = frame.display_size
                self._announce(SourceInfo(self._label, self._kind, True, width, height, decoder.fps))
            if flags:
                self.tell(f"{self._label}: connected again")
            flags = ()
            self._backoff.reset()
            self._offer(frame)

    def _watch(self) -> None:
        """After every packet: packets that never become pictures are as good as none."""
        if self._closing.is_set():
            raise SourceLost(f"{self._label}: closed")
        if time.monotonic() - self._alive_at > self._stall_s:
            raise SourceLost(f"{self._label}: nothing that can be decoded for {self._stall_s:g} s")

    def _announce(self, info: SourceInfo) -> None:
        with self._changed:
            self._alive_at = time.monotonic()
            self._info = info
            self._changed.notify_all()

    def _offer(self, frame: Frame) -> bool:
        """Hand a frame over; false when the source was closed meanwhile (then the frame is released)."""
        with self._changed:
            self._alive_at = time.monotonic()
            while self._finite and len(self._ready) >= _DEPTH and not self._closing.is_set():
                self._changed.wait(_POLL_S)
            if self._closing.is_set():
                frame.release()
                return False
            while len(self._ready) >= _DEPTH:
                self._ready.popleft().release()
                self.dropped += 1
            self._ready.append(frame)
            self._changed.notify_all()
            return True
