"""Score every picture and video of a folder into one table.

    python samples/folder_to_csv.py [FOLDER] [--csv scores.csv]

A picture's score is the bundle's; a video's is its video score: the published sampling (for most models one frame a
second over the whole file), then the mean.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import memedge
from memedge.errors import SourceError

PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
VIDEOS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"}


def video_score(scorer: memedge.Scorer, path: Path) -> tuple[float | None, int]:
    """The primary target's video score, and how many frames it rests on."""
    with memedge.stream(str(path), scorer, rate_hz=1) as readings:
        for _ in readings:
            pass
        summary = readings.summary
    if summary is None:
        return None, 0
    primary = next(target.name for target in scorer.bundle.manifest.targets if target.primary)
    return summary.video_score[primary], summary.frames_scored


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent / "clip")
    parser.add_argument("--csv", type=Path, help="output file; without it standard output")
    arguments = parser.parse_args()

    media = sorted(path for path in arguments.folder.iterdir() if path.suffix.lower() in PICTURES | VIDEOS)
    if not media:
        raise SystemExit(f"{arguments.folder}: no pictures or videos in it")
    failed = 0
    with memedge.load() as scorer:
        out = open(arguments.csv, "w", newline="", encoding="utf-8") if arguments.csv else sys.stdout  # noqa: SIM115
        table = csv.writer(out)
        table.writerow(["file", "kind", "score", "frames_scored"])
        for path in media:
            try:
                if path.suffix.lower() in VIDEOS:
                    value, frames = video_score(scorer, path)
                    kind = "video"
                else:
                    value, frames, kind = scorer.score(path).value, 1, "picture"
            except SourceError as error:
                # One broken file does not end the work.
                print(error, file=sys.stderr)
                failed += 1
                continue
            table.writerow([path.name, kind, "" if value is None else f"{value:.4f}", frames])
            out.flush()
        if arguments.csv:
            out.close()
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
