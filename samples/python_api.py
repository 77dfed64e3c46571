"""Score pictures and a clip from Python.

    python samples/python_api.py [--clip FILE] [PICTURE ...]

Without pictures it takes three frames out of the clip.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

import memedge

CLIP = Path(__file__).parent / "clip" / "demo.mp4"


def frames_at(clip: Path, seconds: list[float]) -> list[NDArray[np.uint8]]:
    """The first frame at or after each time, RGB uint8 [height, width, 3]."""
    found: list[NDArray[np.uint8]] = []
    with av.open(str(clip)) as container:
        for frame in container.decode(video=0):
            if len(found) < len(seconds) and frame.time is not None and frame.time >= seconds[len(found)]:
                found.append(frame.to_ndarray(format="rgb24"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="*", help="picture files")
    parser.add_argument("--clip", type=Path, default=CLIP)
    parser.add_argument("--bundle", help="a bundle's folder; without it the default bundle")
    arguments = parser.parse_args()

    # load() opens a bundle once; the Scorer is thread-safe and may score for as long as the program runs.
    with memedge.load(arguments.bundle) as scorer:
        print(f"bundle {scorer.bundle.manifest.name}, engine {scorer.engine}, precision {scorer.precision}")

        names = arguments.pictures or ["frame at 2 s", "frame at 6 s", "frame at 10 s"]
        pictures = arguments.pictures or frames_at(arguments.clip, [2.0, 6.0, 10.0])
        for name, score in zip(names, scorer.score_batch(pictures), strict=False):
            place = "" if score.percentile is None else f"  percentile {score.percentile:3.0f}"
            print(f"{score.value:.3f}{place}  {name}  {' '.join(score.flags)}")

        # stream() gives one Reading for every frame; `rolling` covers the last seconds of capture time.
        best: memedge.Reading | None = None
        with memedge.stream(str(arguments.clip), scorer, rate_hz=5) as readings:
            for reading in readings:
                if reading.score is not None and (best is None or reading.score > (best.score or 0.0)):
                    best = reading
        if best is not None:
            print(f"most memorable frame: {best.time_s:.2f} s, score {best.score:.3f}, rolling {best.rolling or 0:.3f}")


if __name__ == "__main__":
    main()
