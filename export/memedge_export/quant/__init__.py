"""Calibration, lowerings and the fidelity gate: from a float graph to graphs that run fast and still rank pictures alike."""

from __future__ import annotations

from memedge_export.quant.ranges import METHODS, RangeTable, graph_hash, hash_frames

__all__ = ["METHODS", "RangeTable", "graph_hash", "hash_frames"]
