from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memedge.content import ContentWatch
from memedge_engines.frame import ColorRange, Frame, MemoryKind, PixelFormat, Plane, plane_shapes


def make(
    pixel_format: PixelFormat, width: int, height: int, seed: int, low: int = 0, high: int = 255, **fields: Any
) -> Frame:
    rng = np.random.default_rng(seed)
    planes = [
        rng.integers(low, high + 1, (rows, size), dtype=np.uint8)
        for rows, size in plane_shapes(pixel_format, width, height)
    ]
    return Frame.from_planes(planes, pixel_format, width, height, **fields)


def clip_frames(path: Path) -> Iterator[Frame]:
    import av

    with av.open(str(path)) as container:
        for index, picture in enumerate(container.decode(video=0)):
            planes = [np.frombuffer(p, np.uint8).reshape(-1, p.line_size)[: p.height] for p in picture.planes]
            yield Frame.from_planes(
                planes,
                PixelFormat.I420,
                picture.width,
                picture.height,
                pts_s=float(picture.time),
                index=index,
                owner=picture,
            )


def test_the_fade_clip_is_black_where_it_says(clips: Path) -> None:
    watch = ContentWatch()
    black = []
    for frame in clip_frames(clips / "fade_freeze_640x360.mp4"):
        if "black" in watch.look(frame).flags:
            black.append(frame.pts_s)
        frame.release()
    watch.close()
    # Black from 3.5 s to 4.2 s; one frame of fade either side may be as dark.
    assert min(black) == pytest.approx(3.5, abs=1 / 24 + 1e-3)
    assert max(black) == pytest.approx(4.2, abs=1 / 24 + 1e-3)
    assert len(black) == pytest.approx(0.7 * 24, abs=2)


def test_no_ordinary_clip_is_black(clips: Path) -> None:
    for name in ("pan_low_640x360.mp4", "tripod_640x360.mp4"):
        watch = ContentWatch()
        for frame in clip_frames(clips / name):
            assert "black" not in watch.look(frame).flags
        watch.close()


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
@pytest.mark.parametrize("color_range", list(ColorRange))
@pytest.mark.parametrize(("width", "height"), [(640, 360), (1, 1), (853, 481)])
def test_black_in_every_format(pixel_format: PixelFormat, color_range: ColorRange, width: int, height: int) -> None:
    def flags(level: int) -> tuple[str, ...]:
        arrays = []
        for number, (rows, size) in enumerate(plane_shapes(pixel_format, width, height)):
            plane = np.full((rows, size), level if number == 0 else 128, np.uint8)
            if pixel_format is PixelFormat.YUYV422:
                plane[:, 1::2] = 128
            arrays.append(plane)
        frame = Frame.from_planes(arrays, pixel_format, width, height, color_range=color_range)
        return ContentWatch().look(frame).flags

    rgb = pixel_format in (PixelFormat.RGB24, PixelFormat.BGR24)
    full = rgb or color_range is ColorRange.FULL
    assert flags(12 if full else 26) == ("black",)
    assert flags(13 if full else 27) == ()


def test_a_little_light_is_not_black() -> None:
    picture = np.zeros((480, 640, 3), np.uint8)
    picture[:96, :128] = 200  # 4 % of the picture
    assert ContentWatch().look(Frame.from_rgb(picture)).flags == ()
    blue = np.zeros((480, 640, 3), np.uint8)
    blue[..., 2] = 90
    assert ContentWatch().look(Frame.from_rgb(blue)).flags == ()


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
def test_repeated_means_every_bit_of_every_plane(pixel_format: PixelFormat) -> None:
    watch = ContentWatch()
    frame = make(pixel_format, 320, 200, 1)
    assert watch.look(frame).identical is False
    same = make(pixel_format, 320, 200, 1, pts_s=0.04)
    content = watch.look(same)
    assert content.identical
    assert content.flags == ("repeated",)
    for number in range(len(frame.planes)):
        other = make(pixel_format, 320, 200, 1, pts_s=0.08)
        other.host_planes()[number][-1, -1] ^= 1
        assert not watch.look(other).identical
        back = make(pixel_format, 320, 200, 1, pts_s=0.12)
        assert not watch.look(back).identical, "compared with the frame before, not with an older one"
    watch.close()


def test_another_rotation_or_range_is_another_picture() -> None:
    watch = ContentWatch()
    watch.look(make(PixelFormat.I420, 64, 48, 1))
    assert not watch.look(make(PixelFormat.I420, 64, 48, 1, rotation=180)).identical
    assert not watch.look(make(PixelFormat.I420, 64, 48, 1, rotation=180, color_range=ColorRange.FULL)).identical
    assert not watch.look(make(PixelFormat.I420, 96, 32, 1)).identical


def test_frozen_after_the_stated_time_and_until_it_moves() -> None:
    watch = ContentWatch(frozen_after_s=2.0)
    first = {}
    for i in range(100):
        content = watch.look(make(PixelFormat.GRAY8, 64, 48, 1 if i < 80 else 2, pts_s=i / 25))
        for flag in content.flags:
            first.setdefault(flag, i)
        assert ("frozen" in content.flags) == (50 <= i < 80 or (i >= 130))
    assert first == {"repeated": 1, "frozen": 50}
    never = ContentWatch(frozen_after_s=None)
    assert all("frozen" not in never.look(make(PixelFormat.GRAY8, 64, 48, 1, pts_s=float(i))).flags for i in range(50))


def test_pool_buffers_are_copied_and_every_frame_is_given_back() -> None:
    pool = np.zeros((48, 64), np.uint8)
    given_back = []
    watch = ContentWatch()
    answers = []
    for value in (10, 10, 20, 20, 30):
        pool[:] = value
        frame = Frame.from_planes([pool], PixelFormat.GRAY8, 64, 48, on_release=lambda v=value: given_back.append(v))
        answers.append(watch.look(frame).identical)
        frame.release()
        assert frame.released
    assert answers == [False, True, False, True, False]
    assert given_back == [10, 10, 20, 20, 30]


def test_counted_frames_are_held_by_reference_and_let_go() -> None:
    watch = ContentWatch()
    frames = [make(PixelFormat.I420, 64, 48, seed, owner=object()) for seed in (1, 1, 2, 3)]
    for frame in frames:
        watch.look(frame)
        frame.release()
    assert [f.released for f in frames] == [True, True, True, False]
    watch.close()
    watch.close()
    assert all(f.released for f in frames)


def test_one_buffer_filled_again_and_again_is_never_called_repeated_wrongly() -> None:
    buffer = np.zeros((360, 640, 3), np.uint8)
    watch = ContentWatch()
    answers = []
    for i in range(6):
        buffer[5, 7] = i  # between the sampled rows
        answers.append(watch.look(Frame.from_rgb(buffer)).identical)
    assert answers == [False] * 6
    assert watch.look(Frame.from_rgb(buffer)).identical


def test_device_frames_are_not_looked_at() -> None:
    class Surface:
        @property
        def __cuda_array_interface__(self) -> dict[str, Any]:
            return {"shape": (48, 64), "typestr": "|u1", "data": (1, False), "version": 3}

    frame = Frame([Plane(Surface(), 64, MemoryKind.DEVICE)], PixelFormat.GRAY8, 64, 48)
    content = ContentWatch().look(frame)
    assert content.flags == ()
    assert not content.identical
