"""GStreamer pipelines as text: pure functions, so that what runs on a Jetson can be read and tested anywhere.

Every pipeline ends in one ``appsink`` called :data:`SINK` that hands out pictures in ordinary memory. On a Jetson the
hardware decodes (``nvv4l2decoder``) and copies out of its own memory (``nvvidconv``); elsewhere whatever decoder is
installed. A live pipeline never queues: its sink keeps the newest picture only.

Element chains after jetson-utils and the element references of GStreamer and L4T; those of a Jetson were **not** run
on one for this project.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from ..errors import UsageError
from . import names
from .base import SourceOptions

SINK = "memedge_appsink"
"""Name of the sink that :class:`Pipeline` texts end in; cv2 knows its sink by "appsink" in the name."""

FORMATS = ("NV12", "I420", "Y42B", "Y444", "YUY2", "GRAY8", "RGB", "BGR")
"""GStreamer's names of the pixel formats that a Frame can hold."""

_LIVE_SINK = f"appsink name={SINK} drop=true max-buffers=1 sync=false"
_FILE_SINK = f"appsink name={SINK} max-buffers=4 sync=false"
_OUT = ("videoconvert", f"video/x-raw,format={{{','.join(FORMATS)}}}")
_JETSON_OUT = ("nvvidconv", "video/x-raw,format=NV12")
_JETSON_DECODER = "nvv4l2decoder name=decoder enable-max-performance=1"
_DEFAULT_SIZE = (1280, 720)
_DEFAULT_FPS = 30.0

# FFmpeg's names of containers and codecs, which the header probe uses, to elements; first installed decoder wins.
_DEMUXERS = {
    "mov": "qtdemux", "matroska": "matroskademux", "avi": "avidemux", "mpegts": "tsdemux", "flv": "flvdemux",
    "ivf": "ivfparse", "h264": "", "hevc": "",
}  # fmt: skip
_PARSERS = {"h264": "h264parse", "hevc": "h265parse", "vp9": "vp9parse", "av1": "av1parse", "mpeg4": "mpeg4videoparse"}
_DECODERS = {
    "h264": ("nvh264dec", "avdec_h264", "openh264dec"),
    "hevc": ("nvh265dec", "avdec_h265"),
    "vp8": ("nvvp8dec", "vp8dec", "avdec_vp8"),
    "vp9": ("nvvp9dec", "vp9dec", "avdec_vp9"),
    "av1": ("nvav1dec", "dav1ddec", "av1dec"),
    "mjpeg": ("jpegdec", "avdec_mjpeg"),
    "mpeg4": ("avdec_mpeg4",),
    "mpeg2video": ("avdec_mpeg2video",),
}
_ON_JETSON = frozenset({"h264", "hevc", "vp9", "av1"})  # of all nvv4l2decoder's codecs, those every Orin and Thor has
_DEPAYLOADERS = {"h264": "rtph264depay", "hevc": "rtph265depay", "mjpeg": "rtpjpegdepay"}
RTP_CODECS = {"H264": "h264", "H265": "hevc", "JPEG": "mjpeg"}
"""``encoding-name`` of RTP caps to the codec's name here."""
# FFmpeg's names of camera formats, as --camera-format takes them, to caps.
_CAMERA_CAPS = {
    "mjpeg": "image/jpeg",
    "h264": "video/x-h264",
    "hevc": "video/x-h265",
    "yuyv422": "video/x-raw,format=YUY2",
    "uyvy422": "video/x-raw,format=UYVY",
    "nv12": "video/x-raw,format=NV12",
    "yuv420p": "video/x-raw,format=I420",
    "gray": "video/x-raw,format=GRAY8",
    "rgb24": "video/x-raw,format=RGB",
    "bgr24": "video/x-raw,format=BGR",
}


@dataclass(frozen=True)
class Elements:
    """Which elements an installation has; ``thor``: a Jetson Thor, whose video decoder takes no JPEG."""

    has: Callable[[str], bool]
    thor: bool = False

    @property
    def jetson(self) -> bool:
        """Whether Jetson's decoder and converter are both there (DeepStream on a desktop has only the decoder)."""
        return self.has("nvv4l2decoder") and self.has("nvvidconv")


@dataclass(frozen=True)
class Pipeline:
    """A pipeline.

    Attributes:
        text: what ``gst-launch-1.0`` and ``gst_parse_launch`` take; may hold credentials.
        shown: the same for people, without credentials.
        live: whether it is live; none: the pipeline itself will tell.
        codec: the codec that an RTSP pipeline was written for, or empty.
    """

    text: str
    shown: str
    live: bool | None
    codec: str = ""

    def elements(self) -> list[str]:
        """Names of the elements in the text, without caps; only for texts of this module."""
        first_words = [part.split()[0] for part in self.shown.split(" ! ")]
        return [word for word in first_words if "/" not in word]


def quote(value: str) -> str:
    """A property's value so that nothing in it is read as syntax: ``gst_parse_launch`` undoes exactly this."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def csi(uri: str, options: SourceOptions) -> Pipeline:
    """A CSI camera through the Jetson's image processor: ``csi://N``, with ``?flip=0..7`` and ``&mode=N`` if wanted.

    Args:
        uri: sensor number and what nvvidconv and nvarguscamerasrc should do with it.
        options: ``camera_size`` (default 1280x720) and ``camera_fps`` (default 30): the image processor scales the
            nearest sensor mode to them.

    Raises:
        UsageError: another form.
    """
    rest = uri[len("csi://") :]
    number, _, query = rest.partition("?")
    words = dict(word.partition("=")[::2] for word in query.split("&") if word)
    flip, mode = words.pop("flip", "0"), words.pop("mode", "")
    numbers = number.isdecimal() and (not mode or mode.isdecimal())
    if not numbers or words or flip not in tuple("01234567"):
        raise UsageError(
            f"'{uri}' is no CSI camera; expected csi://0, csi://1 ..., with ?flip=0..7 and &mode=N if wanted"
        )
    width, height = options.camera_size or _DEFAULT_SIZE
    source = f"nvarguscamerasrc sensor-id={int(number)}" + (f" sensor-mode={int(mode)}" if mode else "")
    rate = _rate(options.camera_fps or _DEFAULT_FPS)
    text = _chain(
        source,
        f"video/x-raw(memory:NVMM),format=NV12,width={width},height={height},framerate={rate}",
        f"nvvidconv flip-method={flip}",
        "video/x-raw,format=NV12",
        _LIVE_SINK,
    )
    return Pipeline(text, text, True)


def camera(device: str, options: SourceOptions, elements: Elements) -> Pipeline:
    """A V4L2 camera: raw, MJPEG or H.264 as ``camera_format`` says; raw where it says nothing.

    Raises:
        UsageError: a format that has no caps here.
    """
    wanted = options.camera_format
    if wanted is not None and wanted not in _CAMERA_CAPS:
        raise UsageError(f"--camera-format {wanted} through GStreamer; expected one of {', '.join(_CAMERA_CAPS)}")
    caps = "video/x-raw" if wanted is None else _CAMERA_CAPS[wanted]
    if options.camera_size is not None:
        caps += f",width={options.camera_size[0]},height={options.camera_size[1]}"
    if options.camera_fps is not None:
        caps += f",framerate={_rate(options.camera_fps)}"
    pictures = _OUT if wanted is None or "x-raw" in caps else _decoded(wanted, elements)
    text = _chain(
        f"v4l2src name=source device={quote(device)} do-timestamp=true",
        caps,
        *pictures,
        _LIVE_SINK,
    )
    return Pipeline(text, text, True)


def rtsp(uri: str, elements: Elements, codec: str = "h264", latency_ms: int = 200) -> Pipeline:
    """An RTSP stream over TCP (over UDP when the address ends in ``?udp``).

    Args:
        uri: the address, maybe with credentials.
        codec: what the server sends, one of :data:`RTP_CODECS`; the reader finds it out and asks again.
        latency_ms: rtspsrc's jitter buffer.
    """
    udp = uri.endswith("?udp")
    address = uri[: -len("?udp")] if udp else uri
    transport = "udp" if udp else "tcp"

    def text(location: str) -> str:
        return _chain(
            f"rtspsrc name=source location={quote(location)} latency={latency_ms} protocols={transport}",
            _DEPAYLOADERS[codec],
            *_decoded(codec, elements),
            _LIVE_SINK,
        )

    return Pipeline(text(address), text(names.label(address)), True, codec)


def file(path: str, container: str, codec: str, elements: Elements) -> Pipeline:
    """A file.

    Args:
        path: absolute.
        container, codec: FFmpeg's names of them (``mov``, ``h264``); with others GStreamer's own choice decodes.
    """
    demuxer = _DEMUXERS.get(container)
    known = demuxer is not None and codec in _DECODERS
    split = [demuxer] if known and demuxer else []
    text = _chain(
        f"filesrc name=source location={quote(path)}",
        *split,
        *_decoded(codec if known else "", elements),
        _FILE_SINK,
    )
    return Pipeline(text, text, False)


def user(uri: str) -> Pipeline:
    """A user's own pipeline, ``gst://PIPELINE``; without an appsink at its end it gets one.

    A pipeline can read and write files like any program: it is the user's own text and is taken as it stands.

    Raises:
        UsageError: nothing after ``gst://``.
    """
    text = uri[len("gst://") :].strip().rstrip("!").rstrip()
    if not text:
        raise UsageError("'gst://' without a pipeline; expected e.g. 'gst://v4l2src device=/dev/video0 ! videoconvert'")
    if not ends_in_appsink(text):
        text = _chain(text, f"{_FILE_SINK} caps={quote(_OUT[1])}")  # caps as an element cannot follow the user's own
    return Pipeline(text, names.without_secrets(text), None)


def ends_in_appsink(text: str) -> bool:
    """Whether the last element of a pipeline is an appsink, which is then left as it is."""
    last = text.rpartition("!")[2].split()
    return bool(last) and last[0] == "appsink"


def _chain(*parts: str) -> str:
    return " ! ".join(parts)


def _rate(fps: float) -> str:
    """29.97 is 30000/1001, as cameras and their drivers spell it."""
    ntsc = Fraction(round(fps * 1001 / 1000) * 1000, 1001)
    exact = Fraction(fps).limit_denominator(1001)
    found = ntsc if exact.denominator != 1 and abs(ntsc - Fraction(fps)) < Fraction(1, 100) else exact
    return f"{found.numerator}/{found.denominator}"


def _decoded(codec: str, elements: Elements) -> list[str]:
    """Parser, decoder and what brings its pictures into ordinary memory in a format that a Frame can hold."""
    parser = _PARSERS.get(codec, "")
    parsed = [parser] if parser and (codec in ("h264", "hevc") or elements.has(parser)) else []
    if elements.jetson and codec in _ON_JETSON:
        return [*parsed, _JETSON_DECODER, *_JETSON_OUT]
    if elements.jetson and codec == "mjpeg" and not elements.thor:
        return ["jpegparse", f"{_JETSON_DECODER} mjpeg=1", *_JETSON_OUT]
    found = next((name for name in _DECODERS.get(codec, ()) if elements.has(name)), None)
    if found is not None:
        return [*parsed, f"{found} name=decoder", *_OUT]
    # On a Jetson the choice may fall on its decoder, whose memory only nvvidconv can read; that reads ordinary, too.
    return ["decodebin", *(_JETSON_OUT if elements.jetson else _OUT)]
