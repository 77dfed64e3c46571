"""What a dataflow does with frames at given times, without their pictures: which nodes run, and on what.

The runtime's own schedule and windows are run on numbers of frames instead of pictures, so that training and offline
evaluation show a network exactly what a device would show it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .dataflow import NodeValue, StreamState, default_value
from .manifest import Manifest, Node


@dataclass(frozen=True)
class FrameTime:
    """Capture time of a frame, seconds until the next one, its number."""

    pts_s: float
    duration_s: float
    index: int


@dataclass(frozen=True)
class Call:
    """One run of one node.

    Attributes:
        number: of the call in its trace.
        frame: position of the frame at which it ran, in the sequence that was traced.
        inputs: input name to what it held, oldest first: positions of frames for an input from ``source``, numbers of
            calls for one from another node, nothing for one from the caller.
        complete: no window was padded, and none of the calls behind it had one.
    """

    number: int
    node: str
    frame: int
    pts_s: float
    inputs: Mapping[str, tuple[int, ...]]
    complete: bool


def trace(manifest: Manifest, times: Iterable[FrameTime], rates: Sequence[float] = ()) -> list[Call]:
    """All calls that a stream of frames at ``times`` brings, in order.

    Args:
        manifest: its nodes are read, nothing else; files need not be there.
        rates: as for :meth:`Executor.open_stream`.
    """
    state = StreamState(manifest, {}, rates)
    state.caller = {i.name: default_value(i) for node in manifest.nodes for i in node.inputs if i.source == "caller"}
    calls: list[Call] = []
    for position, time in enumerate(times):
        due = state.schedule.take(time.pts_s, time.duration_s, time.index)
        for key, tick in due.keeps.items():
            state.windows[key].push(tick, time.pts_s, np.array(position), True)
        ran: set[str] = set()
        for node in manifest.nodes:
            if node.name in due.nodes:
                tick = due.nodes[node.name]
            elif state.triggered(node, ran):
                tick = 0
            else:
                continue
            call = _call(state, node, tick, len(calls), position, time)
            if call is None:
                continue
            calls.append(call)
            number = np.array(call.number)
            value = NodeValue({f"{node.name}.{o.name}": number for o in node.outputs}, time.pts_s, call.complete)
            state.accept(node, value, time.duration_s, time.index)
            ran.add(node.name)
    return calls


def _call(state: StreamState, node: Node, tick: int, number: int, position: int, time: FrameTime) -> Call | None:
    pictures = {i.name: np.array(position) for i in node.inputs if i.source == "source" and i.last == 1}
    gathered = state.gather(node, tick, pictures)
    if gathered is None:
        return None
    filled, complete, _ = gathered
    caller = {item.name for item in node.inputs if item.source == "caller"}
    inputs = {name: () if name in caller else tuple(int(value) for value in one.values) for name, one in filled.items()}
    return Call(number, node.name, position, time.pts_s, inputs, complete)


def behind(calls: Sequence[Call], manifest: Manifest, wanted: Iterable[int]) -> list[Call]:
    """The wanted calls and all calls that they hang on, in order."""
    sources = {(node.name, item.name): item.source for node in manifest.nodes for item in node.inputs}
    needed: set[int] = set()
    waiting = list(wanted)
    while waiting:
        number = waiting.pop()
        if number in needed:
            continue
        needed.add(number)
        call = calls[number]
        for name, refs in call.inputs.items():
            if sources[call.node, name] not in ("source", "caller"):
                waiting.extend(refs)
    return [calls[number] for number in sorted(needed)]
