"""NVDEC surfaces on a stand-in for PyNvVideoCodec and the fake CUDA driver, which forgives nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers_nvcodec import NvStandIn, PixelFormats
from helpers_video import numbered, write_video
from memedge.errors import SourceError
from memedge.sources import SourceOptions, nvcodec, open_source
from memedge.sources.nvcodec import NvcodecSource, availability
from memedge_engines import hardware
from memedge_engines.cuda.fake import FakeDriver
from memedge_engines.errors import NoDevice
from memedge_engines.frame import Frame, MemoryKind, PixelFormat

LATE = {"late": True}


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "v.mkv", numbered(24), options={"bf": "0", "g": "8"})


def bytes_of(driver: FakeDriver, frame: Frame) -> list[Any]:
    """The planes as the device holds them."""
    planes = []
    for plane in frame.planes:
        told = plane.buffer.__cuda_array_interface__
        rows, columns = told["shape"]
        size = plane.pitch * (rows - 1) + columns
        raw = np.zeros(plane.pitch * rows, np.uint8)
        raw[:size] = driver.memory(told["data"][0], size)
        planes.append(raw.reshape(rows, plane.pitch)[:, :columns])
    return planes


def reference(path: Path, **options: Any) -> list[Frame]:
    return list(open_source(str(path), SourceOptions(**options)).frames())


@pytest.mark.parametrize("options", [{}, {"from_s": 0.4, "to_s": 0.64}])
def test_frames_lie_on_the_device_and_are_pyavs(video: Path, options: dict[str, float]) -> None:
    driver = FakeDriver(**LATE)
    module = NvStandIn(driver)
    source = NvcodecSource(video, SourceOptions(**options), module=module, driver=lambda: driver)
    info = source.open()
    assert (info.kind, info.live, info.width, info.fps) == ("file", False, 96, 25.0)
    assert module.asked["codec"] in ("h264", "mpeg4")
    expected = reference(video, **options)
    held: list[Frame] = []
    frames = source.frames()
    for want in expected:
        frame = next(frames)
        assert (frame.format, frame.memory) == (PixelFormat.NV12, MemoryKind.DEVICE)
        for name in ("width", "height", "rotation", "matrix", "color_range", "siting", "index"):
            assert getattr(frame, name) == getattr(want, name), name
        assert frame.pts_s == pytest.approx(want.pts_s)
        assert frame.duration_s == pytest.approx(want.duration_s)
        luma, chroma = bytes_of(driver, frame)
        y, u, v = want.host_planes()
        np.testing.assert_array_equal(luma, y)
        np.testing.assert_array_equal(chroma[:, ::2], u)
        np.testing.assert_array_equal(chroma[:, 1::2], v)
        held.append(frame)
        if len(held) > 6:  # the loop holds a few at a time: none of them may change meanwhile
            held.pop(0).release()
    assert next(frames, None) is None
    for frame in held:
        frame.release()
    source.close()
    del frames
    driver.close_check()


def test_frames_outlive_the_source(video: Path) -> None:
    driver = FakeDriver()
    source = NvcodecSource(video, module=NvStandIn(driver), driver=lambda: driver)
    frames = source.frames()
    kept = [next(frames) for _ in range(3)]
    before = [bytes_of(driver, frame)[0].copy() for frame in kept]
    source.close()
    for frame, was in zip(kept, before, strict=True):
        np.testing.assert_array_equal(bytes_of(driver, frame)[0], was)
        frame.release()
    del frames
    driver.close_check()


def test_memory_is_bounded(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from memedge.sources import device_pool

    monkeypatch.setattr(device_pool, "_MOST_BLOCKS", 3)
    monkeypatch.setattr(device_pool, "_WAIT_S", 0.3)
    driver = FakeDriver()
    source = NvcodecSource(video, module=NvStandIn(driver), driver=lambda: driver)
    kept: list[Frame] = []
    with pytest.raises(SourceError, match="3 frames are held; expected some to be released"):
        kept.extend(source.frames())
    for frame in kept:
        frame.release()
    source.close()
    driver.close_check()


def test_a_decoder_that_fails_in_the_middle_ends_the_file(video: Path) -> None:
    driver = FakeDriver()
    source = NvcodecSource(video, module=NvStandIn(driver, fail_at=10), driver=lambda: driver)
    frames = []
    for frame in source.frames():
        frames.append(frame.flags)
        frame.release()
    assert 5 <= len(frames) < 24
    assert "truncated" in frames[-1]
    driver.close_check()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"fail_at": 1}, r"NVDEC: HandlePictureDecode : cuvidDecodePicture returned error 700 \(fix: --decoder pyav"),
        ({"pixel_format": PixelFormats.P016}, "NVDEC delivers P016; expected NV12"),
    ],
)
def test_what_nvdec_cannot_decode(video: Path, more: dict[str, Any], message: str) -> None:
    driver = FakeDriver()
    source = NvcodecSource(video, module=NvStandIn(driver, **more), driver=lambda: driver)
    with pytest.raises(SourceError, match=message):
        source.open()
    driver.close_check()


def test_no_device(video: Path) -> None:
    def none() -> FakeDriver:
        raise NoDevice("no CUDA device", fix="nvidia-smi")

    source = NvcodecSource(video, module=NvStandIn(FakeDriver()), driver=none)
    with pytest.raises(SourceError, match=r"--decoder nvcodec cannot be used: no CUDA device \(fix: nvidia-smi"):
        source.open()


def test_why_it_cannot_be_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, video: Path) -> None:
    if not hardware.nvidia_driver():
        found = availability()
        assert (found.usable, found.reason) == (False, "no NVIDIA driver is loaded")
        with pytest.raises(SourceError, match="no NVIDIA driver is loaded"):
            open_source(str(video), SourceOptions(decoder="nvcodec")).open()
    monkeypatch.setattr(nvcodec.hardware, "nvidia_driver", lambda: True)
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", None)
    assert availability().reason == "PyNvVideoCodec is not installed"
    monkeypatch.delitem(sys.modules, "PyNvVideoCodec")
    (tmp_path / "PyNvVideoCodec.py").write_text(
        'raise RuntimeError("libnvidia-encode.so.1: no such file\\n\\n=== HELP")'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found = availability()
    assert found.reason == "PyNvVideoCodec does not load: libnvidia-encode.so.1: no such file"
    assert "NVIDIA_DRIVER_CAPABILITIES" in (found.fix or "")
    assert "has no CreateDemuxer" in availability(object()).reason
    assert availability(NvStandIn(FakeDriver())).version == "2.2.4"
