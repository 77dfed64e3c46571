"""What a system sees of a video or a picture: which of its nodes run on which frames, and which of these runs count.

The runtime's own schedule decides (:mod:`memedge_engines.trace`), so that training and offline evaluation show a
network what a device would show it, and a video's score is the ``video_score`` of ``memedge run``.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from memedge.sampling import VideoScore
from memedge.scorer import MOST_REPEATS, repeat_step
from memedge_engines.manifest import Manifest, Target
from memedge_engines.trace import Call, FrameTime, behind, trace

from ..data.frames import Stamp
from ..errors import DataError
from ..models.system import System

# Videos of one set mostly have the same times.
_KEPT = 256


@dataclass(frozen=True)
class Viewing:
    """What a system sees of one video or picture.

    Attributes:
        calls: by number: the runs that its targets' published sampling asks for, and those that they hang on, each
            once; inputs refer to positions of frames (of a picture always 0) and to numbers of calls.
        asked: target to position of frame to number of the call that scores it there.
        times: of the frames.
    """

    calls: Mapping[int, Call]
    asked: Mapping[str, Mapping[int, int]]
    times: tuple[FrameTime, ...]

    def choose(self, targets: Sequence[Target], rng: np.random.Generator) -> dict[str, int]:
        """One call for each target: of the first one at random, complete ones before others; of further ones the call
        nearest to it in time.

        Raises:
            DataError: there is none.
        """
        frame: int | None = None
        chosen: dict[str, int] = {}
        for target in targets:
            calls = self.asked[target.name]
            if not calls:
                raise DataError(f"no {target.name} score; expected a video of the system's least length")
            if frame is None:
                whole = [place for place, number in calls.items() if self.calls[number].complete]
                places = whole or list(calls)
                frame = places[int(rng.integers(len(places)))]
            near = min(calls, key=lambda place, at=frame: abs(place - at))  # type: ignore[misc]
            chosen[target.name] = calls[near]
        return chosen

    def score(self, target: Target, scores: Mapping[int, float]) -> float | None:
        """The video's score out of the scores of single calls, or none when there is no call."""
        return _video_score(target, self.times, {at: scores[call] for at, call in self.asked[target.name].items()})


class Viewer:
    """Makes viewings of one system. Thread-safe; the newest 256 are kept."""

    def __init__(self, system: System) -> None:
        self.manifest = system.dataflow
        self.targets = system.system_targets
        self._kept: OrderedDict[tuple[Stamp, ...], Viewing] = OrderedDict()
        self._still: Viewing | None = None
        self._lock = threading.Lock()

    def of_video(self, stamps: Sequence[Stamp]) -> Viewing:
        """What the system sees of a video whose frames have these times."""
        key = tuple(stamps)
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
        times = tuple(FrameTime(pts_s, duration_s, index) for index, (pts_s, duration_s) in enumerate(key))
        calls = trace(self.manifest, times)
        asked = {target.name: self._asked(target, calls, times) for target in self.targets}
        found = _viewing(self.manifest, calls, asked, times, still=False)
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found

    def of_picture(self) -> Viewing:
        """What the system sees of a picture that is shown until every target has a score.

        Raises:
            DataError: it never does.
        """
        if self._still is None:
            step = repeat_step(self.manifest)
            count = 1
            while True:
                times = tuple(FrameTime(index * step, step, index) for index in range(count))
                calls = trace(self.manifest, times)
                ends = [self._first(target, calls) for target in self.targets]
                if None not in ends:
                    break
                if count >= MOST_REPEATS:
                    raise DataError(f"the system gives no score after {MOST_REPEATS} repeats of a picture")
                count *= 2
            end = max(at for at in ends if at is not None)
            asked = {}
            for target in self.targets:
                last = [call for call in self._of(target, calls) if call.frame <= end][-1]
                asked[target.name] = {last.frame: last.number}
            self._still = _viewing(self.manifest, calls, asked, times, still=True)
        return self._still

    def _of(self, target: Target, calls: Iterable[Call]) -> list[Call]:
        node = target.source.partition(".")[0]
        return [call for call in calls if call.node == node]

    def _first(self, target: Target, calls: Iterable[Call]) -> int | None:
        return next((call.frame for call in self._of(target, calls)), None)

    def _asked(self, target: Target, calls: Iterable[Call], times: Sequence[FrameTime]) -> dict[int, int]:
        """Position of frame to call: those without which the video's score would be another."""
        every = {call.frame: call.number for call in self._of(target, calls)}
        video = VideoScore(target.sampling, target.aggregate, len(times), target.window_s)
        needed = {}
        for position, time in enumerate(times):
            moment = (time.index, time.pts_s, time.duration_s)
            if position in every and (video.needs(*moment) or position == len(times) - 1):
                needed[position] = every[position]
            video.offer(*moment, 0.0 if position in every else None)
        scores = np.random.default_rng(0).random(len(times))

        def score(some: Mapping[int, int]) -> float | None:
            return _video_score(target, times, {at: float(scores[at]) for at in some})

        # The newest score may be all that counts, and key frames that the nodes' periods leave out have neighbours.
        newest = {at: needed[at] for at in list(needed)[-1:]} if target.aggregate == "last" else needed
        return next(some for some in (newest, needed, every) if score(some) == score(every))


def _video_score(target: Target, times: Sequence[FrameTime], scores: Mapping[int, float]) -> float | None:
    """``video_score`` of ``memedge run``: every frame is offered, scored or not."""
    video = VideoScore(target.sampling, target.aggregate, len(times), target.window_s)
    for position, time in enumerate(times):
        score = scores.get(position)
        video.offer(time.index, time.pts_s, time.duration_s, None if score is None else min(1.0, max(0.0, score)))
    return video.finish(times[-1].pts_s + times[-1].duration_s)


def _viewing(
    manifest: Manifest,
    calls: Sequence[Call],
    asked: Mapping[str, Mapping[int, int]],
    times: tuple[FrameTime, ...],
    still: bool,
) -> Viewing:
    """Only what is needed, calls with the same inputs once: a frame goes through a node once."""
    sources = {(node.name, item.name): item.source for node in manifest.nodes for item in node.inputs}
    same: dict[int, int] = {}
    first: dict[tuple[object, ...], int] = {}
    kept: dict[int, Call] = {}
    for call in behind(calls, manifest, [number for one in asked.values() for number in one.values()]):
        inputs = {}
        for name, refs in call.inputs.items():
            if sources[call.node, name] == "source":
                inputs[name] = tuple(0 if still else ref for ref in refs)
            else:
                inputs[name] = tuple(same[ref] for ref in refs)
        number = first.setdefault((call.node, *inputs.items()), call.number)
        same[call.number] = number
        if number == call.number:
            kept[number] = replace(call, inputs=inputs, complete=call.complete or still)
    found = {name: {at: same[number] for at, number in one.items()} for name, one in asked.items()}
    return Viewing(kept, found, times)
