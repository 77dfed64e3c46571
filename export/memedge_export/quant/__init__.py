"""Calibration, lowerings and the fidelity gate: from a float graph to graphs that run fast and rank pictures alike."""

from __future__ import annotations

from .calib_statistics import Statistics
from .collect import collect, state_path
from .frames import CalibrationSet, plan
from .ranges import METHODS, RangeTable, graph_hash, hash_frames

__all__ = [
    "METHODS",
    "CalibrationSet",
    "RangeTable",
    "Statistics",
    "collect",
    "graph_hash",
    "hash_frames",
    "plan",
    "state_path",
]
