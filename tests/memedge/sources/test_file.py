from __future__ import annotations

import json
import os
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers_video import numbered, plain_decode, times, write_audio, write_audio_with_cover, write_video
from memedge.errors import SourceError, UsageError
from memedge.sources import SourceOptions, open_source
from memedge.sources.base import SourceInfo
from memedge_engines.frame import ChromaSiting, ColorMatrix, ColorRange, Frame, PixelFormat

LOSSLESS = {"qp": "0", "preset": "ultrafast"}


def read(path: Path | str, **options: object) -> tuple[SourceInfo, list[Frame]]:
    source = open_source(str(path), SourceOptions(**options))  # type: ignore[arg-type]
    info = source.open()
    return info, list(source.frames())


def shown(frame: Frame) -> np.ndarray:
    """The luma or RGB of a frame as it is displayed: an independent rotation by NumPy."""
    plane = frame.host_planes()[0]
    if frame.format is PixelFormat.RGB24:
        plane = plane.reshape(frame.height, frame.width, 3)
    return np.rot90(plane[:, : frame.width], k=-frame.rotation // 90)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "width"),
    [
        ("a.mp4", "libx264", "yuv420p", 96),
        ("a.mkv", "libx264", "yuv444p", 97),
        ("a.avi", "mjpeg", "yuvj420p", 96),
        ("a.avi", "mpeg4", "yuv420p", 97),
        ("a.webm", "libvpx-vp9", "yuv420p", 96),
        ("a.ts", "libx264", "yuv420p", 96),
        ("a.mkv", "ffv1", "yuv422p", 96),
    ],
)
def test_times_numbers_and_planes_equal_a_plain_decode(
    tmp_path: Path, name: str, codec: str, pix_fmt: str, width: int
) -> None:
    path = write_video(tmp_path / name, numbered(12, width), codec=codec, pix_fmt=pix_fmt, rate=Fraction(30000, 1001))
    info, frames = read(path)
    want = plain_decode(path)
    assert [f.index for f in frames] == list(range(len(want)))
    assert [f.pts_s for f in frames] == pytest.approx([t for t, _, _ in want], abs=1e-9)
    for frame, (_, _, luma) in zip(frames, want, strict=True):
        assert np.array_equal(frame.host_planes()[0], luma)
        assert frame.owner is not None
    assert (info.kind, info.live, info.width, info.height) == ("file", False, width, 64)
    steps = np.diff([f.pts_s for f in frames])
    assert [f.duration_s for f in frames[:-1]] == pytest.approx(steps.tolist(), abs=1e-12)
    assert frames[-1].duration_s == pytest.approx(1001 / 30000, abs=2e-3)
    assert not any(f.flags for f in frames)


def test_planes_are_not_copied(tmp_path: Path) -> None:
    _, frames = read(write_video(tmp_path / "a.mp4", numbered(2)))
    address = frames[0].planes[0].buffer.__array_interface__["data"][0]
    assert address == frames[0].owner.planes[0].buffer_ptr
    planes = frames[0].host_planes()
    frames[0].release()
    assert frames[0].owner is None
    assert planes[0][0, 0] >= 0  # still mapped: the view keeps the decoder's memory


def test_frames_stay_as_they_were_while_later_ones_are_decoded(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", numbered(40), options={"preset": "ultrafast"})
    source = open_source(str(path))
    held = []
    for frame in source.frames():
        held.append((frame, frame.host_planes()[0].copy()))
    assert all(np.array_equal(frame.host_planes()[0], copy) for frame, copy in held)


def test_variable_frame_rate(tmp_path: Path) -> None:
    stamps = [0, 2700, 6300, 9000, 18000, 20000, 29999, 36000]
    path = write_video(tmp_path / "vfr.mp4", numbered(8), stamps=stamps)
    _, frames = read(path)
    assert [f.pts_s for f in frames] == pytest.approx([s / 90000 for s in stamps], abs=1e-6)
    assert frames[3].duration_s == pytest.approx(0.1, abs=1e-6)


def test_time_counts_from_the_first_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "late.ts", numbered(5), stamps=[900000 + 3600 * k for k in range(5)])
    _, frames = read(path)
    assert [f.pts_s for f in frames] == pytest.approx([0.04 * k for k in range(5)], abs=1e-6)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts"])
@pytest.mark.parametrize("start", [0.02, 0.4, 1.0, 1.98])
def test_from_and_to_deliver_exactly_the_frames_between(tmp_path: Path, name: str, start: float) -> None:
    codec = "mpeg4" if name == "a.avi" else "libx264"
    options = {"g": "12"} if name == "a.avi" else {"g": "12", "bf": "2", "preset": "ultrafast"}
    path = write_video(tmp_path / name, numbered(60), codec=codec, options=options)
    everything = list(enumerate(times(path)))
    _, frames = read(path, from_s=start, to_s=start + 0.5)
    want = [(n, t) for n, t in everything if start - 1e-6 <= t < start + 0.5 - 1e-6]
    assert [f.index for f in frames] == [n for n, _ in want]
    assert [f.pts_s for f in frames] == pytest.approx([t for _, t in want], abs=1e-9)
    luma = plain_decode(path)
    assert all(np.array_equal(f.host_planes()[0], luma[f.index][2]) for f in frames)
    assert frames[-1].duration_s == pytest.approx(0.04, abs=2e-3)


def test_from_behind_the_end_says_so(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", numbered(10))
    with pytest.raises(SourceError, match=r"--from 5 s lies behind the end at 0\.400 s"):
        open_source(str(path), SourceOptions(from_s=5)).open()


@pytest.mark.parametrize(
    ("angle", "transposition"),
    [
        (-90, Image.Transpose.ROTATE_270),
        (90, Image.Transpose.ROTATE_90),
        (180, Image.Transpose.ROTATE_180),
        (0, None),
    ],
)
def test_rotation_against_pillow(tmp_path: Path, angle: int, transposition: Image.Transpose | None) -> None:
    upright = Image.fromarray(numbered(1)[0])
    # What a phone held that way stores: the picture that the display matrix (counterclockwise degrees) turns upright.
    back = {-90: Image.Transpose.ROTATE_90, 90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180}
    stored = np.asarray(upright.transpose(back[angle]) if angle else upright)
    path = write_video(tmp_path / "r.mp4", [stored] * 3, codec="libx264rgb", pix_fmt="rgb24", options=LOSSLESS,
                       rotation=angle)  # fmt: skip
    info, frames = read(path)
    assert frames[0].rotation == -angle % 360
    assert (info.width, info.height) == upright.size
    assert frames[0].format is PixelFormat.RGB24
    assert np.array_equal(shown(frames[0]), np.asarray(upright))
    if transposition is not None:
        assert np.array_equal(shown(frames[0]), np.asarray(Image.fromarray(stored).transpose(transposition)))


@pytest.mark.parametrize(
    ("cells", "turn", "flags"),
    [
        ((1, 0, 0, 1), 0, ()),
        ((0, 1, -1, 0), 90, ()),
        ((-1, 0, 0, -1), 180, ()),
        ((0, -1, 1, 0), 270, ()),
        ((-1, 0, 0, 1), 0, ("mirrored",)),
        ((1, 0, 0, -1), 180, ("mirrored",)),
        ((0, 1, 1, 0), 90, ("mirrored",)),
        ((0.866, 0.5, -0.5, 0.866), 0, ("rotation_rounded",)),
        ((0.5, 0.866, -0.866, 0.5), 90, ("rotation_rounded",)),
        ((0, 0, 0, 0), 0, ()),
    ],
)
def test_display_matrices(cells: tuple[float, ...], turn: int, flags: tuple[str, ...]) -> None:
    from memedge.sources.convert import quarter_turns

    a, b, c, d = (int(cell * 65536) for cell in cells)
    assert quarter_turns(struct.pack("=9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)) == (turn, flags)


def test_a_mirrored_picture_is_upright_but_mirrored(tmp_path: Path) -> None:
    """A transposed store: what is shown must be the mirror image of the truth, not upside down."""
    upright = np.asarray(numbered(1)[0])
    stored = np.ascontiguousarray(upright.swapaxes(0, 1))
    matrix = struct.pack("=9i", 0, 65536, 0, 65536, 0, 0, 0, 0, 1 << 30)
    path = write_video(tmp_path / "m.mp4", [stored] * 2, codec="libx264rgb", pix_fmt="rgb24", options=LOSSLESS,
                       display_matrix=matrix)  # fmt: skip
    _, frames = read(path)
    assert "mirrored" in frames[0].flags
    assert np.array_equal(shown(frames[0]), upright[:, ::-1])


@pytest.mark.parametrize(
    ("colors", "size", "matrix", "color_range"),
    [
        ((1, 1), (96, 64), ColorMatrix.BT709, ColorRange.LIMITED),
        ((5, 2), (96, 64), ColorMatrix.BT601, ColorRange.FULL),
        ((9, 1), (96, 64), ColorMatrix.BT2020, ColorRange.LIMITED),
        (None, (96, 64), ColorMatrix.BT601, ColorRange.LIMITED),
        (None, (64, 720), ColorMatrix.BT709, ColorRange.LIMITED),
    ],
)
def test_colours_as_declared_or_by_default(
    tmp_path: Path, colors: tuple[int, int] | None, size: tuple[int, int], matrix: ColorMatrix, color_range: ColorRange
) -> None:
    path = write_video(tmp_path / "c.mp4", numbered(2, *size), colors=colors)
    frame = read(path)[1][0]
    assert (frame.matrix, frame.color_range, frame.siting) == (matrix, color_range, ChromaSiting.LEFT)


def test_mjpeg_is_full_range_bt601_and_centred(tmp_path: Path) -> None:
    frame = read(write_video(tmp_path / "a.avi", numbered(2), codec="mjpeg", pix_fmt="yuvj422p"))[1][0]
    assert (frame.format, frame.color_range) == (PixelFormat.YUV422P, ColorRange.FULL)
    assert (frame.matrix, frame.siting) == (ColorMatrix.BT601, ChromaSiting.CENTER)


def test_realtime_is_live_and_keeps_the_clock(tmp_path: Path) -> None:
    import time

    path = write_video(tmp_path / "a.mp4", numbered(6))
    source = open_source(str(path), SourceOptions(realtime=True))
    assert source.open().live
    begin = time.monotonic()
    frames = list(source.frames())
    assert len(frames) == 6
    assert time.monotonic() - begin >= 0.2  # a lower bound only: five intervals of 40 ms
    arrivals = np.array([f.arrival_ns for f in frames]) / 1e9
    assert (arrivals - arrivals[0] >= np.array([f.pts_s for f in frames]) - 1e-3).all()


def test_damage_in_the_middle_is_flagged_and_the_rest_delivered(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noisy = [rng.integers(0, 255, (64, 96, 3), dtype=np.uint8) for _ in range(40)]
    path = write_video(tmp_path / "a.mkv", noisy, options={"g": "10", "preset": "ultrafast", "bf": "0"})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(rng.integers(0, 255, 3000, dtype=np.uint8))
    path.write_bytes(data)
    _, frames = read(path)
    assert any("corrupt" in f.flags for f in frames)
    assert len(frames) > 20
    assert np.all(np.diff([f.pts_s for f in frames]) > 0)
    assert not frames[-1].flags


def test_a_truncated_mp4_gives_what_is_there(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noisy = [rng.integers(0, 255, (64, 96, 3), dtype=np.uint8) for _ in range(100)]
    path = write_video(tmp_path / "a.mp4", noisy, container_options={"movflags": "+faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    info, frames = read(path)
    assert 20 < len(frames) < 80
    assert info.frames == 100
    assert "truncated" in frames[-1].flags
    assert not any("truncated" in f.flags for f in frames[:-1])


def test_frames_are_taken_once_and_never_after_close(tmp_path: Path) -> None:
    path = str(write_video(tmp_path / "a.mp4", numbered(5)))
    source = open_source(path)
    frames = source.frames()
    next(frames).release()
    with pytest.raises(SourceError, match="taken before"):
        source.frames()
    source.close()
    source.close()
    assert list(frames) == []
    closed = open_source(path)
    closed.close()
    with pytest.raises(SourceError, match="after it was closed"):
        closed.open()


# --- bad input ---


def bad(tmp_path: Path, kind: str) -> Path:
    if kind == "text":
        (tmp_path / "notes.mp4").write_text("dear diary\n" * 50)
        return tmp_path / "notes.mp4"
    if kind == "empty":
        (tmp_path / "empty.mp4").write_bytes(b"")
        return tmp_path / "empty.mp4"
    if kind == "audio":
        return write_audio(tmp_path / "sound.mp4")
    if kind == "cover":
        return write_audio_with_cover(tmp_path / "song.mp4")
    if kind == "cut":
        whole = write_video(tmp_path / "cut.mp4", numbered(30)).read_bytes()
        (tmp_path / "cut.mp4").write_bytes(whole[: whole.rindex(b"moov") - 4])
        return tmp_path / "cut.mp4"
    if kind == "noise":
        (tmp_path / "noise.mkv").write_bytes(np.random.default_rng(1).bytes(4000))
        return tmp_path / "noise.mkv"
    path = write_video(tmp_path / "none.mp4", numbered(5), container_options={"movflags": "+faststart"})
    data = path.read_bytes()
    start = data.index(b"mdat") + 4
    path.write_bytes(data[:start] + bytes(len(data) - start))
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("text", "text, not a video"),
        ("empty", "the file is empty"),
        ("audio", "no video in it, only audio"),
        ("cover", "no video in it"),
        ("cut", "without its index.*cut off"),
        ("noise", "not a video that FFmpeg can read"),
        ("zero frames", "without a frame that can be decoded"),
    ],
)
def test_bad_files_are_told_apart(tmp_path: Path, kind: str, message: str) -> None:
    path = bad(tmp_path, kind)
    source = open_source(str(path))
    with pytest.raises(SourceError, match=message) as caught:
        source.open()
    assert path.name in str(caught.value)
    source.close()


def test_missing_and_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "holiday.mp4", numbered(2))
    with pytest.raises(SourceError, match=r"no such file; did you mean .*holiday\.mp4"):
        open_source(str(tmp_path / "holidy.mp4"))
    if os.geteuid() == 0:  # root may read everything
        real = Path.open

        def refuse(self: Path, *args: object, **kwargs: object) -> object:
            if self == path:
                raise PermissionError(13, "Permission denied")
            return real(self, *args, **kwargs)  # type: ignore[call-overload]

        monkeypatch.setattr(Path, "open", refuse)
    else:
        path.chmod(0)
    with pytest.raises(SourceError, match=r"not readable by this user.*chmod"):
        open_source(str(path)).open()


def test_pictures_of_a_video_have_a_limit_too(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", numbered(2))
    with pytest.raises(SourceError, match="96x64 pixels; the limit is 1000"):
        open_source(str(path), SourceOptions(pixel_limit=1000)).open()


def test_contradictory_parts_are_refused() -> None:
    with pytest.raises(UsageError, match="from"):
        SourceOptions(from_s=3, to_s=2)


# --- the shared clips ---


def test_the_shorter_shared_clips_have_their_frames_times_and_size(clips: Path) -> None:
    listed = json.loads((clips / "clips.json").read_text())["clips"]
    small = [c for c in listed if c["width"] * c["height"] < 1_500_000 and c["frames"] <= 250]
    assert small
    for clip in small:
        source = open_source(str(clips / clip["clip"]))
        info = source.open()
        assert [info.width, info.height] == clip.get("displayed", [clip["width"], clip["height"]])
        stamps = []
        for frame in source.frames():
            stamps.append(frame.pts_s)
            frame.release()
        want = clip.get("frame_times") or [n / clip["fps"] for n in range(clip["frames"])]
        # WebM rounds to milliseconds, clips.json to a tenth of one.
        assert stamps == pytest.approx(want, abs=5e-5 if clip["clip"].startswith("vfr") else 6e-4), clip["clip"]


def test_the_rotated_shared_clip_is_upright(clips: Path) -> None:
    """Sky above, water below: the photograph's top is bright, its bottom dark."""
    source = open_source(str(clips / "vertical_rotated.mp4"))
    frame = next(source.frames())
    picture = shown(frame)
    assert picture.shape == (1280, 720)
    assert picture[:300].mean() > picture[-300:].mean() + 80
    source.close()
