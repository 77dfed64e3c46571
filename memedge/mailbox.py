"""Between a source and the loop: a queue that loses nothing for files, a mailbox of one for live sources.

A reader thread drains the source. A live mailbox keeps the newest frame only; a frame that it replaces is released and
counted with the reason ``busy``.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator

from memedge_engines.frame import Frame

from .sources.base import Source

_FILE_DEPTH = 4


class Reader:
    """Reads a source in its own thread.

    Args:
        source: an opened source.
        live: keep the newest frame only.

    Attributes:
        dropped: frames that were released unseen.
        seen: frames that the source delivered.
        decode_ms: time that the source took for the frame that :meth:`take` gave last; none for live sources, where it
            is mostly the wait for the next picture.
    """

    def __init__(self, source: Source, live: bool) -> None:
        self._source = source
        self._live = live
        self._frames: deque[tuple[Frame, float]] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._stopping = False
        self._error: BaseException | None = None
        self.dropped = 0
        self.seen = 0
        self.decode_ms: float | None = None
        self._thread = threading.Thread(target=self._read, name="memedge-reader", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        frames: Iterator[Frame] | None = None
        try:
            frames = self._source.frames()
            begin = time.perf_counter()
            for frame in frames:
                if not self._offer(frame, (time.perf_counter() - begin) * 1e3):
                    return
                begin = time.perf_counter()
        except BaseException as error:  # handed to the loop, which raises it in its own thread
            self._error = error
        finally:
            close = getattr(frames, "close", None)
            if close is not None:
                close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _offer(self, frame: Frame, spent_ms: float) -> bool:
        with self._changed:
            self.seen += 1
            if self._live:
                while self._frames:
                    self._frames.popleft()[0].release()
                    self.dropped += 1
            else:
                while len(self._frames) >= _FILE_DEPTH and not self._stopping:
                    self._changed.wait(0.5)
            if self._stopping:
                frame.release()
                return False
            self._frames.append((frame, spent_ms))
            self._changed.notify_all()
            return True

    def take(self, timeout_s: float | None = None) -> Frame | None:
        """The next frame (of a live source: the newest), or none after ``timeout_s`` or at the end.

        Raises what the source raised, after the frames that it delivered before.
        """
        with self._changed:
            self._changed.wait_for(lambda: bool(self._frames) or self._ended or self._stopping, timeout_s)
            if self._frames:
                frame, spent_ms = self._frames.popleft()
                self.decode_ms = None if self._live else spent_ms
                self._changed.notify_all()
                return frame
            if self._error is not None and not self._stopping:
                error, self._error = self._error, None
                raise error
            return None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        with self._changed:
            return self._stopping or (self._ended and not self._frames)

    def stop(self) -> None:
        """End the thread, release what is queued; the source is closed. Safe to call twice."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._source.close()
        self._thread.join(5.0)
        with self._changed:
            while self._frames:
                self._frames.popleft()[0].release()
