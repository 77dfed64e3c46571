"""What a system sees of one picture or clip, by the runtime's own schedule: the calls of its nodes until every target
has one whole score, and their inputs.

A system with windows needs pictures of several times. A still picture is therefore shown through a frame that slowly
pans and zooms over it, so that motion is not nothing; a system that looks at one picture gets the picture itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from memedge_engines import extractors
from memedge_engines.dataflow import default_value, picture_key
from memedge_engines.frame import Frame
from memedge_engines.host_executor import to_input
from memedge_engines.manifest import InputStorage, Manifest, Node, NodeInput
from memedge_engines.preprocess import Preprocessor
from memedge_engines.trace import Call, FrameTime, behind, trace

from .data.pictures import Picture
from .errors import ExportError

RATE = 30
"""Frames a second of what is shown: every published sampling falls on its grid or is nearest to it."""
_LONGEST_S = 32.0
Arrays = Mapping[str, NDArray[Any]]
Run = Callable[[Node, dict[str, NDArray[Any]]], Arrays]
Storages = Callable[[Node], Mapping[str, InputStorage]]
Fitted = Mapping[tuple[object, ...], Mapping[int, NDArray[np.uint8]]]


@dataclass(frozen=True)
class Timeline:
    """The calls behind one whole score of every target.

    Attributes:
        manifest: the dataflow.
        calls: in order.
        times_s: of the frames that a call looks at, by their number in the timeline, rising.
        finals: target's node to the number of the call that gives its score.
    """

    manifest: Manifest
    calls: tuple[Call, ...]
    times_s: Mapping[int, float]
    finals: Mapping[str, int]

    @classmethod
    def of(cls, manifest: Manifest) -> Timeline:
        """The timeline of a dataflow; calls with short windows where 32 s do not fill them.

        Raises:
            ExportError: a target has no score after 32 s.
        """
        wanted = {target.source.partition(".")[0] for target in manifest.targets}
        seconds = 1 / RATE
        while True:
            calls = trace(manifest, [FrameTime(i / RATE, 1 / RATE, i) for i in range(round(seconds * RATE))])
            whole = {node: next((c for c in calls if c.node == node and c.complete), None) for node in wanted}
            if all(whole.values()) or seconds >= _LONGEST_S:
                break
            seconds = min(_LONGEST_S, max(1.0, 2 * seconds))
        finals = {}
        for node, call in whole.items():
            ran = [one for one in calls if one.node == node]
            if not ran:
                raise ExportError(f"node '{node}' gives no score within {_LONGEST_S:g} s of frames; expected one")
            finals[node] = (call or ran[-1]).number
        chosen = tuple(behind(calls, manifest, finals.values()))
        source = {(n.name, i.name) for n in manifest.nodes for i in n.inputs if i.source == "source"}
        frames = {
            position
            for call in chosen
            for name, positions in call.inputs.items()
            if (call.node, name) in source
            for position in positions
        }
        return cls(manifest, chosen, {position: position / RATE for position in sorted(frames)}, finals)

    @property
    def moves(self) -> bool:
        """Whether frames of several times are looked at."""
        return len(self.times_s) > 1

    def until(self, name: str) -> Timeline:
        """The part of the timeline that the calls of one node hang on, themselves included."""
        needed = self.behind(call.number for call in self.calls if call.node == name)
        calls = tuple(call for call in self.calls if call.number in needed)
        looked = {
            position
            for call in calls
            for item in self.manifest.node(call.node).inputs
            if item.source == "source"
            for position in call.inputs[item.name]
        }
        times = {position: time for position, time in self.times_s.items() if position in looked}
        return Timeline(self.manifest, calls, times, self.finals)

    def behind(self, numbers: Iterable[int], known: Collection[int] = ()) -> set[int]:
        """Numbers of these calls and of all that they hang on; what is behind ``known`` ones is not asked for."""
        by_number = {call.number: call for call in self.calls}
        needed: set[int] = set()
        waiting = [number for number in numbers if number not in known]
        while waiting:
            call = by_number[waiting.pop()]
            needed.add(call.number)
            for item in self.manifest.node(call.node).inputs:
                if item.source not in ("source", "caller"):
                    waiting += [n for n in call.inputs[item.name] if n not in needed and n not in known]
        return needed


class Fitter:
    """Prepares the frames of a timeline for every contract that looks at them."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self._makers: dict[tuple[object, ...], Preprocessor] = {}
        self._wanted: dict[tuple[object, ...], set[int]] = {}
        for call in timeline.calls:
            for item in timeline.manifest.node(call.node).inputs:
                if item.preprocess is not None:
                    key = picture_key(item.preprocess)
                    self._makers.setdefault(key, Preprocessor(item.preprocess))
                    self._wanted.setdefault(key, set()).update(call.inputs[item.name])

    def still(self, picture: Picture, seed: int = 0) -> Fitted:
        """A still picture, shown as the module says; ``seed`` chooses the way of the frame over it."""
        if not self.timeline.moves:
            return self.fit(dict.fromkeys(self.timeline.times_s, picture))
        return self.fit({p: moved(picture, time_s, seed) for p, time_s in self.timeline.times_s.items()})

    def wants(self, key: tuple[object, ...], position: int) -> bool:
        """Whether a contract looks at a frame."""
        return position in self._wanted.get(key, ())

    def all_contracts(self, frame: Frame) -> dict[tuple[object, ...], NDArray[np.uint8]]:
        """A frame as every contract prepares it."""
        return {key: maker.picture(frame) for key, maker in self._makers.items()}

    def fit(self, pictures: Mapping[int, Picture]) -> Fitted:
        """Pictures by number of their frame, RGB uint8 ``[H,W,3]``, as each contract prepares them."""
        made: dict[tuple[object, ...], dict[int, NDArray[np.uint8]]] = {}
        for key, positions in self._wanted.items():
            maker = self._makers[key]
            made[key] = {p: maker.picture(Frame.from_rgb(pictures[p])) for p in sorted(positions)}
        return made


def moved(picture: Picture, time_s: float, seed: int = 0) -> Picture:
    """What a slowly panning and zooming frame shows of a picture, at the picture's size.

    The frame covers 70 to 80 % of each side and moves by at most about a tenth of it a second.
    """
    height, width = picture.shape[:2]
    turn = 2.399963 * seed  # the golden angle: neighbouring seeds move in different directions
    side = 0.75 + 0.05 * math.sin(2 * math.pi * time_s / 9 + turn)
    across = 0.5 + 0.5 * math.sin(2 * math.pi * time_s / 8 + 2 * turn)
    down = 0.5 + 0.5 * math.cos(2 * math.pi * time_s / 10 + 3 * turn)
    left, top = across * (1 - side) * width, down * (1 - side) * height
    box = (left, top, left + side * width, top + side * height)
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR, box))


def run_calls(
    timeline: Timeline,
    clips: Sequence[Fitted],
    run: Run,
    storages: Storages = lambda node: {},
    see: Callable[[Call, dict[str, NDArray[Any]]], None] | None = None,
    known: Mapping[int, dict[str, NDArray[Any]]] | None = None,
    callers: Sequence[Mapping[str, NDArray[np.float32]]] = (),
) -> dict[int, dict[str, NDArray[Any]]]:
    """Run a timeline's calls on several clips at once.

    Args:
        clips: fitted frames of each.
        run: computes a graph node: inputs and outputs with a batch axis, a row a clip.
        storages: how a graph node's file takes its inputs.
        see: shown every call of a graph node with its inputs, before it runs.
        known: calls that need not run, with their values as they are returned; only what the final scores need
            besides is run then.
        callers: values of caller inputs for each clip; none: defaults.

    Returns:
        Number of a call to ``node.output`` to its values, a row a clip.
    """
    found: dict[int, dict[str, NDArray[Any]]] = dict(known or {})
    needed = None if known is None else timeline.behind(timeline.finals.values(), known)
    for call in timeline.calls:
        if needed is not None and call.number not in needed:
            continue
        node = timeline.manifest.node(call.node)
        gathered = [
            {i.name: _elements(i, call, clip, found, row, callers[row] if callers else {}) for i in node.inputs}
            for row, clip in enumerate(clips)
        ]
        if node.kind == "graph":
            kept = storages(node)
            inputs = {
                item.name: np.concatenate([to_input(item, one[item.name], kept.get(item.name)) for one in gathered])
                for item in node.inputs
            }
            if see is not None:
                see(call, inputs)
            results = run(node, inputs)
        else:
            function = extractors.find(node)
            rows = [function(one, node) for one in gathered]
            results = {output.name: _together([row[output.name] for row in rows]) for output in node.outputs}
        found[call.number] = {f"{node.name}.{output.name}": results[output.name] for output in node.outputs}
    return found


def _together(rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Rows as one array; one of objects where clips of different sizes give values of different shapes."""
    if len({row.shape for row in rows}) == 1:
        return np.stack(rows)
    found = np.empty(len(rows), object)
    for place, row in enumerate(rows):
        found[place] = row
    return found


def _elements(
    item: NodeInput,
    call: Call,
    clip: Fitted,
    found: Mapping[int, Mapping[str, NDArray[Any]]],
    row: int,
    caller: Mapping[str, NDArray[np.float32]],
) -> list[NDArray[Any]]:
    if item.preprocess is not None:
        pictures = clip[picture_key(item.preprocess)]
        return [pictures[position] for position in call.inputs[item.name]]
    if item.source == "caller":
        return [caller.get(item.name, default_value(item))]
    return [found[number][item.source][row] for number in call.inputs[item.name]]


def final_scores(timeline: Timeline, found: Mapping[int, Mapping[str, NDArray[Any]]]) -> NDArray[np.float64]:
    """Scores of the clips that :func:`run_calls` ran, float64 ``[clips, targets]``, not clipped."""
    columns = []
    for target in timeline.manifest.targets:
        values = found[timeline.finals[target.source.partition(".")[0]]][target.source]
        columns.append(np.asarray(values, np.float64).reshape(len(values), -1)[:, 0])
    return np.stack(columns, 1)


def in_batches(clips: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Consecutive parts of at most ``size``."""
    for begin in range(0, len(clips), size):
        yield clips[begin : begin + size]
