"""Renders the demo clip: five scenes of four seconds, 1280x720, 25 frames a second, H.264.

    python samples/clip/render.py [--out FILE.mp4] [--master FILE.mp4] [--only SCENE [--still PNG]]

Everything is computed here from seeded noise: no photograph, no font file, no other source. It needs numpy,
Pillow and PyAV and some twenty minutes of one core. The same library versions give the same frames.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent))
from scenes.paint import HEIGHT, WIDTH, finish

SCENES = ("landscape", "still_life", "night", "umbrellas", "card")
RATE = 25
SCENE_S = 4.0


def load(name: str) -> Any:
    """The scene called ``name``."""
    return importlib.import_module(f"scenes.{name}").Scene()


def picture(scene: Any, seconds: float, index: int) -> NDArray[np.uint8]:
    """One finished frame, RGB [720, 1280, 3]."""
    return finish(scene.frame(seconds), index, scene.exposure, getattr(scene, "bloom", 0.06))


def frames(names: tuple[str, ...]) -> Iterator[NDArray[np.uint8]]:
    """Every frame of the named scenes, one scene after the other."""
    index = 0
    for name in names:
        scene, count, started = load(name), round(SCENE_S * RATE), time.monotonic()
        for number in range(count):
            yield picture(scene, number / RATE, index)
            index += 1
            spent = time.monotonic() - started
            print(f"\r{name}: {number + 1}/{count} frames, {spent:.0f} s", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)


def add_stream(out: av.container.OutputContainer, crf: float) -> av.VideoStream:
    """An H.264 stream; BT.709, limited range, as players expect of 720p. One thread: the same bytes each time."""
    options = {"crf": str(crf), "preset": "slower", "tune": "film", "threads": "1", "bf": "3", "g": "100"}
    stream = out.add_stream("libx264", rate=RATE, options=options)
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    context = stream.codec_context
    context.color_primaries = context.color_trc = context.colorspace = context.color_range = 1
    return stream


def render(path: Path, names: tuple[str, ...]) -> None:
    """Renders the master: large and of high quality, so that another size of the clip needs no new rendering."""
    partial = path.with_suffix(".partial.mp4")
    with av.open(str(partial), "w", format="mp4") as out:
        stream = add_stream(out, 24)
        graph = av.filter.Graph()
        source = graph.add_buffer(width=WIDTH, height=HEIGHT, format="rgb24", time_base=Fraction(1, RATE))
        accurate = "flags=bicubic+accurate_rnd+full_chroma_int:out_color_matrix=bt709:out_range=tv"
        scale, form, sink = graph.add("scale", accurate), graph.add("format", "yuv420p"), graph.add("buffersink")
        source.link_to(scale)
        scale.link_to(form)
        form.link_to(sink)
        graph.configure()
        for index, pixels in enumerate(frames(names)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            graph.push(frame)
            out.mux(stream.encode(graph.pull()))
        out.mux(stream.encode(None))
    partial.replace(path)


def encode(master: Path, path: Path, crf: float) -> None:
    """The clip from its master."""
    partial = path.with_suffix(".partial.mp4")
    with (
        av.open(str(master)) as source,
        av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"}) as out,
    ):
        stream = add_stream(out, crf)
        for frame in source.decode(video=0):
            frame.pict_type = av.video.frame.PictureType.NONE  # the encoder's own choice
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    partial.replace(path)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "demo.mp4")
    parser.add_argument("--only", choices=SCENES, help="render one scene")
    parser.add_argument("--still", type=Path, metavar="PNG", help="with --only: one frame of the scene, and no clip")
    parser.add_argument("--at", type=float, default=2.0, help="second of the still (2)")
    parser.add_argument("--crf", type=float, default=30.0, help="x264's quality of the clip (30: 2.7 MB)")
    parser.add_argument("--master", type=Path, help="the rendered master: used if it is there, else made and kept")
    arguments = parser.parse_args()
    names = (arguments.only,) if arguments.only else SCENES
    if arguments.still:
        Image.fromarray(picture(load(names[0]), arguments.at, 0)).save(arguments.still)
        return
    master = arguments.master or arguments.out.with_suffix(".master.mp4")
    if arguments.master is None or not master.is_file():
        render(master, names)
    encode(master, arguments.out, arguments.crf)
    if arguments.master is None:
        master.unlink()
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
