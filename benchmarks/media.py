"""The clip that the benchmarks play: 1080p H.264, rendered from the project's own picture generator."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from common import WORK, say

WIDTH, HEIGHT, FPS = 1920, 1080, 30
_MARGIN = 240


def clip(folder: Path = WORK, seconds: float = 6.0) -> Path:
    """The clip's path; rendered once. Three scenes; the camera pans over each, so that every frame differs."""
    path = folder / f"pan-{WIDTH}x{HEIGHT}-{seconds:g}s.mp4"
    if path.is_file():
        return path
    say("rendering the clip")
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.mp4")
    render(partial, seconds)
    partial.replace(path)
    return path


def render(path: Path, seconds: float, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """Write the clip: H.264 where FFmpeg has an encoder for it, else MPEG-4; 4:2:0, BT.709, limited range."""
    import av

    from memedge.pictures import picture

    width, height = size
    count = round(seconds * FPS)
    scenes = 3
    with av.open(str(path), "w") as container:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        options = {"preset": "veryfast", "crf": "21"} if codec == "libx264" else {}
        stream = container.add_stream(codec, rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if codec == "mpeg4":
            stream.bit_rate = 6_000_000
        stream.codec_context.time_base = Fraction(1, FPS)
        wide = np.empty(0)
        for number in range(count):
            scene, place = divmod(number * scenes, count)
            if number == 0 or scene != (number - 1) * scenes // count:
                wide = _ground(picture(scene, 4, (480, 270)), width + _MARGIN, height)
            left = place * _MARGIN // count
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(wide[:, left : left + width]), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
            frame.pts = number
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def _ground(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """A picture enlarged to RGB uint8 ``[height, width, 3]``, with grain, so that the codec has work."""
    from PIL import Image

    large = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    grain = np.random.default_rng(7).integers(-6, 7, (height, width, 1), dtype=np.int16)
    return np.clip(large + grain, 0, 255).astype(np.uint8)
