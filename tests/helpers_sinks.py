"""Readings, frames and contexts for tests of sinks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memedge.reading import Reading, TargetReading
from memedge.sinks.base import Latency, Moment, Picture, Sink, SinkContext, Summary
from memedge.sources.base import SourceInfo
from memedge_engines.frame import Frame


def context(
    bundles: tuple[str, ...] = ("small",), label: str = "clip.mp4", untrained: tuple[str, ...] = (), **info: Any
) -> SinkContext:
    """A source of 25 frames a second with its bundles, each with the primary target ``short_term``."""
    source = SourceInfo(label, "file", False, **{"fps": 25.0, **info})
    return SinkContext(source, bundles, dict.fromkeys(bundles, "short_term"), frozenset(untrained), 2.0)


def reading(index: int, bundle: str = "small", label: str = "clip.mp4", **fields: Any) -> Reading:
    """The reading of frame ``index`` at 25 frames a second."""
    score = fields.pop("score", round(0.5 + 0.3 * np.sin(index / 9), 6))
    defaults: dict[str, Any] = {
        "time_s": index / 25,
        "source": label,
        "bundle": bundle,
        "frame_index": index,
        "score": score,
        "rolling": 0.5,
        "percentile": 42.0,
        "targets": {"short_term": TargetReading(score, 0.5, 42.0)},
        "coverage": min(1.0, index / 50),
        "complete": index >= 49,
        "staleness_s": 0.0,
        "latency_ms": 12.5,
        "engine": "synthetic",
        "precision": "fp32",
    }
    return Reading(**{**defaults, **fields})


def summary(bundle: str = "small", label: str = "clip.mp4", **fields: Any) -> Summary:
    """A plausible summary."""
    defaults: dict[str, Any] = {
        "frames_seen": 10,
        "frames_scored": 9,
        "video_score": {"short_term": 0.51},
        "rolling_mean": 0.5,
        "moments": [Moment(1.0, 0.8)],
        "latency_ms": {"infer": Latency(1.0, 2.0, 3.0, 4.0)},
    }
    return Summary(source=label, bundle=bundle, **{**defaults, **fields})


def scene(index: int, width: int = 320, height: int = 180) -> NDArray[np.uint8]:
    """A smooth picture that changes with ``index``; its mean red level tells the index."""
    y, x = np.mgrid[0:height, 0:width]
    red = np.full_like(x, 40 + (index * 3) % 180)
    return np.dstack([red, x * 200 // max(1, width - 1), y * 200 // max(1, height - 1)]).astype(np.uint8)


def picture(index: int, width: int = 320, height: int = 180, **fields: Any) -> Picture:
    """The scene as a Picture."""
    frame = Frame.from_rgb(scene(index, width, height), pts_s=index / 25, index=index, **fields)
    return Picture(frame)


def feed(
    sink: Sink, count: int, bundles: tuple[str, ...] = ("small",), label: str = "clip.mp4", start: int = 0
) -> None:
    """``count`` frames, one reading per bundle each, as the loop does."""
    for index in range(start, start + count):
        shot = picture(index) if sink.needs_pictures else None
        for bundle in bundles:
            sink.write(reading(index, bundle, label), shot, {"fps": 25.0, "stages": {}, "drops": {}})
        if shot is not None:
            shot.frame.release()
