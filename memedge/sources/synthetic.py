"""The synthetic twin of the Source seam: a script of frames, pauses and losses that counts what is released."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memedge_engines.frame import Frame

from ..errors import SourceError, SourceLost
from .base import Source, SourceInfo


@dataclass(frozen=True)
class Shot:
    """One frame of a script.

    Attributes:
        pts_s: capture time in seconds.
        picture: RGB uint8 ``[height, width, 3]``.
        delay_s: pause before the frame is handed out.
        duration_s: time to the next frame; none: known from the next entry of the script, else 0.
        flags: what the frame carries (``corrupt``, ``reconnected`` ...).
    """

    pts_s: float
    picture: NDArray[np.uint8]
    delay_s: float = 0.0
    duration_s: float | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Loss:
    """The source is lost: for ``pause_s`` if it comes back (the next frame carries ``reconnected``), else for good."""

    pause_s: float = 0.0
    final: bool = True
    message: str = "synthetic source lost"


class SyntheticSource(Source):
    """Plays a script.

    Args:
        script: shots, ``(pts_s, picture)`` pairs and losses in order of time; a generator may go on for ever.
        live: what the SourceInfo says; frames come at the pace of their delays in both cases.
        label: what readings call it.
        open_error: raised by :meth:`open`, or none.

    Attributes:
        handed_out, released: number of frames given away and of those let go by their last holder.
    """

    def __init__(
        self,
        script: Iterable[Shot | Loss | tuple[float, NDArray[np.uint8]]],
        *,
        live: bool = False,
        label: str = "synthetic",
        open_error: SourceError | None = None,
    ) -> None:
        self._script = iter(script)
        self._live = live
        self._label = label
        self._open_error = open_error
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._queue: list[Shot | Loss] = []
        self._taken = False
        self._info: SourceInfo | None = None
        self.handed_out = 0
        self.released = 0
        self.closed = 0

    @property
    def outstanding(self) -> int:
        """Frames that somebody still holds."""
        with self._lock:
            return self.handed_out - self.released

    def _pull(self) -> Shot | Loss | None:
        entry = next(self._script, None)
        return Shot(*entry) if isinstance(entry, tuple) else entry

    def open(self) -> SourceInfo:
        """Look at the first entry of the script."""
        if self._info is None:
            if self._closing.is_set():
                raise SourceError(f"{self._label}: opened after it was closed")
            if self._open_error is not None:
                raise self._open_error
            first = self._pull()
            if first is not None:
                self._queue.append(first)
            height, width = first.picture.shape[:2] if isinstance(first, Shot) else (0, 0)
            self._info = SourceInfo(self._label, "synthetic", self._live, width, height)
        return self._info

    def frames(self) -> Iterator[Frame]:
        """The frames of the script. Raises SourceLost where it says so."""
        self.open()
        if self._taken:
            raise SourceError(f"{self._label}: its frames were taken before; open it anew")
        self._taken = True
        return self._run()

    def _run(self) -> Iterator[Frame]:
        index = 0
        flags: tuple[str, ...] = ()
        entry = self._queue.pop() if self._queue else None
        while entry is not None and not self._closing.is_set():
            if isinstance(entry, Loss):
                if entry.final:
                    raise SourceLost(entry.message)
                self.tell(f"{self._label}: {entry.message}")
                self._closing.wait(entry.pause_s)
                flags = ("reconnected",)
                entry = self._pull()
                continue
            if entry.delay_s:
                self._closing.wait(entry.delay_s)
                if self._closing.is_set():
                    return
            # A live source cannot look ahead: it would hold its newest frame back.
            following = None if self._live else self._pull()
            known_s = following.pts_s - entry.pts_s if isinstance(following, Shot) else 0.0
            with self._lock:
                self.handed_out += 1
            yield Frame.from_rgb(
                entry.picture,
                pts_s=entry.pts_s,
                duration_s=known_s if entry.duration_s is None else entry.duration_s,
                index=index,
                arrival_ns=time.monotonic_ns(),
                flags=(*flags, *entry.flags),
                on_release=self._count_release,
            )
            index, flags = index + 1, ()
            entry = self._pull() if self._live else following

    def _count_release(self) -> None:
        with self._lock:
            self.released += 1

    def close(self) -> None:
        """End the script; ``closed`` counts the calls."""
        self._closing.set()
        self.closed += 1
