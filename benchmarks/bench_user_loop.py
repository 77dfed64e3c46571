"""The loop a user would write against memedge: the same file, the same model, in one run.

The user's loop: OpenCV decodes and converts, Pillow resizes and crops, torch runs eagerly in float32. memedge: the loop
of ``memedge run``, with a JSON Lines file as its sink. Both see the same frames; rounds are interleaved. Scores are
compared on the same RGB frames; what OpenCV's own colour conversion adds is reported apart.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import Budget, bundles, finish, interleaved, median, parser, say, twin, user_tensor
from media import clip

from memedge.bench.blocks import Measurer
from memedge.bench.feeds import Looped, end
from memedge.loop import Loop
from memedge.scorer import FixedScorer
from memedge.sources import open_source
from memedge_engines import choice
from memedge_engines.bundle import Bundle
from memedge_engines.choice import Candidate
from memedge_engines.manifest import Preprocess
from memedge_engines.preprocess import to_rgb

SAME = 0.005
_COMPARED = 12
_WARMUP = 5


class UserLoop:
    """OpenCV, Pillow and eager torch, as in any notebook; loops over the file."""

    def __init__(self, bundle: Bundle, video: Path) -> None:
        import torch

        network = twin(bundle)
        if network is None:
            raise LookupError(f"{bundle.manifest.name}: no torch model for it here")
        self._torch = torch
        self._network = network
        self._video = str(video)
        self._contract = contract_of(bundle)
        self.threads = self._best_threads()

    def _best_threads(self) -> int:
        """The thread count that suits torch better, its default or one: nobody keeps what is slower."""
        rgb = np.zeros((64, 64, 3), np.uint8)
        found: dict[int, float] = {}
        for threads in {self._torch.get_num_threads(), 1}:
            self._torch.set_num_threads(threads)
            for _ in range(2):
                self.score(rgb)
            begin = time.perf_counter()
            for _ in range(3):
                self.score(rgb)
            found[threads] = time.perf_counter() - begin
        best = min(found, key=lambda threads: found[threads])
        self._torch.set_num_threads(best)
        return best

    def score(self, rgb: np.ndarray) -> float:
        """One picture's score, clipped to 0..1."""
        with self._torch.inference_mode():
            result = self._network(self._torch.from_numpy(user_tensor(rgb, self._contract)))
        value = float(result[0]) if isinstance(result, tuple) else float(result)
        return min(1.0, max(0.0, value))

    def frames(self) -> Iterator[np.ndarray]:
        """RGB frames of the file as OpenCV decodes and converts them, again and again."""
        import cv2

        while True:
            capture = cv2.VideoCapture(self._video)
            count = 0
            try:
                while True:
                    there, bgr = capture.read()
                    if not there:
                        break
                    count += 1
                    yield cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
            finally:
                capture.release()
            if not count:
                raise LookupError(f"OpenCV reads no frames of {self._video}")

    def run(self, count: int) -> float:
        """Frames a second over ``count`` frames, after a few uncounted ones."""
        frames = self.frames()
        try:
            for _ in range(_WARMUP):
                self.score(next(frames))
            begin = time.perf_counter()
            for _ in range(count):
                self.score(next(frames))
            return count / (time.perf_counter() - begin)
        finally:
            end(frames)  # type: ignore[arg-type]


def contract_of(bundle: Bundle) -> Preprocess:
    """The preprocess contract of a bundle of one frame node."""
    contract = bundle.manifest.nodes[0].inputs[0].preprocess
    if contract is None or len(bundle.manifest.nodes) != 1:
        raise LookupError(f"{bundle.manifest.name}: only bundles of one frame node have a user's loop")
    return contract


def measure(bundle: Bundle, video: Path, rounds: int = 5, frames: int = 120) -> tuple[dict[str, Any], list[Budget]]:
    """Frames a second of both, score differences, and the budgets on them.

    Args:
        rounds: how often each has its turn.
        frames: counted frames of each over all rounds.
    """
    name = bundle.manifest.name
    try:
        loop = UserLoop(bundle, video)
        import cv2  # noqa: F401 - tells early that it is not there
    except (LookupError, ImportError) as error:
        say(f"user's loop left out: {error}")
        return {"bundle": name, "left_out": str(error)}, []
    count = -(-frames // rounds)
    timings = choice.tune(bundle)
    usable = [t.candidate for t in timings if t.median_ms is not None]
    auto = usable[0]
    candidates = list(dict.fromkeys([*usable, *(Candidate(c.backend, "fp32") for c in usable)]))
    with tempfile.TemporaryDirectory() as folder:
        scorers = {f"memedge {c.backend} {c.lowering}": FixedScorer(bundle, c) for c in candidates}
        try:
            work: dict[str, Callable[[], float]] = {"user's loop": lambda: loop.run(count)}
            for key, scorer in scorers.items():
                measurer = Measurer(scorer, name, Path(folder))
                work[key] = lambda one=measurer: _run(one, video, count)  # type: ignore[misc]
            found = interleaved(work, rounds, f"{name}: user's loop")
            first = scorers[f"memedge {auto.backend} fp32"]
            same = _same_frames(loop, first)
            colour = _colour(loop, first, video, name)
        finally:
            for scorer in scorers.values():
                scorer.close()
    fps = {key: round(median(values), 3) for key, values in found.items()}
    ratio = {key: round(fps[key] / fps["user's loop"], 3) for key in fps if key != "user's loop"}
    figures = {
        "bundle": name,
        "file": video.name,
        "auto": str(auto),
        "torch_threads": loop.threads,
        "fps": fps,
        "rounds_fps": {key: [round(v, 3) for v in values] for key, values in found.items()},
        "ratio_to_users_loop": ratio,
        "largest_score_difference_same_rgb": round(same, 6),
        "cv2_colour": colour,
    }
    best = ratio[f"memedge {auto.backend} {auto.lowering}"]
    int8 = any(low != "fp32" for low in bundle.lowerings())
    note = f"auto is {auto}" if int8 else f"auto is {auto}; the bundle has no int8 lowering yet"
    return figures, [
        Budget.at_least(f"{name}: frames a second over the user's loop", best, 4.0, "x", note, report=not int8),
        Budget.at_most(f"{name}: score difference on the same RGB frames, fp32", same, SAME, ""),
    ]


def _run(measurer: Measurer, video: Path, count: int) -> float:
    stretch = measurer.overlapped(Looped(lambda: open_source(str(video))), count, _WARMUP)
    return stretch.frames / stretch.wall_s


def _same_frames(loop: UserLoop, scorer: FixedScorer) -> float:
    """Largest score difference when both are fed OpenCV's RGB frames."""
    largest = 0.0
    frames = loop.frames()
    for number, rgb in enumerate(frames):
        if number % 7 == 0:
            largest = max(largest, abs(loop.score(rgb) - scorer.score(rgb).value))
        if number >= 7 * _COMPARED:
            break
    end(frames)  # type: ignore[arg-type]
    return largest


def _colour(loop: UserLoop, scorer: FixedScorer, video: Path, name: str) -> dict[str, float]:
    """What OpenCV's decoding and colour conversion adds: score and pixel differences to memedge's own frames."""
    scores: dict[int, float] = {}
    readings = Loop(open_source(str(video)), {name: scorer}).readings()
    for reading in readings:
        if reading.score is not None:
            scores[reading.frame_index] = reading.score
        if reading.frame_index >= _COMPARED:
            break
    end(readings)  # type: ignore[arg-type]
    source = open_source(str(video))
    source.open()
    theirs, ours = loop.frames(), source.frames()
    apart, levels, worst = [], [], 0
    try:
        for frame, rgb in zip(ours, theirs, strict=False):
            difference = np.abs(to_rgb(frame).astype(np.int16) - rgb)
            index = frame.index
            frame.release()
            levels.append(float(difference.mean()))
            worst = max(worst, int(difference.max()))
            if index in scores:
                apart.append(abs(scores[index] - loop.score(rgb)))
            if index >= _COMPARED:
                break
    finally:
        end(ours)
        end(theirs)  # type: ignore[arg-type]
        source.close()
    return {
        "frames": len(apart),
        "score_difference_mean": round(float(np.mean(apart)), 6),
        "score_difference_max": round(max(apart), 6),
        "pixel_difference_mean_levels": round(float(np.mean(levels)), 4),
        "pixel_difference_max_levels": worst,
    }


def main() -> None:
    """Measure the bundles named, print figures and budgets."""
    made = parser(__doc__ or "")
    made.add_argument("--source", type=Path, help="video file; default: the rendered 1080p clip")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--frames", type=int, default=120)
    arguments = made.parse_args()
    video = arguments.source or clip()
    figures, budgets = [], []
    for bundle in bundles(arguments.bundle):
        found, kept = measure(bundle, video, arguments.rounds, arguments.frames)
        figures.append(found)
        budgets += kept
    finish("user_loop", {"bundles": figures}, budgets, arguments.json)


if __name__ == "__main__":
    main()
