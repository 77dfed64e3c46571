"""The record next to a plan, ``<name>.engine.json``: what it is, what it runs on, what it was made from.

The plan itself stays a plain file that other tools open; its SHA-256 binds the two. Nothing is ever put in front of a
plan's bytes.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ..manifest import Calibration, Preprocess
from .machine import Machine
from .profile import Profile

SCHEMA_VERSION = 1


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the side-car's records."""


class Header(_Record, frozen=True, kw_only=True):
    """First bytes of a plan. ``version``: major, minor, patch, build of the TensorRT that wrote it; empty for RTX."""

    tag: Literal["ftrt", "vtrt"]
    serialization: int
    version: tuple[int, ...] = ()


class TensorSpec(_Record, frozen=True, kw_only=True):
    """One input or output.

    Attributes:
        shape: -1 where free.
        minimum, optimum, maximum: shapes of the profile; none for outputs.
        scale: of an int8 input, real = int8 * scale; none otherwise.
    """

    name: str
    mode: Literal["input", "output"]
    dtype: str
    layout: str
    shape: tuple[int, ...]
    minimum: tuple[int, ...] | None = None
    optimum: tuple[int, ...] | None = None
    maximum: tuple[int, ...] | None = None
    scale: float | None = None


class Source(_Record, frozen=True, kw_only=True):
    """What the plan was made from: bundle and graph by SHA-256, and the range table's where the graph is int8."""

    bundle: str
    bundle_name: str
    node: str
    lowering: Literal["fp32", "trt-int8", "trt-fp16"]
    file: str
    onnx_sha256: str
    ranges_sha256: str | None = None
    calibration: Calibration | None = None


class Options(_Record, frozen=True, kw_only=True):
    """Builder options. ``typing`` is ``weak`` only below TensorRT 10.12, after strong typing failed (``fallback``)."""

    typing: Literal["strong", "weak"] = "strong"
    fallback: str = ""
    flags: tuple[str, ...] = ()
    level: int = 3
    workspace_bytes: int | None = None
    max_aux_streams: int = 0
    timing_cache_bytes: int = 0


class Layers(_Record, frozen=True, kw_only=True):
    """Layers of a plan by what they compute in; ``moves``: reformats and copies, in none of the other counts."""

    total: int
    int8: int = 0
    fp16: int = 0
    fp32: int = 0
    other: int = 0
    moves: int = 0


class Difference(_Record, frozen=True, kw_only=True):
    """Largest difference of one target's golden scores from the recorded ones, and the tolerance they met."""

    target: str
    largest: float
    tolerance: float


class SideCar(_Record, frozen=True, kw_only=True):
    """The whole record.

    Attributes:
        preprocess: contract of each input that takes pictures.
        score_range: what a score is clipped to; nothing else follows the graph.
        layers: from the engine inspector; none where the plan could not be loaded.
        golden: measured differences; none while the plan has not run its golden frames.
        attempt: which build in a row passed its golden frames, from 1.
        seconds: duration of the build.
        created: UTC, ISO 8601.
    """

    schema: int
    plan_sha256: str
    plan_bytes: int
    header: Header
    machine: Machine
    profile: Profile
    source: Source
    options: Options
    tensors: tuple[TensorSpec, ...]
    preprocess: dict[str, Preprocess]
    score_range: tuple[float, float] = (0.0, 1.0)
    layers: Layers | None = None
    golden: tuple[Difference, ...] | None = None
    attempt: int = 1
    seconds: float
    created: str
    tool: str
