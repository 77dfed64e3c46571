"""Sources through GStreamer: ``csi://N``, ``gst://PIPELINE``, and cameras, RTSP and files with ``--decoder gstreamer``.

PyGObject drives the pipelines; where it is absent, a cv2 built with GStreamer reads the live ones.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import SourceError, UsageError
from . import gstreamer_library as library
from . import gstreamer_text as texts
from . import names
from .base import SourceOptions
from .camera import camera_device
from .decoder import Decoder
from .decoding import PictureDecoder
from .file import FileSource
from .gstreamer_decoder import GstDecoder, OtherCodec
from .gstreamer_text import Elements, Pipeline
from .live import LiveSource

_STALL_S = 10.0

Writer = Callable[[Elements, str], Pipeline]
"""(installed elements, codec an RTSP server sends) to the pipeline."""


class GstSource(LiveSource):
    """A pipeline, read in a thread of its own.

    An RTSP stream that is lost or ends is connected again for ever. A camera or a live ``gst://`` pipeline that fails
    is opened again with ``wait``; without it, it is lost, and a ``gst://`` pipeline that ends has ended.

    Args:
        uri: what was asked for; credentials in it never appear in labels, messages or status lines.
        kind: ``camera``, ``network`` or ``pipeline``.
        options: see SourceOptions.
        write: makes the pipeline.
        stall_s: no picture for this long means that the source is lost.
    """

    def __init__(
        self, uri: str, kind: str, options: SourceOptions, write: Writer, *, stall_s: float = _STALL_S
    ) -> None:
        super().__init__(names.label(uri), kind, options, stall_s)
        self._write = write
        self._codec = "h264"
        # What is wrong with the address or the options is told before anything is opened.
        self.pipeline = write(library.NO_ELEMENTS, self._codec)

    @property
    def kind(self) -> str:
        """Of the SourceInfo: ``camera``, ``network`` or ``pipeline``."""
        return self._kind

    def planned(self) -> Pipeline:
        """What would run here; opens nothing. Of RTSP it is the pipeline for H.264: others show when it connects."""
        return self._write(library.elements(), self._codec)

    @property
    def _reconnects(self) -> bool:
        return self._kind == "network" or self._options.wait

    def _ended_by_itself(self) -> SourceError | None:
        return None if self._kind == "pipeline" and not self._options.wait else super()._ended_by_itself()

    def _connect(self) -> PictureDecoder:
        through = route(self._kind)
        elements = library.elements()
        camera = self._kind == "camera"
        self.pipeline = self._write(elements, self._codec)
        if through == "cv2":
            from .gstreamer_opencv import OpencvDecoder

            return OpencvDecoder(self.pipeline, self._label, pixel_limit=self._options.pixel_limit, camera=camera)
        try:
            return self._decoder(elements, camera)
        except OtherCodec as other:
            self._codec = other.codec
            self.pipeline = self._write(elements, self._codec)
            return self._decoder(elements, camera)

    def _decoder(self, elements: Elements, camera: bool) -> GstDecoder:
        if self._kind != "pipeline":
            library.check(self.pipeline, elements)
        decoder = GstDecoder(
            self.pipeline,
            self._label,
            cancelled=self._closing.is_set,
            pixel_limit=self._options.pixel_limit,
            camera=camera,
        )
        if decoder.live and (self._options.from_s or self._options.to_s is not None):
            decoder.close()
            raise SourceError(f"{self._label}: --from and --to belong to a file; this pipeline is live")
        return decoder


class GstFileSource(FileSource):
    """A file through GStreamer. Everything before ``from_s`` is decoded and left out.

    Args:
        path: a file; its header is read by FFmpeg to tell container and codec.
        options: ``from_s``, ``to_s``, ``realtime``, ``pixel_limit``.
        label: what readings call it; the path as it was given.
    """

    kind = "file"

    def _make(self) -> tuple[PictureDecoder, None]:
        route(self.kind)
        elements = library.elements()
        pipeline = self._pipeline(elements)
        library.check(pipeline, elements)
        return (
            GstDecoder(
                pipeline,
                self._label,
                cancelled=self._closing.is_set,
                pixel_limit=self._options.pixel_limit,
            ),
            None,
        )

    def planned(self) -> Pipeline:
        """What would run here; reads the file's header.

        Raises:
            SourceError: not a video that FFmpeg can tell.
        """
        return self._pipeline(library.elements())

    def _pipeline(self, elements: Elements) -> Pipeline:
        """What decodes the file.

        Raises:
            SourceError: not a video that FFmpeg can tell.
        """
        probe: Decoder = self._decoder()
        try:
            container = probe.container_format.partition(",")[0]
            return texts.file(str(self._path.absolute()), container, probe.facts.codec, elements)
        finally:
            probe.close()


def open_gstreamer(uri: str, options: SourceOptions) -> GstSource:
    """The source of ``csi://``, ``gst://``, a camera or an RTSP address; not yet opened.

    Raises:
        UsageError: a form or an option that it does not have.
    """
    if names.camera_name(uri) is not None:
        device, container = camera_device(uri)
        if container != "v4l2":
            raise UsageError("--decoder gstreamer reads cameras on Linux only", fix="--decoder pyav")
        return GstSource(uri, "camera", options, lambda found, _: texts.camera(device, options, found))
    kind = names.scheme(uri)
    if kind == "csi":
        return GstSource(uri, "camera", options, lambda found, _: texts.csi(uri, options))
    if kind in ("rtsp", "rtsps"):
        return GstSource(uri, "network", options, lambda found, codec: texts.rtsp(uri, found, codec))
    if kind == "gst":
        return GstSource(uri, "pipeline", options, lambda found, _: texts.user(uri))
    raise UsageError(
        f"--decoder gstreamer does not read '{names.label(uri)}'; expected a camera, csi://, gst://, rtsp:// or a file",
        fix="--decoder pyav",
    )


def open_gstreamer_file(path: str | Path, options: SourceOptions, label: str) -> GstFileSource:
    """A file through GStreamer, not yet opened."""
    return GstFileSource(path, options, label)


def route(kind: str) -> str:
    """``PyGObject``, or ``cv2`` for live sources where PyGObject is absent.

    Raises:
        SourceError: neither can be used; what mends it.
    """
    by_gi = library.gi_route()
    if by_gi.usable:
        return by_gi.name
    by_cv2 = library.cv2_route()
    if by_cv2.usable and kind in ("camera", "network"):
        return by_cv2.name
    because = "cv2 tells no times, so this needs PyGObject" if by_cv2.usable else by_cv2.reason
    raise SourceError(f"GStreamer cannot be used: {by_gi.reason}; {because}", fix=by_gi.fix)
