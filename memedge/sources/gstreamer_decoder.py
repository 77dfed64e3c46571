"""A running GStreamer pipeline, read picture by picture through PyGObject.

GStreamer works in threads of its own; nothing here needs a main loop. Every wait is cut into short ones, so that
closing takes effect at once, and the bus is emptied with every picture, so that a pipeline may run for months.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from memedge_engines.frame import Frame

from ..errors import SourceError, SourceLost
from . import gstreamer_library as library
from . import names
from .gstreamer_frames import Layout, frame, layout, turn
from .gstreamer_text import RTP_CODECS, SINK, Pipeline

_SLICE_NS = 100_000_000
_DEFAULT_INTERVAL_S = 1 / 25


class OtherCodec(SourceError):
    """The server sends another codec than the pipeline was written for.

    Attributes:
        codec: what it sends.
    """

    def __init__(self, message: str, codec: str) -> None:
        super().__init__(message)
        self.codec = codec


@dataclass(frozen=True)
class Sample:
    """A picture in GStreamer's memory; times in nanoseconds."""

    buffer: Any
    layout: Layout
    pts: int | None
    duration: int | None


class GstDecoder:
    """See :class:`~memedge.sources.decoding.PictureDecoder`. The first picture is waited for in the constructor.

    Args:
        pipeline: what to run.
        label: without credentials.
        cancelled: asked several times a second; true ends every wait.
        camera: raw camera pictures have BT.601's colours unless they say otherwise.
        pixel_limit: larger pictures are refused.

    Raises:
        SourceError: the pipeline cannot be made or started, or ends without a picture.
        OtherCodec: an RTSP server sends another codec.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        label: str,
        *,
        cancelled: Callable[[], bool],
        pixel_limit: int,
        camera: bool = False,
    ) -> None:
        self._gst = library.load()
        self.label = label
        self.live = bool(pipeline.live)
        self.broken = False
        self.on_packet: Callable[[], None] | None = None
        self.time_base = Fraction(1, 1_000_000_000)
        self.fps: float | None = None
        self.nominal_s = _DEFAULT_INTERVAL_S
        self.duration_s: float | None = None
        self.header_frames: int | None = None
        self._cancelled = cancelled
        self._camera = camera
        self._pixel_limit = pixel_limit
        self._codec = pipeline.codec
        self._caps: Any = None
        self._layout: Layout | None = None
        self._turn: tuple[int, tuple[str, ...]] = (0, ())
        self._error: SourceError | None = None
        self._started = False
        self._pipeline: Any = self._parse(pipeline)
        try:
            self._bus: Any = self._pipeline.get_bus()
            self._sink: Any = self._find_sink()
            self._pad: Any = self._sink.get_static_pad("sink")
            self._play(pipeline)
            self._first = self._pull()
            if self._first is None and not cancelled():
                raise SourceError(f"{label}: the pipeline ends without a picture; expected at least one")
            self._started = True
            self._measure()
        except BaseException:
            self.close()
            raise

    # --- starting ---

    def _parse(self, pipeline: Pipeline) -> Any:
        try:
            made = self._gst.Gst.parse_launch(pipeline.text)
        except self._gst.GLib.Error as error:
            text = names.without_secrets(str(error.message))
            raise SourceError(
                f"{self.label}: not a pipeline that GStreamer can make: {text}", fix=library.parse_fix(text)
            ) from None
        if not isinstance(made, self._gst.Gst.Pipeline):
            raise SourceError(f"{self.label}: a single element; expected a source and what it is linked to")
        return made

    def _find_sink(self) -> Any:
        found = []
        iterator = self._pipeline.iterate_all_by_element_factory_name("appsink")
        while True:
            result, element = iterator.next()
            if result != self._gst.Gst.IteratorResult.OK:
                break
            found.append(element)
        if len(found) != 1:
            raise SourceError(f"{self.label}: {len(found)} appsinks in the pipeline; expected one, at its end")
        return found[0]

    def _play(self, pipeline: Pipeline) -> None:
        Gst = self._gst.Gst
        result = self._pipeline.set_state(Gst.State.PAUSED)
        while result == Gst.StateChangeReturn.ASYNC and not self._cancelled():
            self._check_bus()
            self._check_codec()
            result = self._pipeline.get_state(_SLICE_NS)[0]
        self._check_bus()
        if result == Gst.StateChangeReturn.FAILURE:
            raise SourceError(f"{self.label}: the pipeline does not start, and its elements do not say why")
        if pipeline.live is None:
            self.live = result == Gst.StateChangeReturn.NO_PREROLL
        if pipeline.live is None and self.live and self._sink.get_name() == SINK:
            self._sink.set_property("drop", True)
            self._sink.set_property("max-buffers", 1)
        self._pipeline.set_state(Gst.State.PLAYING)

    def _measure(self) -> None:
        if self._layout is not None:
            self.fps = self._layout.fps
            self.nominal_s = 1 / self.fps if self.fps else _DEFAULT_INTERVAL_S
        if not self.live:
            known, length = self._pipeline.query_duration(self._gst.Gst.Format.TIME)
            self.duration_s = length / 1e9 if known and length > 0 else None

    # --- reading ---

    def read(self) -> tuple[Sample, tuple[str, ...]] | None:
        """The next picture with its flags; none at the end of the stream, and after ``cancelled``.

        Raises:
            SourceLost: a live pipeline failed. One that is not live ends, with ``broken``.
        """
        sample, self._first = self._first, None
        try:
            sample = sample or self._pull()
        except OtherCodec:
            raise
        except SourceError as error:
            if self.live:
                raise SourceLost(error.message, fix=error.fix) from None
            self.broken = True
            return None
        if sample is None:
            return None
        if self.on_packet is not None:
            self.on_packet()
        damaged = sample.buffer.has_flags(self._gst.Gst.BufferFlags.CORRUPTED)
        return sample, ("corrupt",) if damaged else ()

    def _pull(self) -> Sample | None:
        while self._pipeline is not None and not self._cancelled():
            found = self._sink.try_pull_sample(_SLICE_NS)
            if found is not None:
                self._empty_bus()
                return self._sample(found)
            self._check_bus()
            if self._sink.get_property("eos"):
                return None
            if not self._started:
                self._check_codec()
            if self.on_packet is not None:
                self.on_packet()
        return None

    def _sample(self, found: Any) -> Sample:
        buffer, caps = found.get_buffer(), found.get_caps()
        if self._layout is None or not caps.is_equal(self._caps):
            self._layout = layout(
                self._gst, caps, self._coded(), self.label, camera=self._camera, pixel_limit=self._pixel_limit
            )
            self._caps = caps
            self._turn = turn(self._gst, self._pad)
        none = self._gst.Gst.CLOCK_TIME_NONE
        pts = None if buffer.pts == none else int(buffer.pts)
        duration = None if buffer.duration == none else int(buffer.duration)
        return Sample(buffer, self._layout, pts, duration)

    def _coded(self) -> Any:
        """Caps of what enters the decoder, where the pipeline has one by that name."""
        decoder = self._pipeline.get_by_name("decoder")
        pad = None if decoder is None else decoder.get_static_pad("sink")
        return None if pad is None else pad.get_current_caps()

    def frame(self, picture: Sample, flags: tuple[str, ...]) -> Frame:
        """A Frame with a copy of the picture."""
        rotation, turned = self._turn
        return frame(self._gst, picture.buffer, picture.layout, rotation, (*flags, *turned))

    # --- what elements report ---

    def _empty_bus(self) -> None:
        """Messages that nobody takes pile up; an error shows itself with the next picture that does not come."""
        self._error = self._error or self._next_error()

    def _next_error(self) -> SourceError | None:
        error: SourceError | None = None
        while (message := self._bus.pop()) is not None:
            if message.type == self._gst.Gst.MessageType.ERROR and error is None:
                error = self._reported(message)
        return error

    def _check_bus(self) -> None:
        self._empty_bus()
        if self._error is not None:
            self._check_codec()
            raise self._error

    def _reported(self, message: Any) -> SourceError:
        error, debug = message.parse_error()
        element = message.src.get_factory().get_name() if hasattr(message.src, "get_factory") else "pipeline"
        text = names.without_secrets(" ".join(str(error.message).split()))
        # The debug text ends in the cause ("streaming stopped, reason not-negotiated"), after file and line.
        cause = names.without_secrets(str(debug or "").strip().splitlines()[-1].strip()) if debug else ""
        cause = "" if cause in text or cause.startswith("../") else f" ({cause})"
        return SourceError(f"{self.label}: {element}: {text}{cause}"[:500], fix=library.hint(text + cause))

    def _check_codec(self) -> None:
        """Raise OtherCodec when the server offers video, but not in the codec that the pipeline expects."""
        source = self._pipeline.get_by_name("source") if self._codec else None
        if source is None:
            return
        offered = []
        for pad in source.pads:
            caps = pad.get_current_caps() or pad.query_caps(None)
            if caps is not None and caps.get_size() and caps.get_structure(0).get_string("media") == "video":
                offered.append(caps.get_structure(0).get_string("encoding-name") or "")
        if offered and all(RTP_CODECS.get(name) != self._codec for name in offered):
            message = f"{self.label}: the server sends {', '.join(offered)}; expected {', '.join(RTP_CODECS)}"
            known = next((RTP_CODECS[name] for name in offered if name in RTP_CODECS), None)
            if known is None:
                raise SourceError(message, fix="--decoder pyav")
            raise OtherCodec(message, known)

    def close(self) -> None:
        """Stop the pipeline; blocks until its elements let go of their devices. Safe to call twice."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.set_state(self._gst.Gst.State.NULL)
