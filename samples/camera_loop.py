"""Watch a camera for a while and say when what it sees becomes memorable.

    python samples/camera_loop.py [--source camera0] [--seconds 10] [--above 0.6]

Any live source will do (`/dev/video2`, `rtsp://...`). Without a camera it watches the synthetic pattern `test://`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import memedge
from memedge.errors import SourceError


def watch(source: str, seconds: float, above: float, window: float) -> int:
    """Prints one line a second; the number of frames that were scored."""
    scored, told = 0, -1
    # A live source is never behind: frames that come while another one is scored are counted and dropped.
    with memedge.stream(source, window_s=window) as readings:
        for reading in readings:
            if reading.time_s >= seconds:
                break
            if reading.score is None or reading.rolling is None:
                continue
            scored += 1
            if int(reading.time_s) > told:
                told = int(reading.time_s)
                mark = "  <- memorable" if reading.rolling > above else ""
                print(
                    f"{reading.time_s:6.1f} s  rolling {reading.rolling:.3f}  {reading.latency_ms:5.1f} ms{mark}",
                    flush=True,
                )
    return scored


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", help="camera0, a device or a stream; without it camera0 where there is one")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--above", type=float, default=0.6)
    parser.add_argument("--window", type=float, default=3.0, help="seconds that the rolling score covers")
    arguments = parser.parse_args()

    source = arguments.source or ("camera0" if Path("/dev/video0").exists() else "test://")
    try:
        scored = watch(source, arguments.seconds, arguments.above, arguments.window)
    except SourceError as error:
        if arguments.source:
            raise SystemExit(f"{error}") from None
        print(f"{error}\nno usable camera: watching test:// instead")
        scored = watch("test://", arguments.seconds, arguments.above, arguments.window)
    print(f"{scored} frames scored")


if __name__ == "__main__":
    main()
