"""A build's phases as one fraction, and the monitor that TensorRT tells them to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

# A builder that opened more phases than this at once would be a fault of its own; the table stays bounded.
_MOST_PHASES = 256


class Phases:
    """The tree of open phases. Not thread-safe.

    A child's progress counts as the step of its parent that is going on; the fraction never falls.
    """

    def __init__(self) -> None:
        self._open: dict[str, tuple[str | None, int, int]] = {}
        self._fraction = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of ``steps`` steps begins inside ``parent``, or at the root."""
        if len(self._open) < _MOST_PHASES:
            self._open[name] = (parent, max(1, steps), 0)

    def step(self, name: str, number: int) -> None:
        """Step ``number``, from 0, of a phase is done; steps may come out of order."""
        if name in self._open:
            parent, steps, done = self._open[name]
            self._open[name] = (parent, steps, max(done, number + 1))

    def finish(self, name: str) -> None:
        """A phase is over."""
        parent = self._open.pop(name, (None, 1, 0))[0]
        if parent is None:
            self._fraction = 1.0 if not self._open else self._fraction

    @property
    def fraction(self) -> float:
        """0..1 over everything so far."""
        roots = [name for name, (parent, _, _) in self._open.items() if parent is None]
        now = max((self._share(name, 0) for name in roots), default=0.0)
        self._fraction = max(self._fraction, now)
        return self._fraction

    def _share(self, name: str, depth: int) -> float:
        _, steps, done = self._open[name]
        inside = 0.0
        if depth < 16:
            children = [child for child, (parent, _, _) in self._open.items() if parent == name and child != name]
            inside = max((self._share(child, depth + 1) for child in children), default=0.0)
        return min(1.0, (done + min(inside, 1.0)) / steps)


class Watch:
    """What a monitor's callbacks need: it counts phases, asks for cancellation and keeps what went wrong.

    Attributes:
        cancelled: whether the builder was told to stop.
        error: the first exception of a callback, which also stops the build; the caller raises it again.
    """

    def __init__(
        self, progress: Callable[[float, str], None] | None = None, wish: Callable[[], bool] | None = None
    ) -> None:
        self._progress = progress
        self._wish = wish
        self._phases = Phases()
        self._lock = threading.Lock()
        self.cancelled = False
        self.error: BaseException | None = None

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins."""
        with self._lock:
            self._phases.start(name, parent, steps)
        self._tell(name)

    def step(self, name: str, number: int) -> bool:
        """A step is done; false tells the builder to stop."""
        with self._lock:
            self._phases.step(name, number)
        self._tell(name)
        return not self.cancelled

    def finish(self, name: str) -> None:
        """A phase is over."""
        with self._lock:
            self._phases.finish(name)

    def _tell(self, name: str) -> None:
        # Called by the library's C++ code: whatever is raised here must not reach it.
        try:
            with self._lock:
                if self._progress is not None and not self.cancelled:
                    self._progress(self._phases.fraction, name)
                if self._wish is not None and self._wish():
                    self.cancelled = True
        except BaseException as error:
            self.cancelled = True
            if self.error is None:
                self.error = error


def monitor(trt: Any, watch: Watch) -> Any:
    """An IProgressMonitor of this module that tells ``watch``; the builder calls it from several threads."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc,name-defined,unused-ignore]
        """Hands the calls on."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """A phase begins; its parent is none at the root."""
            watch.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            """A step is done; false cancels the build."""
            return watch.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            """A phase is over."""
            watch.finish(phase_name)

    return Monitor()
