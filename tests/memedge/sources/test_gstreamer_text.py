"""Pipelines as text: what runs on a Jetson and on a desktop, without either."""

from __future__ import annotations

import pytest

from helpers_gstreamer import need, quiet
from memedge.errors import SourceError, UsageError
from memedge.sources import SourceOptions, gstreamer_library
from memedge.sources.gstreamer_text import Elements, camera, csi, ends_in_appsink, file, quote, rtsp, user

JETSON = Elements(
    {"nvv4l2decoder", "nvvidconv", "nvarguscamerasrc", "h264parse", "avdec_h264", "vp9parse", "jpegdec"}.__contains__
)
THOR = Elements(JETSON.has, thor=True)
DESKTOP = Elements({"avdec_h264", "openh264dec", "avdec_h265", "jpegdec", "vp9dec", "h264parse"}.__contains__)
NVIDIA = Elements({"nvh264dec", "avdec_h264", "nvv4l2decoder"}.__contains__)
BARE = Elements(lambda name: False)
OPEN = "video/x-raw,format={NV12,I420,Y42B,Y444,YUY2,GRAY8,RGB,BGR}"
LIVE = "appsink name=memedge_appsink drop=true max-buffers=1 sync=false"
FILE = "appsink name=memedge_appsink max-buffers=4 sync=false"
CAPS = f'caps="{OPEN}"'
JPEG = "jpegparse ! nvv4l2decoder name=decoder enable-max-performance=1 mjpeg=1 ! nvvidconv ! video/x-raw,format=NV12"


def test_csi() -> None:
    made = csi("csi://0", SourceOptions())
    assert made.text == made.shown
    assert made.live
    assert made.text == (
        "nvarguscamerasrc sensor-id=0 ! video/x-raw(memory:NVMM),format=NV12,width=1280,height=720,framerate=30/1 ! "
        f"nvvidconv flip-method=0 ! video/x-raw,format=NV12 ! {LIVE}"
    )
    asked = csi("csi://2?flip=6&mode=3", SourceOptions(camera_size=(1920, 1080), camera_fps=29.97)).text
    assert "sensor-id=2 sensor-mode=3 !" in asked
    assert "width=1920,height=1080,framerate=30000/1001" in asked
    assert "flip-method=6" in asked


@pytest.mark.parametrize(
    "uri",
    ["csi://", "csi://front", "csi://0?flip=9", "csi://0?flop=1", "csi://0 ! filesink location=x", "csi://0?mode=x"],
)
def test_csi_refuses_other_forms(uri: str) -> None:
    with pytest.raises(UsageError, match="no CSI camera; expected csi://0"):
        csi(uri, SourceOptions())


@pytest.mark.parametrize(
    ("fps", "rate"), [(30, "30/1"), (29.97, "30000/1001"), (59.94, "60000/1001"), (7.5, "15/2"), (23.976, "24000/1001")]
)
def test_rates_are_spelt_as_cameras_do(fps: float, rate: str) -> None:
    assert f"framerate={rate} " in camera("/dev/video0", SourceOptions(camera_fps=fps), BARE).text


def test_usb_cameras() -> None:
    raw = camera("/dev/video1", SourceOptions(camera_size=(640, 480), camera_fps=30), JETSON).text
    assert raw == (
        'v4l2src name=source device="/dev/video1" do-timestamp=true ! '
        f"video/x-raw,width=640,height=480,framerate=30/1 ! videoconvert ! {OPEN} ! {LIVE}"
    )
    assert "video/x-raw,format=YUY2 !" in camera("/dev/video0", SourceOptions(camera_format="yuyv422"), BARE).text
    mjpeg = SourceOptions(camera_format="mjpeg", camera_size=(1280, 720))
    assert (
        " ! image/jpeg,width=1280,height=720 ! jpegdec name=decoder ! videoconvert ! "
        in camera("/dev/video0", mjpeg, DESKTOP).text
    )
    assert f" ! {JPEG} ! " in camera("/dev/video0", mjpeg, JETSON).text
    assert " ! jpegdec name=decoder ! videoconvert" in camera("/dev/video0", mjpeg, THOR).text, "Thor decodes no JPEG"
    assert (
        " ! video/x-h264 ! h264parse ! nvv4l2decoder name=decoder enable-max-performance=1 ! nvvidconv ! "
        in camera("/dev/video0", SourceOptions(camera_format="h264"), JETSON).text
    )
    with pytest.raises(UsageError, match="expected one of mjpeg, h264"):
        camera("/dev/video0", SourceOptions(camera_format="bayer"), JETSON)


def test_rtsp_hides_credentials_and_quotes_the_address() -> None:
    made = rtsp('rtsp://me:se"cret@host:8554/a?x=1&y=2', JETSON)
    assert made.shown == (
        'rtspsrc name=source location="rtsp://***@host:8554/a?x=1&y=2" latency=200 protocols=tcp ! rtph264depay ! '
        "h264parse ! nvv4l2decoder name=decoder enable-max-performance=1 ! nvvidconv ! video/x-raw,format=NV12 ! "
        + LIVE
    )
    assert 'location="rtsp://me:se\\"cret@host:8554/a?x=1&y=2"' in made.text
    assert "protocols=udp" in rtsp("rtsp://host/a?udp", DESKTOP).text
    assert "?udp" not in rtsp("rtsp://host/a?udp", DESKTOP).text
    assert (
        " ! rtph265depay ! h265parse ! avdec_h265 name=decoder ! videoconvert ! "
        in rtsp("rtsp://host/a", DESKTOP, "hevc").text
    )


@pytest.mark.parametrize(
    ("container", "codec", "elements", "chain"),
    [
        (
            "mov",
            "h264",
            JETSON,
            "qtdemux ! h264parse ! nvv4l2decoder name=decoder enable-max-performance=1 ! nvvidconv",
        ),
        ("mov", "h264", NVIDIA, "qtdemux ! h264parse ! nvh264dec name=decoder ! videoconvert"),
        ("matroska", "hevc", DESKTOP, "matroskademux ! h265parse ! avdec_h265 name=decoder ! videoconvert"),
        ("matroska", "vp9", JETSON, "matroskademux ! vp9parse ! nvv4l2decoder name=decoder enable-max-performance=1 !"),
        ("avi", "mjpeg", DESKTOP, "avidemux ! jpegdec name=decoder ! videoconvert"),
        ("h264", "h264", DESKTOP, '"/a/b" ! h264parse ! avdec_h264 name=decoder ! videoconvert'),
        ("mov", "h264", BARE, "qtdemux ! decodebin ! videoconvert"),
        ("mov", "prores", JETSON, '"/a/b" ! decodebin ! nvvidconv'),
        ("mxf", "h264", DESKTOP, '"/a/b" ! decodebin ! videoconvert'),
    ],
)
def test_files_by_container_and_codec(container: str, codec: str, elements: Elements, chain: str) -> None:
    made = file("/a/b", container, codec, elements)
    assert made.text.startswith('filesrc name=source location="/a/b" ! ')
    assert f"{chain} " in made.text
    assert made.text.endswith(FILE), "nothing of a file is dropped"
    assert not made.live


def test_a_users_own_pipeline() -> None:
    assert user("gst://videotestsrc ! videoconvert").text == f"videotestsrc ! videoconvert ! {FILE} {CAPS}"
    assert user("gst://videotestsrc ! appsink drop=true").text == "videotestsrc ! appsink drop=true"
    made = user('gst://rtspsrc location=rtsp://a:b@h/x user-pw="s e" ! decodebin !')
    assert "a:b@" in made.text
    assert made.shown == f"rtspsrc location=rtsp://***@h/x user-pw=*** ! decodebin ! {FILE} {CAPS}"
    assert ends_in_appsink("a ! appsink")
    assert not ends_in_appsink("a ! appsink2")
    with pytest.raises(UsageError, match="without a pipeline"):
        user("gst:// ")


NASTY = [
    "/a b/c.mp4",
    '/x"y.mp4',
    "/it's ! filesink location=/tmp/stolen",
    "/back\\slash\\",
    "/line\nbreak",
    "/ü#%20 {a} (b), c;d=e",
    "/$HOME `id`",
    '/"quoted\\"',
]


@quiet
@pytest.mark.parametrize("name", NASTY)
def test_nothing_in_a_name_is_syntax(name: str) -> None:
    need()
    gst = gstreamer_library.load().Gst
    made = gst.parse_launch(file(name, "mov", "h264", BARE).text)
    assert made.get_by_name("source").get_property("location") == name
    made = gst.parse_launch(f"filesrc name=f location={quote(name)} ! fakesink")
    assert made.iterate_elements().next()[1] is not None
    assert made.get_by_name("f").get_property("location") == name
    address = f"rtsp://user:pass@host{name}"
    if not name.endswith("\\"):
        made = gst.parse_launch(f"rtspsrc name=source location={quote(address)} ! fakesink")
        assert made.get_by_name("source").get_property("location") == address


def test_missing_elements_are_told_before_anything_is_opened() -> None:
    made = csi("csi://0", SourceOptions())
    with pytest.raises(SourceError, match="no element nvarguscamerasrc, nvvidconv, appsink") as caught:
        gstreamer_library.check(made, BARE)
    assert "JetPack" in str(caught.value.fix)
    with pytest.raises(SourceError, match="no element h265parse") as caught:
        gstreamer_library.check(file("/a", "mov", "hevc", DESKTOP), Elements(lambda name: name != "h265parse"))
    assert "apt-get install" in str(caught.value.fix)
