"""Calibration, lowerings and the fidelity gate: from a float graph to graphs that run fast and rank pictures alike."""

from __future__ import annotations

from .ranges import METHODS, RangeTable, graph_hash, hash_frames

__all__ = ["METHODS", "RangeTable", "graph_hash", "hash_frames"]
