"""The score of a whole video: a bundle's as ``memedge run`` states it, a checkpoint's by the data set's sampling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memedge.console import status
from memedge.errors import SourceError
from memedge.lane import LaneOptions
from memedge.loop import Loop, LoopOptions
from memedge.sampling import VideoScore, sampling_period
from memedge.scorer import Scorer, needs_several
from memedge.sources import open_source
from memedge_engines.frame import Frame

from .contenders import Network

DEFAULT_SAMPLING = "S7"
_TRUNCATED = "the file ends early; what is there was scored"


def by_bundles(
    path: Path, scorers: Mapping[str, Scorer], caller: Mapping[str, str] | None = None
) -> dict[str, dict[str, float]]:
    """Label to each target's ``video_score``, by the bundle's own sampling and aggregation; decoded once for all.

    Args:
        caller: the video's title, for bundles that read it.

    Raises:
        SourceError: the video cannot be read, or a target got no score.
    """
    rate = _rate(scorers.values())
    loop = Loop(open_source(str(path)), scorers, (), LoopOptions(lane=LaneOptions(rate_hz=rate), caller=caller or {}))
    summaries = loop.run()
    found: dict[str, dict[str, float]] = {}
    for label, summary in summaries.items():
        found[label] = {}
        for target, score in summary.video_score.items():
            if score is None:
                raise SourceError(f"{path}: '{label}' gave no {target} score; expected a video of its least length")
            found[label][target] = score
    if any(summary.flags.get("truncated") for summary in summaries.values()):
        status(f"{path}: {_TRUNCATED}")
    return found


def _rate(scorers: Iterable[Scorer]) -> float | None:
    """Frames a second that give the same video scores as all frames do, or none: all frames are needed."""
    periods = []
    for scorer in scorers:
        manifest = scorer.manifest
        if needs_several(manifest) or any(node.period_s > 0 for node in manifest.nodes):
            return None
        periods += [sampling_period(target.sampling) for target in manifest.targets]
    known = [period for period in periods if period is not None]
    return 1 / min(known) if known and len(known) == len(periods) else None


def by_networks(path: Path, networks: Sequence[Network], sampling: str) -> list[NDArray[np.float64]]:
    """Each network's scores of a video, ``[T]``: mean over the frames of the preset; decoded once for all.

    Raises:
        SourceError: the video cannot be read, or holds no frames.
    """
    with open_source(str(path)) as source:
        info = source.open()
        chosen = VideoScore(sampling, frames=info.frames)
        times: list[tuple[int, float, float]] = []
        last: Frame | None = None
        try:
            for frame in source.frames():
                if last is not None:
                    _take(last, chosen, networks, times, whole=False)
                    last.release()
                last = frame
            if last is None:
                raise SourceError(f"{path}: no frames; expected at least one")
            # Ticks between the last frame and the end of the file are its, too: it is scored in any case.
            _take(last, chosen, networks, times, whole=True)
            if "truncated" in last.flags:
                status(f"{path}: {_TRUNCATED}")
        finally:
            if last is not None:
                last.release()
    _, pts_s, duration_s = times[-1]
    return [_aggregate(network, sampling, info.frames, times, pts_s + duration_s) for network in networks]


def _take(
    frame: Frame,
    chosen: VideoScore,
    networks: Sequence[Network],
    times: list[tuple[int, float, float]],
    *,
    whole: bool,
) -> None:
    moment = (frame.index, frame.pts_s, frame.duration_s)
    times.append(moment)
    if whole or chosen.needs(*moment):
        for network in networks:
            network.add_frame(frame.index, frame)
    chosen.offer(*moment, 0.0)


def _aggregate(
    network: Network, sampling: str, frames: int | None, times: Sequence[tuple[int, float, float]], end_s: float
) -> NDArray[np.float64]:
    scores = network.finish()
    totals = [VideoScore(sampling, frames=frames) for _ in network.model.targets]
    for index, pts_s, duration_s in times:
        row = scores.get(index)
        for number, total in enumerate(totals):
            total.offer(index, pts_s, duration_s, None if row is None else float(row[number]))
    found = [total.finish(end_s) for total in totals]
    return np.array([np.nan if value is None else value for value in found])
