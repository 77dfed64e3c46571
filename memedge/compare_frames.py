"""The pictures of a comparison, and the two scorers that see each of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from memedge_engines.frame import Frame

from .console import status
from .errors import EngineError, FrameError, MemedgeError, PreprocessError, SourceError, UsageError
from .scorer import Scorer, fresh_targets, needs_several

GENERATED = 200
MOST_FRAMES = 1000
SEED = 3


class Pair:
    """The two scorers, and what they gave so far."""

    def __init__(self, left: Scorer, right: Scorer) -> None:
        self.scorers = (left, right)
        self.names: list[str] = []
        self.found: tuple[list[float], list[float]] = ([], [])
        self.seconds: tuple[list[float], list[float]] = ([], [])

    @property
    def needs_every_frame(self) -> bool:
        """Whether one of them looks at more than the frame at hand, or at times of its own."""
        manifests = [scorer.manifest for scorer in self.scorers]
        return any(needs_several(m) or any(node.period_s > 0 for node in m.nodes) for m in manifests)

    def add(self, name: str, scores: tuple[float, float]) -> None:
        """Keep what a picture gave."""
        self.names.append(name)
        for kept, score in zip(self.found, scores, strict=True):
            kept.append(score)

    def score(self, name: str, picture: NDArray[np.uint8]) -> tuple[float, float]:
        """Scores of one picture by itself."""
        values = []
        for scorer, spent in zip(self.scorers, self.seconds, strict=True):
            begin = time.perf_counter()
            try:
                values.append(scorer.score(picture).value)
            except EngineError as error:
                raise _where(scorer, name, error) from None
            spent.append(time.perf_counter() - begin)
        return values[0], values[1]

    def offer(self, stream: str, name: str, frame: Frame) -> tuple[float, float] | None:
        """Scores of a frame of a stream, or none when one of the two gives none at this frame, or not a whole one."""
        values: list[float] = []
        for scorer, spent in zip(self.scorers, self.seconds, strict=True):
            begin = time.perf_counter()
            primary = scorer.manifest.primary.name
            try:
                outputs = scorer.executor.submit([(stream, frame)]).result()[0]
                targets = list(fresh_targets(scorer.manifest, outputs))
            except EngineError as error:
                raise _where(scorer, name, error) from None
            fresh = [value for target, value, whole in targets if target.name == primary and whole]
            if fresh:
                spent.append(time.perf_counter() - begin)
            values += fresh
        return (values[0], values[1]) if len(values) == 2 else None


def _where(scorer: Scorer, name: str, error: EngineError) -> EngineError:
    label = f"{scorer.manifest.name} on {scorer.engine} {scorer.precision}"
    return EngineError(f"{label}, {name}: {error.message}", fix=error.fix)


class Pictures:
    """Where pictures come from, one after the other."""

    def __init__(self, data: str | None, frames: int | None) -> None:
        from .sources import expand, label

        if data is not None and not data.strip():
            raise UsageError("--data is empty; expected a file, a folder, a camera, a stream or test://")
        self.skipped = 0
        self.most = frames or (GENERATED if data is None else MOST_FRAMES)
        self._uris = None if data is None else expand(data)
        self.label = f"memedge's picture generator (seed {SEED})" if data is None else label(data)

    def scores(self, pair: Pair) -> Iterator[tuple[str, tuple[float, float]]]:
        """(name, scores of both) of each picture that both score, at most as many as asked for."""
        if self._uris is None:
            from .pictures import generate

            for number, picture in enumerate(generate(self.most, SEED)):
                name = f"generated picture {number}"
                yield name, pair.score(name, picture)
            return
        left = self.most
        last: MemedgeError | None = None
        chosen = [self._uris[i] for i in _spread(len(self._uris), self.most)]
        for number, uri in enumerate(chosen):
            # What shorter videos and pictures leave over goes to those that follow.
            share = -(-left // (len(chosen) - number))
            try:
                for found in self._of_source(uri, pair, share):
                    left -= 1
                    yield found
            except (SourceError, FrameError, PreprocessError) as error:
                if len(chosen) == 1:
                    raise
                last = error
                self.skipped += 1
                if self.skipped == 1:
                    status(f"memedge: skipped: {error}")
        if last is not None and self.skipped == len(chosen):
            raise last

    def _of_source(self, uri: str, pair: Pair, most: int) -> Iterator[tuple[str, tuple[float, float]]]:
        from .sources import label, open_source

        name = label(uri)
        with open_source(uri) as source, ExitStack() as stack:
            info = source.open()
            if info.kind == "picture":
                # By itself, as Scorer.score does: a bundle that needs several frames is shown it repeatedly.
                for frame in source.frames():
                    picture = frame.host_planes()[0].reshape(frame.height, frame.width, 3).copy()
                    frame.release()
                    yield name, pair.score(name, picture)
                return
            for scorer in pair.scorers:
                scorer.executor.open_stream(uri)
                stack.callback(scorer.executor.close_stream, uri)
            every = pair.needs_every_frame or not info.frames or info.live
            wanted = None if every else set(_spread(info.frames or 0, most))
            done = 0
            for number, frame in enumerate(source.frames()):
                try:
                    if wanted is not None and number not in wanted:
                        continue
                    where = f"{name} {frame.pts_s:.2f} s"
                    scores = pair.offer(uri, where, frame)
                finally:
                    frame.release()
                if scores is not None:
                    yield where, scores
                    done += 1
                if done >= most:
                    return


def _spread(there: int, wanted: int) -> list[int]:
    """``wanted`` numbers spread evenly over 0 .. there - 1, or all of them."""
    if wanted >= there:
        return list(range(there))
    return [int(i) for i in np.linspace(0, there - 1, wanted).round()]
