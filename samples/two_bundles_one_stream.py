"""Two bundles on one source: one decode, two rolling scores side by side.

    python samples/two_bundles_one_stream.py [--bundle DIR --bundle DIR] [--source FILE]

For example a model of short-term and one of long-term memorability. Without bundles, the default bundle runs twice:
in the precision that it would choose, and in fp32.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

import memedge
from memedge.loop import Loop
from memedge.sources import open_source

CLIP = Path(__file__).parent / "clip" / "demo.mp4"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", action="append", default=[], help="a bundle's folder; twice")
    parser.add_argument("--source", default=str(CLIP))
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two printed lines")
    arguments = parser.parse_args()
    if len(arguments.bundle) not in (0, 2):
        parser.error("--bundle: give two, or none")

    with ExitStack() as stack:
        if arguments.bundle:
            scorers = {Path(path).name: stack.enter_context(memedge.load(path)) for path in arguments.bundle}
            if len(scorers) < 2:
                parser.error("--bundle: two bundles need two folder names")
        else:
            scorers = {
                "default": stack.enter_context(memedge.load()),
                "default fp32": stack.enter_context(memedge.load(precision="fp32")),
            }
        print("time_s  " + "  ".join(f"{label:>14}" for label in scorers))

        # Every frame is decoded once; each bundle answers with a reading of its own, labelled with its name.
        loop = Loop(open_source(arguments.source), scorers)
        row: dict[str, memedge.Reading] = {}
        next_s = 0.0
        for reading in loop.readings():
            row[reading.bundle] = reading
            if len(row) < len(scorers):
                continue
            if reading.time_s >= next_s:
                values = [row[label].rolling for label in scorers]
                cells = (f"{value:14.4f}" if value is not None else f"{'-':>14}" for value in values)
                print(f"{reading.time_s:6.2f}  " + "  ".join(cells))
                next_s += arguments.every
            row = {}
        for label, summary in loop.summaries.items():
            print(f"{label}: {summary.frames_scored} frames scored, video score {summary.video_score}")


if __name__ == "__main__":
    main()
