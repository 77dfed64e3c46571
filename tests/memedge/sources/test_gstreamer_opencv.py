"""The way through cv2, on a stand-in for cv2.VideoCapture; a GStreamer-enabled cv2 is rare outside a Jetson."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import helpers_gstreamer
from helpers_gstreamer import Capture
from memedge.errors import SourceError, SourceLost
from memedge.sources import SourceOptions, gstreamer, gstreamer_library, gstreamer_opencv, open_source
from memedge.sources.gstreamer_library import Route
from memedge.sources.gstreamer_opencv import OpencvDecoder, nv12_only
from memedge.sources.gstreamer_text import Elements, camera, csi
from memedge_engines.frame import ColorMatrix, PixelFormat

CSI = csi("csi://0", SourceOptions())


def decoder(*arrays: Any, **more: Any) -> OpencvDecoder:
    return OpencvDecoder(CSI, "csi://0", pixel_limit=10**6, capture=lambda text: Capture(list(arrays)), **more)


@pytest.mark.parametrize("extra_axis", [False, True])
def test_nv12_as_cv2_hands_it_out(extra_axis: bool) -> None:
    rows = np.arange(12 * 8, dtype=np.uint8).reshape(12, 8)
    made = decoder(rows[..., None] if extra_axis else rows)
    item = made.read()
    assert item is not None
    assert item[0].pts is None
    frame = made.frame(*item)
    assert (frame.format, frame.width, frame.height) == (PixelFormat.NV12, 8, 8)
    luma, chroma = frame.host_planes()
    np.testing.assert_array_equal(luma, rows[:8])
    np.testing.assert_array_equal(chroma, rows[8:])
    assert made.read() is None
    made.close()
    made.close()


def test_colours_follow_the_rule() -> None:
    high = np.zeros((1080, 8), np.uint8)
    for camera_source, rows, matrix in ((False, high, ColorMatrix.BT709), (True, high, ColorMatrix.BT601)):
        made = decoder(rows, camera=camera_source)
        item = made.read()
        assert item is not None
        assert made.frame(*item).matrix is matrix


@pytest.mark.parametrize(
    "array", [np.zeros((12, 8, 3), np.uint8), np.zeros((12, 8), np.uint16), np.zeros((12, 7), np.uint8)]
)
def test_other_arrays_are_refused(array: Any) -> None:
    with pytest.raises(SourceLost, match="expected NV12"):
        decoder(array).read()


def test_too_large_and_not_opened() -> None:
    with pytest.raises(SourceLost, match="the limit is"):
        decoder(np.zeros((1500, 1002), np.uint8)).read()
    capture = Capture([], opened=False)
    with pytest.raises(SourceError, match="cv2 cannot open the pipeline"):
        OpencvDecoder(CSI, "csi://0", pixel_limit=1, capture=lambda text: capture)
    assert capture.released == 1


def test_cv2_is_asked_for_nv12() -> None:
    """Of a list it would take BGR or grey, converted by GStreamer."""
    text = camera("/dev/video0", SourceOptions(), Elements(lambda name: False)).text
    assert "{" in text
    assert nv12_only(text).endswith(
        "videoconvert ! video/x-raw,format=NV12 ! appsink name=memedge_appsink drop=true max-buffers=1 sync=false"
    )
    assert nv12_only(CSI.text) == CSI.text


def test_a_live_source_without_pygobject_goes_through_cv2(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    arrays = [np.full((12, 8), n, np.uint8) for n in range(4)]

    def fake(text: str) -> Capture:
        opened.append(text)
        return Capture(arrays)

    monkeypatch.setattr(gstreamer_library, "cv2_route", lambda: Route("cv2", True, "4.8.0"))
    monkeypatch.setattr(gstreamer_opencv, "_open", fake)
    with helpers_gstreamer.without_gi(monkeypatch):
        source = open_source("csi://0")
        info = source.open()
        assert (info.kind, info.live, info.width, info.height) == ("camera", True, 8, 8)
        with pytest.raises(SourceLost, match="the stream ended"):
            list(source.frames())
        assert opened == [nv12_only(CSI.text)]
        with pytest.raises(SourceError, match="this needs PyGObject"):
            open_source("gst://videotestsrc ! videoconvert").open()


def test_neither_way_says_both_reasons_and_a_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        gstreamer_library, "cv2_route", lambda: Route("cv2", False, "4.9", "cv2 4.9 was built without it")
    )
    with helpers_gstreamer.without_gi(monkeypatch):
        for uri in ("csi://0", "gst://videotestsrc ! videoconvert"):
            with pytest.raises(SourceError, match=r"not visible to this Python; cv2 4\.9 was") as caught:
                open_source(uri).open()
            assert "apt-get install python3-gi" in (caught.value.fix or "")
        with pytest.raises(SourceError, match="GStreamer cannot be used"):
            gstreamer.route("file")


def test_this_cv2_tells_whether_it_has_gstreamer() -> None:
    pytest.importorskip("cv2", reason="cv2 is not installed")
    route = gstreamer_library.cv2_route()
    assert route.version
    assert route.usable or ("built without GStreamer" in route.reason and route.fix)
