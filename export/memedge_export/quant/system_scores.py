"""Scores of many clips by a system whose nodes run in some lowering, in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from memedge_engines.backends.base import first_line
from memedge_engines.manifest import Node

from ..errors import ExportError
from ..system_clips import Fitted, Timeline, final_scores, run_calls
from .calib_callers import CallerExamples
from .scoring import BATCH, open_model
from .system_lowering import SystemLowered

# What a node gives for one clip is kept for the next lowering when it is not larger.
_LARGEST_KEPT = 1 << 20


class Clips(Protocol):
    """Clips by row; a :class:`.calib_clips.ClipStore` is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Fitted: ...


class SystemScores:
    """Scores of a fixed set of clips by any lowering of one system.

    What float nodes give, on float inputs, is computed once for every clip and kept.

    Args:
        timeline: of the system.
        floats: graph node to its float graph.
        clips: what is scored.
        threads: of ONNX Runtime; 0: one for each core.
        callers: what the caller gives beside each clip; none: defaults.
    """

    def __init__(
        self,
        timeline: Timeline,
        floats: Mapping[str, bytes],
        clips: Clips,
        threads: int = 0,
        callers: CallerExamples | None = None,
    ) -> None:
        self._timeline, self._floats, self._clips, self._threads = timeline, dict(floats), clips, threads
        self._callers = callers or CallerExamples(timeline.manifest)
        self._kept: dict[tuple[int, int], dict[str, NDArray[Any]]] = {}
        self._sessions: dict[str, Any] = {}
        nodes = timeline.manifest.nodes
        read = {item.source.partition(".")[0] for node in nodes if node.kind == "graph" for item in node.inputs}
        # What only host nodes read (every frame's part of a histogram) is not worth its room.
        self._worth_keeping = read | {target.source.partition(".")[0] for target in timeline.manifest.targets}

    def __len__(self) -> int:
        return len(self._clips)

    def float_scores(self) -> NDArray[np.float64]:
        """The float graphs' scores, float64 ``[N, targets]``, clipped to 0..1."""
        return self.all_targets(None)

    def of(self, optimise: bool) -> PrimaryScores:
        """What :func:`.gate.run_gate` asks: the primary target's scores by a lowering."""
        return PrimaryScores(self, optimise)

    def all_targets(
        self, lowered: SystemLowered | None, rows: Sequence[int] | None = None, *, optimise: bool = True
    ) -> NDArray[np.float64]:
        """Scores of all clips, or of some rows, float64 ``[n, targets]``, clipped to 0..1; what is not finite stays so.

        Raises:
            ExportError: ONNX Runtime refuses a graph or fails on it.
        """
        chosen = list(range(len(self._clips))) if rows is None else [int(row) for row in rows]
        narrow = {} if lowered is None else {node: one.model for node, one in lowered.nodes.items()}
        fresh = self._changed(set(narrow))
        sessions: dict[str, Any] = {
            node: open_model(data, self._threads, optimise=optimise) for node, data in narrow.items()
        }
        size = 1 if self._timeline.moves else BATCH  # a clip is large enough, as are its networks' maps
        batches = (chosen[begin : begin + size] for begin in range(0, len(chosen), size))
        scores = np.concatenate([self._batch(batch, sessions, fresh) for batch in batches])
        return np.where(np.isfinite(scores), np.clip(scores, 0, 1), scores)

    def _changed(self, narrow: set[str]) -> set[str]:
        """Nodes whose values differ from float: narrow ones and all behind them."""
        changed = set(narrow)
        for node in self._timeline.manifest.nodes:
            if any(item.source.partition(".")[0] in changed for item in node.inputs):
                changed.add(node.name)
        return changed

    def _batch(self, rows: Sequence[int], sessions: Mapping[str, Any], fresh: set[str]) -> NDArray[np.float64]:
        known: dict[int, dict[str, NDArray[Any]]] = {}
        for call in self._timeline.calls:
            kept = [self._kept.get((call.number, row)) for row in rows]
            if call.node not in fresh and all(one is not None for one in kept):
                first = kept[0] or {}
                known[call.number] = {name: np.stack([(one or {})[name] for one in kept]) for name in first}

        def run(node: Node, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            session = sessions.get(node.name) or self._float_session(node.name)
            names = [output.name for output in node.outputs]
            try:
                results = session.run(names, inputs)
            except Exception as error:
                raise ExportError(f"node '{node.name}': ONNX Runtime fails on the graph: {first_line(error)}") from None
            return dict(zip(names, results, strict=True))

        given = [self._callers.of(row) for row in rows]
        found = run_calls(self._timeline, [self._clips[row] for row in rows], run, known=known, callers=given)
        for call in self._timeline.calls:
            wanted = call.node in self._worth_keeping and call.node not in fresh
            if wanted and call.number in found and call.number not in known:
                for place, row in enumerate(rows):
                    values = {name: np.array(array[place]) for name, array in found[call.number].items()}
                    if sum(array.nbytes for array in values.values()) <= _LARGEST_KEPT:
                        self._kept[call.number, row] = values
        return final_scores(self._timeline, found)

    def _float_session(self, node: str) -> Any:
        if node not in self._sessions:
            self._sessions[node] = open_model(self._floats[node], self._threads)
        return self._sessions[node]


class PrimaryScores:
    """The primary target's scores by any lowering; see :class:`.sensitivity.Score`.

    Args:
        scores: of all targets.
        optimise: see :func:`.scoring.open_model`.
    """

    def __init__(self, scores: SystemScores, optimise: bool) -> None:
        self._scores, self._optimise = scores, optimise

    def __call__(self, lowered: Any, rows: NDArray[np.intp] | None = None) -> NDArray[np.float64]:
        """Scores of all clips, or of those with the numbers ``rows``: float64 ``[N]``."""
        chosen = None if rows is None else [int(row) for row in rows]
        targets = self._scores.all_targets(lowered, chosen, optimise=self._optimise)
        return targets[:, 0]
