"""``memedge.stream``: rolling readings of any source, as an iterator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from .lane import LaneOptions
from .loading import load
from .loop import Loop, LoopOptions
from .reading import Reading
from .scorer import Scorer
from .sinks.base import Sink, Summary
from .sources import SourceOptions, open_source
from .sources.base import Source


class Stream:
    """An iterator of readings and a context manager; leaving it closes the source, and the scorer if it opened one."""

    def __init__(self, loop: Loop, owned: Scorer | None = None) -> None:
        self._loop = loop
        self._owned = owned
        self._readings = loop.readings()

    def __iter__(self) -> Iterator[Reading]:
        return self

    def __next__(self) -> Reading:
        try:
            return next(self._readings)
        except BaseException:  # its end, or an error after which nothing more comes
            self._release()
            raise

    @property
    def summary(self) -> Summary | None:
        """The summary of the first bundle, once the stream has ended."""
        return next(iter(self._loop.summaries.values()), None)

    def close(self) -> None:
        """End the stream; safe to call twice."""
        self._readings.close()  # type: ignore[attr-defined]
        self._release()

    def _release(self) -> None:
        if self._owned is not None:
            self._owned.close()
            self._owned = None

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def stream(
    source: str | Source,
    scorer: Scorer | None = None,
    window_s: float | None = None,
    rate_hz: float | None = None,
    *,
    options: SourceOptions | None = None,
    sinks: Sequence[Sink] = (),
    caller: dict[str, Any] | None = None,
) -> Stream:
    """Score a source frame by frame.

    Args:
        source: ``camera0``, a file, ``rtsp://...``, ``test://`` (``memedge run --help`` lists them), or a Source.
        scorer: an opened bundle, left open; none opens the default bundle for the life of the stream.
        window_s: rolling window in seconds; none takes the target's own.
        rate_hz: at most this many frames a second are scored; none scores every frame.
        options: how the source is opened.
        sinks: further takers of the readings; the caller closes them.
        caller: values of the bundle's caller inputs; text under ``title`` where it takes a title.

    Raises:
        UsageError, SourceError, BundleError, EngineError: at once for names and bundles that are wrong, on the first
            step of the iteration for a source that cannot be opened.
    """
    lane = LaneOptions(window_s=window_s, rate_hz=rate_hz)
    loop_options = LoopOptions(lane=lane, caller=caller or {})
    opened = open_source(source, options) if isinstance(source, str) else source
    owned = None if scorer is not None else load()
    used = scorer or owned
    assert used is not None
    label = used.manifest.name
    return Stream(Loop(opened, {label: used}, sinks, loop_options), owned)
