"""Real video files for the tests, written with PyAV alone."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

Pictures = Sequence[NDArray[np.uint8]]


def numbered(count: int, width: int = 96, height: int = 64) -> list[NDArray[np.uint8]]:
    """Pictures that can be told apart and have an up, a down, a left and a right: RGB uint8."""
    pictures = []
    for number in range(count):
        picture = np.full((height, width, 3), 60, np.uint8)
        picture[: height // 4] = (40, 90, 200)  # sky
        picture[-height // 4 :] = (60, 140, 40)  # grass
        picture[:, : width // 6] = (200, 40, 40)  # red on the left
        x = width // 4 + number * 3 % (width // 2)
        picture[height // 2 - 6 : height // 2 + 6, x : x + 12] = 240
        pictures.append(picture)
    return pictures


def write_video(
    path: Path,
    pictures: Pictures,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: Fraction | int = 25,
    stamps: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    container: str | None = None,
    rotation: int | None = None,
    display_matrix: bytes | None = None,
    colors: tuple[int, int] | None = None,
    audio: bool = False,
) -> Path:
    """Encode pictures.

    ``stamps``: time stamps in 1/90000 s, else the constant ``rate``; ``rotation``: counterclockwise display rotation;
    ``colors``: (AVColorSpace, AVColorRange).
    """
    height, width, _ = pictures[0].shape
    with av.open(str(path), "w", format=container, options=container_options or {}) as output:
        stream: Any = output.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 90000)
        if (rotation or display_matrix) and not hasattr(stream, "set_display_matrix"):
            pytest.skip("this PyAV cannot write display matrices")
        if rotation:
            stream.set_display_rotation(rotation)
        if display_matrix is not None:
            stream.set_display_matrix(tuple(np.frombuffer(display_matrix, np.int32).tolist()))
        if colors is not None:
            stream.codec_context.colorspace, stream.codec_context.color_range = colors
        sound: Any = output.add_stream("aac", rate=16000) if audio else None
        for number, picture in enumerate(pictures):
            source = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = source.reformat(
                format=pix_fmt,
                dst_colorspace=colors[0] if colors else None,
                dst_color_range=colors[1] if colors else None,
            )
            if stamps is not None:
                frame.pts, frame.time_base = stamps[number], Fraction(1, 90000)
            else:
                frame.pts, frame.time_base = number, Fraction(1) / Fraction(rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
        if sound is not None:
            output.mux(sound.encode(_silence(len(pictures))))
            output.mux(sound.encode())
    return path


def write_audio(path: Path) -> Path:
    """A file with sound and no picture."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("aac", rate=16000)
        output.mux(stream.encode(_silence(16)))
        output.mux(stream.encode())
    return path


def write_audio_with_cover(path: Path) -> Path:
    """A song with a cover picture: a video stream that is none."""
    with av.open(str(path), "w") as output:
        sound: Any = output.add_stream("aac", rate=16000)
        cover: Any = output.add_stream("mjpeg", rate=1)
        if not hasattr(cover, "disposition"):
            pytest.skip("this PyAV cannot write cover pictures")
        cover.width, cover.height, cover.pix_fmt = 96, 64, "yuvj420p"
        cover.disposition = 1024  # AV_DISPOSITION_ATTACHED_PIC
        picture = av.VideoFrame.from_ndarray(numbered(1)[0], format="rgb24").reformat(format="yuvj420p")
        output.mux(cover.encode(picture))
        output.mux(cover.encode())
        output.mux(sound.encode(_silence(16)))
        output.mux(sound.encode())
    return path


def _silence(blocks: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024 * blocks), np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts = 16000, 0
    return frame


def plain_decode(path: Path) -> list[tuple[float, Fraction | None, NDArray[np.uint8]]]:
    """(seconds from the first frame, own duration, luma plane) of every frame, by PyAV alone."""
    found = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        first: int | None = None
        for frame in container.decode(stream):
            assert frame.pts is not None
            first = frame.pts if first is None else first
            rows = np.frombuffer(frame.planes[0], np.uint8).reshape(-1, frame.planes[0].line_size)
            luma = rows[: frame.height, : frame.width].copy()
            own = getattr(frame, "duration", None)
            assert stream.time_base is not None
            found.append((float((frame.pts - first) * stream.time_base), own and own * stream.time_base, luma))
    return found


def times(path: Path) -> list[float]:
    """Seconds from the first frame of every frame, by plain PyAV."""
    return [time_s for time_s, _, _ in plain_decode(path)]
