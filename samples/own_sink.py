"""A sink of one's own: keep a picture whenever the rolling score has risen clearly.

    python samples/own_sink.py [--source FILE] [--out DIR] [--rise 0.02]

A sink gets every reading in order and, if it asks for pictures, the frame that the reading belongs to.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

import memedge
from memedge.errors import SinkError
from memedge.sinks.base import Picture, Sink, SinkContext, Summary

CLIP = Path(__file__).parent / "clip" / "demo.mp4"


class RiseSink(Sink):
    """Saves the frame at which the rolling score stands ``rise`` above its lowest value so far, then starts again."""

    needs_pictures = True

    def __init__(self, folder: Path, rise: float) -> None:
        self.saved: list[Path] = []
        self._folder = folder
        self._rise = rise
        self._lowest: float | None = None

    def start(self, context: SinkContext) -> None:
        """A source starts: the folder must be there."""
        self._lowest = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"{self._folder}: {error.strerror}") from None

    def write(self, reading: memedge.Reading, picture: Picture | None, stats: dict[str, Any]) -> None:
        """One reading; the picture is valid only until this method returns."""
        # Scores of the first moments stand on few frames: wait until the window is full.
        if reading.rolling is None or not reading.complete or picture is None:
            return
        self._lowest = reading.rolling if self._lowest is None else min(self._lowest, reading.rolling)
        if reading.rolling < self._lowest + self._rise:
            return
        path = self._folder / f"rise_{reading.time_s:07.2f}s_{reading.rolling:.3f}.jpg"
        try:
            Image.fromarray(picture.rgb()).save(path, quality=90)
        except OSError as error:
            raise SinkError(f"{path}: {error.strerror}") from None
        self.saved.append(path)
        self._lowest = reading.rolling

    def finish(self, summary: Summary) -> None:
        """A source ended."""
        print(f"{summary.source}: {summary.frames_scored} of {summary.frames_seen} frames scored")

    def close(self) -> None:
        """Nothing is open between two writes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=str(CLIP))
    parser.add_argument("--out", type=Path, help="folder of the pictures; without it a temporary one")
    parser.add_argument("--rise", type=float, default=0.02)
    parser.add_argument("--window", type=float, default=2.0, help="seconds that the rolling score covers")
    arguments = parser.parse_args()

    sink = RiseSink(arguments.out or Path(tempfile.mkdtemp(prefix="memedge-rises-")), arguments.rise)
    try:
        with memedge.stream(arguments.source, window_s=arguments.window, rate_hz=10, sinks=[sink]) as readings:
            for _ in readings:
                pass
    finally:
        sink.close()
    for path in sink.saved:
        print(path)
    print(f"{len(sink.saved)} pictures")


if __name__ == "__main__":
    main()
