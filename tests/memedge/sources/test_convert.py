"""Pixel formats against plain arithmetic and swscale's exact paths."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from helpers_video import numbered, write_video
from memedge.sources import open_source
from memedge.sources.convert import StreamFacts, to_frame
from memedge_engines.frame import ChromaSiting, ColorMatrix, ColorRange, PixelFormat

RGB = numbered(3, 64, 48)[2]


def av_frame(pix_fmt: str, picture: np.ndarray = RGB) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)


@pytest.mark.parametrize("pix_fmt", [p.value for p in PixelFormat])
@pytest.mark.parametrize("width", [64, 63])
def test_every_format_of_a_frame_passes_through_untouched(pix_fmt: str, width: int) -> None:
    frame = to_frame(av_frame(pix_fmt, np.ascontiguousarray(RGB[:, :width])), StreamFacts())
    assert frame.format.value == pix_fmt
    for view, plane in zip(frame.host_planes(), frame.owner.planes, strict=False):
        row = np.frombuffer(plane, np.uint8)[: view.shape[1]]
        assert np.array_equal(view[0, : plane.width], row[: plane.width])


@pytest.mark.parametrize("pix_fmt", ["rgba", "bgra", "gbrp", "argb", "rgb48le", "gbrp10le"])
def test_other_rgb_is_rgb24(pix_fmt: str) -> None:
    frame = to_frame(av_frame(pix_fmt), StreamFacts())
    assert (frame.format, frame.color_range) == (PixelFormat.RGB24, ColorRange.FULL)
    got = frame.host_planes()[0].reshape(48, 64, 3)
    assert np.abs(got.astype(int) - RGB).max() <= (1 if "10" in pix_fmt or "48" in pix_fmt else 0)


def test_palettes() -> None:
    numbers = np.arange(48 * 64, dtype=np.uint32).reshape(48, 64) % 256
    colors = np.random.default_rng(0).integers(0, 256, (256, 4), dtype=np.uint8)  # alpha, red, green, blue
    colors[:, 0] = 255
    source = av.VideoFrame.from_ndarray((numbers.astype(np.uint8), colors), format="pal8")
    frame = to_frame(source, StreamFacts())
    assert frame.format is PixelFormat.RGB24
    assert np.array_equal(frame.host_planes()[0].reshape(48, 64, 3), colors[numbers][..., 1:])


def test_sixteen_bit_rgb_packed_in_two_bytes() -> None:
    frame = to_frame(av_frame("rgb565le"), StreamFacts())
    assert frame.format is PixelFormat.RGB24
    assert np.abs(frame.host_planes()[0].reshape(48, 64, 3).astype(int) - RGB).max() <= 8  # five bits a channel


@pytest.mark.parametrize(
    ("pix_fmt", "target"),
    [("nv21", "yuv420p"), ("uyvy422", "yuv422p"), ("nv16", "yuv422p"), ("nv24", "yuv444p"), ("yuva420p", "yuv420p")],
)
def test_repacked_yuv_keeps_every_sample(pix_fmt: str, target: str) -> None:
    """Formats that differ from a Frame's own only in how samples lie: their luma and chroma come through exactly."""
    planar = av_frame(target)
    packed = planar.reformat(format=pix_fmt)
    frame = to_frame(packed, StreamFacts())
    assert frame.format.value == target
    for view, plane in zip(frame.host_planes(), planar.planes, strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        assert np.array_equal(view, rows[: view.shape[0], : view.shape[1]])


@pytest.mark.parametrize("pix_fmt", ["yuv411p", "yuv410p", "yuv440p"])
def test_rare_subsampling_becomes_444_with_the_same_luma(pix_fmt: str) -> None:
    source = av_frame(pix_fmt)
    frame = to_frame(source, StreamFacts())
    assert (frame.format, frame.color_range) == (PixelFormat.YUV444P, ColorRange.LIMITED)
    luma = np.frombuffer(source.planes[0], np.uint8).reshape(-1, source.planes[0].line_size)[:48, :64]
    assert np.array_equal(frame.host_planes()[0], luma)


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("base", ["yuv420p", "yuv422p", "yuv444p"])
def test_deep_planar_yuv_is_rounded(base: str, bits: int, full: bool) -> None:
    source = av.VideoFrame(64, 48, f"{base}{bits}le")
    rng = np.random.default_rng(bits)
    for plane in source.planes:
        plane.update(rng.integers(0, 1 << bits, plane.buffer_size // 2).astype("<u2").tobytes())
    source.color_range = 2 if full else 1
    frame = to_frame(source, StreamFacts())
    assert frame.format.value == base
    for view, plane in zip(frame.host_planes(), source.planes, strict=True):
        deep = np.frombuffer(plane, "<u2").reshape(-1, plane.line_size // 2)[: view.shape[0], : view.shape[1]]
        exact = deep * (255.0 / ((1 << bits) - 1)) if full else np.minimum(deep / (1 << (bits - 8)), 255)
        assert np.abs(view - exact).max() <= 0.5
    assert frame.owner is None


def test_p010_and_deep_grey() -> None:
    source = av.VideoFrame(64, 48, "p010le")
    rng = np.random.default_rng(0)
    for plane in source.planes:
        plane.update((rng.integers(0, 1024, plane.buffer_size // 2) << 6).astype("<u2").tobytes())
    frame = to_frame(source, StreamFacts())
    assert frame.format is PixelFormat.NV12
    for view, plane in zip(frame.host_planes(), source.planes, strict=True):
        deep = np.frombuffer(plane, "<u2").reshape(-1, plane.line_size // 2)[: view.shape[0], : view.shape[1]] >> 6
        assert np.abs(view - np.minimum(deep / 4, 255)).max() <= 0.5
    grey = av.VideoFrame(64, 48, "gray16le")
    grey.planes[0].update(rng.integers(0, 65536, grey.planes[0].buffer_size // 2).astype("<u2").tobytes())
    frame = to_frame(grey, StreamFacts(codec="ffv1"))
    assert (frame.format, frame.color_range) == (PixelFormat.GRAY8, ColorRange.FULL)
    deep = np.frombuffer(grey.planes[0], "<u2").reshape(48, -1)[:, :64]
    assert np.abs(frame.host_planes()[0] - deep * (255.0 / 65535)).max() <= 0.5


def test_ten_bit_files(tmp_path: Path) -> None:
    path = write_video(tmp_path / "deep.mp4", numbered(3), pix_fmt="yuv420p10le", options={"qp": "0"})
    frames = list(open_source(str(path)).frames())
    assert frames[0].format is PixelFormat.I420
    with av.open(str(path)) as container:
        deep = next(container.decode(video=0))
        luma = np.frombuffer(deep.planes[0], "<u2").reshape(-1, deep.planes[0].line_size // 2)[:64, :96]
    assert np.abs(frames[0].host_planes()[0] - luma / 4).max() <= 0.5


def test_grey_is_limited_for_video_codecs_and_full_for_the_rest() -> None:
    grey = av_frame("gray")
    grey.color_range = 0
    assert to_frame(grey, StreamFacts(codec="h264")).color_range is ColorRange.LIMITED
    assert to_frame(grey, StreamFacts(codec="ffv1")).color_range is ColorRange.FULL
    assert to_frame(grey, StreamFacts(codec="mjpeg")).color_range is ColorRange.FULL


def test_monochrome_h264(tmp_path: Path) -> None:
    """4:0:0 comes as grey or as 4:2:0 with neutral chroma, whatever the decoder likes; its luma is right."""
    path = write_video(tmp_path / "mono.mp4", numbered(3), pix_fmt="gray", options={"qp": "0"})
    frame = next(open_source(str(path)).frames())
    planes = frame.host_planes()
    assert frame.format in (PixelFormat.GRAY8, PixelFormat.I420)
    assert all((plane == 128).all() for plane in planes[1:])
    with av.open(str(path)) as container:
        decoded = next(container.decode(video=0))
        rows = np.frombuffer(decoded.planes[0], np.uint8).reshape(-1, decoded.planes[0].line_size)
    assert np.array_equal(planes[0], rows[:64, :96])


def test_defaults_of_cameras_and_codecs() -> None:
    high = av.VideoFrame(64, 720, "yuyv422")
    assert to_frame(high, StreamFacts()).matrix is ColorMatrix.BT709
    assert to_frame(high, StreamFacts(camera=True)).matrix is ColorMatrix.BT601
    assert to_frame(high, StreamFacts(codec="mpeg1video")).siting is ChromaSiting.CENTER
    assert to_frame(high, StreamFacts(codec="h264")).siting is ChromaSiting.LEFT
    assert to_frame(high, StreamFacts(colorspace=9)).matrix is ColorMatrix.BT2020
    assert to_frame(high, StreamFacts(rotation=90)).rotation == 90


def test_bottom_up_pictures(tmp_path: Path) -> None:
    path = write_video(tmp_path / "raw.avi", [RGB] * 2, codec="rawvideo", pix_fmt="bgr24")
    frame = next(open_source(str(path)).frames())
    assert frame.format is PixelFormat.BGR24
    assert np.array_equal(frame.host_planes()[0].reshape(48, 64, 3)[..., ::-1], RGB)
