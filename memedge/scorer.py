"""Scorer: a bundle on an engine, ready to score pictures and streams."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memedge_engines import choice, executors
from memedge_engines.backends.base import EngineOptions
from memedge_engines.bundle import Bundle
from memedge_engines.choice import Candidate, Choice
from memedge_engines.executor import Executor, Outputs
from memedge_engines.frame import Frame
from memedge_engines.manifest import Manifest, Target
from memedge_engines.replaceable import ReplaceableExecutor

from . import titles
from .domain import DomainCheck
from .errors import EngineError, UsageError
from .rolling import percentile

Picture = str | os.PathLike[str] | NDArray[np.uint8]
_NAMES = itertools.count()
# A bundle whose padding says wait is shown a picture this often at most before its window counts as never filling.
MOST_REPEATS = 4096


@dataclass(frozen=True)
class Score:
    """The score of one picture.

    Attributes:
        value: primary target, clipped to 0..1.
        percentile: 0..100 on the manifest's reference set, or none where it has no quantiles.
        targets: every target's value, 0..1.
        outputs: further outputs (``node.output``), without batch axis.
        flags: ``untrained``; ``out_of_domain`` (see :mod:`memedge.domain`); ``static`` when a bundle that needs several
            frames was shown one picture repeatedly; ``no_title`` where a bundle takes a title and none was given.
    """

    value: float
    percentile: float | None
    targets: dict[str, float]
    outputs: dict[str, NDArray[Any]] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


class Scorer:
    """A bundle opened on an engine. Thread-safe; a context manager. Made by :func:`memedge.load`.

    Args:
        tell: told, in one line each, what is worth knowing of how frames are run on a GPU.

    Attributes:
        bundle: the opened bundle (``.path``, ``.manifest``).
        engine, precision: what runs it; ``wanted_precision`` is what was asked for, maybe ``auto``.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: str = "auto",
        precision: str = "auto",
        max_batch: int = 1,
        threads: int = 0,
        bf16: bool = False,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        if max_batch < 1:
            raise UsageError(f"max_batch {max_batch}; expected at least 1")
        if threads < 0:
            raise UsageError(f"threads {threads}; expected 0 (all cores) or more")
        self.bundle = bundle
        self.wanted_precision = precision
        self.max_batch = max_batch
        self.options = EngineOptions(threads=threads, max_batch=max_batch, bf16=bf16)
        made: list[Executor] = []
        self.choice = choice.first(
            bundle,
            engine,
            precision,
            self.options,
            lambda engines: made.append(executors.make(bundle, engines, max_batch, tell)),
        )
        self._start(made[0])

    def _start(self, executor: Executor) -> None:
        self._executor = ReplaceableExecutor(executor)
        self._domain = DomainCheck(self.bundle.manifest)
        self._lock = threading.Lock()
        self._closed = False

    @property
    def executor(self) -> Executor:
        """The executor behind the scorer; what other scorers bring in :meth:`replace` takes its place in it."""
        return self._executor

    def replace(self, other: Scorer) -> None:
        """Go on with the engine of another scorer of the same bundle, between two calls; streams stay open.

        ``other`` must not be used any more. Callable from any thread.

        Raises:
            ExecutorError: another bundle's scorer; nothing has changed then.
        """
        with self._lock, other._lock:
            if self._closed or other._closed:
                raise EngineError("scorer was used after it was closed")
            self._executor.replace(other._executor)
            self.choice, other._closed = other.choice, True

    @property
    def engine(self) -> str:
        """Name of the engine that runs now."""
        return self.executor.engine

    @property
    def precision(self) -> str:
        """Precision that runs now: ``fp32``, ``fp16``, ``int8`` (``bf16`` only by explicit option)."""
        return self.executor.precision

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    def score(self, picture: Picture, caller: Mapping[str, Any] | None = None) -> Score:
        """Score one picture.

        Args:
            picture: a path, or RGB uint8 ``[H, W, 3]``.
            caller: values of the bundle's caller inputs; text under ``title`` where it takes a title.

        Raises:
            PictureError: the file cannot be read as a picture.
            FrameError: the array is not uint8 ``[H, W, 3]``.
            UsageError: a title for a bundle that takes none.
        """
        return self.score_batch([picture], caller)[0]

    def score_batch(self, pictures: Sequence[Picture], caller: Mapping[str, Any] | None = None) -> list[Score]:
        """Score pictures, in batches of at most ``max_batch``; same results as one by one."""
        if self._closed:
            raise EngineError("scorer was used after it was closed")
        titles.check_title([self.manifest], caller or {})
        values = titles.caller_values(self.bundle, caller or {})
        scores: list[Score] = []
        for begin in range(0, len(pictures), self.max_batch):
            scores.extend(self._score_chunk([as_rgb(p) for p in pictures[begin : begin + self.max_batch]], values))
        return scores

    def _score_chunk(self, pictures: Sequence[NDArray[np.uint8]], caller: Mapping[str, Any]) -> list[Score]:
        number = next(_NAMES)
        names = [f"score-{number}-{i}" for i in range(len(pictures))]
        step = repeat_step(self.manifest)
        opened = []
        try:
            for name in names:
                self.executor.open_stream(name, caller)
                opened.append(name)
            newest: list[dict[str, NDArray[Any]]] = [{} for _ in names]
            whole = [False] * len(names)
            needed = {target.source for target in self.manifest.targets}
            for repeat in range(MOST_REPEATS):
                frames = [Frame.from_rgb(p, pts_s=repeat * step, duration_s=step, index=repeat) for p in pictures]
                try:
                    batch = list(zip(names, frames, strict=True))
                    results = self.executor.submit(batch).result()
                finally:
                    for frame in frames:
                        frame.release()
                for i, result in enumerate(results):
                    newest[i].update(result.values)
                    whole[i] = needed <= set(newest[i])
                if all(whole):
                    break
            else:
                raise EngineError(f"targets {sorted(needed)} gave nothing after {MOST_REPEATS} repeats of the picture")
        finally:
            for name in opened:
                self.executor.close_stream(name)
        flags = titles.title_flags(self.manifest, caller)
        return [self._to_score(values, flags) for values in newest]

    def _to_score(self, values: Mapping[str, NDArray[Any]], more_flags: Sequence[str]) -> Score:
        targets = {t.name: target_value(t, values) for t in self.manifest.targets}
        primary = self.manifest.primary
        sources = {t.source for t in self.manifest.targets}
        flags = [
            f for f, on in (("static", needs_several(self.manifest)), ("untrained", self.manifest.untrained)) if on
        ]
        flags += [*self._domain.flags(values), *more_flags]
        value = targets[primary.name]
        return Score(
            value,
            percentile(primary.quantiles, value),
            targets,
            {name: array for name, array in values.items() if name not in sources},
            tuple(flags),
        )

    def close(self) -> None:
        """Close the engine; safe to call twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self.executor.close()

    def __enter__(self) -> Scorer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Scorer({self.manifest.name}, engine={self.engine}, precision={self.precision})"


class FixedScorer(Scorer):
    """A Scorer on exactly one candidate; nothing is picked or remembered.

    Raises:
        EngineError: the engine does not run this lowering, or the library refuses it.
        BackendUnavailable: the engine cannot be used here.
    """

    def __init__(
        self,
        bundle: Bundle,
        candidate: Candidate,
        options: EngineOptions | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.bundle = bundle
        self.wanted_precision = candidate.precision
        self.options = options or EngineOptions()
        self.max_batch = self.options.max_batch
        self.choice = Choice(candidate, choice.open_engines(bundle, candidate, self.options))
        self._start(executors.make(bundle, self.choice.engines, self.max_batch, tell))


def target_value(target: Target, values: Mapping[str, NDArray[Any]]) -> float:
    """A target's value out of a node's output: its only element, clipped to 0..1.

    Raises:
        EngineError: the output has more than one element, or is not finite: a score is never made up.
    """
    array = np.asarray(values[target.source], np.float64).reshape(-1)
    if array.size != 1:
        raise EngineError(f"target '{target.name}': output '{target.source}' has {array.size} elements; expected 1")
    value = float(array[0])
    if not np.isfinite(value):
        raise EngineError(f"target '{target.name}': the engine gave {value}; a score is a finite number")
    return min(1.0, max(0.0, value))


def needs_several(manifest: Manifest) -> bool:
    """Whether a score depends on more than one frame."""
    return any(item.last > 1 for node in manifest.nodes for item in node.inputs)


def repeat_step(manifest: Manifest) -> float:
    """Seconds between two repeats of a still picture that is shown to a bundle which needs several frames."""
    steps = [n.period_s for n in manifest.nodes if n.period_s > 0]
    steps += [i.stride_s for n in manifest.nodes for i in n.inputs if i.stride_s > 0]
    return min(steps, default=1.0)


def as_rgb(picture: Picture) -> NDArray[np.uint8]:
    """A picture as RGB uint8 ``[H, W, 3]``; paths are read by Pillow with EXIF rotation."""
    if isinstance(picture, np.ndarray):
        return picture
    from .sources.picture import load_picture

    return load_picture(os.fspath(picture))


def fresh_targets(manifest: Manifest, outputs: Outputs) -> Iterator[tuple[Target, float, bool]]:
    """(target, value, complete) for the targets whose node ran at this frame."""
    for target in manifest.targets:
        if target.source in outputs.values:
            complete = outputs.complete[target.source.partition(".")[0]]
            yield target, target_value(target, outputs.values), complete
