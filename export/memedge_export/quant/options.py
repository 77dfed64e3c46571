"""How lowerings are calibrated and gated, as a person asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from memedge.errors import UsageError

from .calib_select import check_counts
from .fidelity import LEAST_FRAMES
from .frames import COUNT, GATE
from .ranges import METHODS


@dataclass(frozen=True)
class QuantOptions:
    """How to calibrate and gate.

    Attributes:
        calib: what ``--calib`` says; none: the usual places, else generated pictures.
        frames, gate_frames: how many calibrate, and how many are held out for the gate.
        method: ``auto`` (each is measured, the best is kept), ``minmax``, ``percentile`` or ``entropy``.
        ranges: a range table to use again, instead of calibrating.
        small_gate: a gate of fewer than 200 frames is good enough.
        allow: write what does not pass, marked.
        trt_body: type of what stays float in ``trt-int8``: ``fp16``, or ``fp32`` (Orin's fallback).
    """

    calib: str | None = None
    frames: int = COUNT
    gate_frames: int = GATE
    method: str = "auto"
    ranges: Path | None = None
    small_gate: bool = False
    allow: bool = False
    trt_body: Literal["fp16", "fp32"] = "fp16"
    seed: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        if self.method not in ("auto", *METHODS):
            raise UsageError(f"--calib-method {self.method}; expected one of auto, {', '.join(METHODS)}")
        if self.trt_body not in ("fp16", "fp32"):
            raise UsageError(f"--trt-body {self.trt_body}; expected fp16 or fp32")
        if self.ranges is not None and self.method != "auto":
            raise UsageError("--ranges is a finished table: it cannot go with --calib-method")
        check_counts(self.frames, self.gate_frames)
        if self.gate_frames < LEAST_FRAMES and not self.small_gate:
            raise UsageError(
                f"--gate-frames {self.gate_frames}; expected at least {LEAST_FRAMES}, or --allow-small-gate with it"
            )

    @property
    def methods(self) -> tuple[str, ...]:
        """The calibration methods that are measured."""
        return METHODS if self.method == "auto" else (self.method,)
