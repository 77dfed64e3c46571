"""A manifest's dataflow per stream: which nodes are due at a frame, and what their inputs hold.

Which nodes are due is a function of capture times and periods alone; offline evaluation uses this very module.
A node is due at the frame nearest to each of its ticks; ``period_s`` 0 means every offered frame, or the rates that the
stream was opened with; a node fed only by other nodes, with period 0, runs whenever one of them ran; a node fed by the
caller alone runs at the stream's first frame, and again when its values have changed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from .errors import EngineError, ExecutorError
from .manifest import Manifest, Node, NodeInput, Preprocess
from .ticks import tick_of
from .windows import Filled, Window, pack_array, unpack_array

InputKey = tuple[str, str]


@dataclass(frozen=True)
class Due:
    """What one frame brings: nodes that run, with their tick, and picture windows that keep this frame, with theirs."""

    nodes: Mapping[str, int]
    keeps: Mapping[InputKey, int]

    @property
    def empty(self) -> bool:
        """Whether nothing wants this frame."""
        return not self.nodes and not self.keeps


def default_value(item: NodeInput) -> NDArray[np.float32]:
    """The default of a ``caller`` input as an array of its shape; zeros where it has none."""
    value = np.asarray(item.default if item.default is not None else [0.0], np.float32)
    if item.shape is None:
        return value
    return np.full(item.shape, value[0]) if value.size == 1 else value.reshape(item.shape)


def _caller_only(node: Node) -> bool:
    return node.period_s == 0 and all(item.source == "caller" for item in node.inputs)


def picture_key(contract: Preprocess) -> tuple[object, ...]:
    """Contracts with the same key give the same uint8 picture, so a frame is preprocessed once for all of them."""
    return (contract.color, contract.resize, contract.crop)


class Schedule:
    """Ticks of one stream: which nodes and windows want a frame.

    Args:
        manifest: the bundle's.
        rates: periods in seconds that replace "every frame" for nodes with ``period_s`` 0; empty keeps every frame.
    """

    def __init__(self, manifest: Manifest, rates: Sequence[float] = ()) -> None:
        for rate in rates:
            if not (math.isfinite(rate) and rate > 0):
                raise ExecutorError(f"period {rate} s; expected more than 0")
        self._periods: dict[str, tuple[float, ...]] = {}
        self._windows: dict[InputKey, float] = {}
        # Nodes whose windows begin at their ticks: seconds from a tick until a window at a stride is full, or, of
        # windows of consecutive frames, how many frames after the tick's own, and which ticks wait for how many.
        self._full_after_s: dict[str, float] = {}
        self._full_after: dict[str, int] = {}
        self._filling: dict[str, deque[tuple[int, int]]] = {}
        self._frames = 0
        for node in manifest.nodes:
            from_source = any(item.source == "source" for item in node.inputs)
            if from_source:
                self._periods[node.name] = (node.period_s,) if node.period_s > 0 else tuple(rates)
            elif node.period_s > 0:
                self._periods[node.name] = (node.period_s,)
            for item in node.inputs:
                if item.source == "source" and item.last > 1:
                    self._windows[node.name, item.name] = float(Window(node, item).step)
                    if node.anchor == "start" and item.stride_s > 0:
                        self._full_after_s[node.name] = (item.last - 1) * item.stride_s
                    elif node.anchor == "start":
                        self._full_after[node.name] = item.last - 1
                        self._filling[node.name] = deque(maxlen=item.last)
        self.origin: float | None = None  # capture time of the stream's first frame
        self._last: dict[str, int] = {}
        self._counts: dict[str, int] = {}

    def _reached(self, pts_s: float, duration_s: float, index: int) -> tuple[Due, dict[str, int]]:
        origin = pts_s if self.origin is None else self.origin
        moved: dict[str, int] = {}

        def tick(key: str, period: float, later_s: float = 0.0) -> int | None:
            first = 0 if self.origin is None and not later_s else -1
            reached = max(tick_of(pts_s, duration_s, index, period, origin + later_s), first)
            if reached <= self._last.get(key, -1):
                return None
            moved[key] = reached
            return reached

        nodes: dict[str, int] = {}
        for name, periods in self._periods.items():
            if not periods:
                nodes[name] = self._counts.get(name, 0)
                continue
            later_s = self._full_after_s.get(name, 0.0)
            reached = [tick(f"node {name} {i}", period, later_s) for i, period in enumerate(periods)]
            hits = [r for r in reached if r is not None]
            if name in self._filling:
                wanted = self._frames - self._full_after[name]
                full = [k for k, frame in self._filling[name] if frame == wanted]
                if full:
                    nodes[name] = full[-1]
            elif hits:
                nodes[name] = hits[0] if len(periods) == 1 else self._counts.get(name, 0)
        keeps: dict[InputKey, int] = {}
        for key, step in self._windows.items():
            if not step:
                keeps[key] = 0
            else:
                hit = tick(f"window {key[0]} {key[1]}", step)
                if hit is not None:
                    keeps[key] = hit
        return Due(nodes, keeps), moved

    def peek(self, pts_s: float, duration_s: float, index: int) -> Due:
        """What this frame would bring; changes nothing."""
        return self._reached(pts_s, duration_s, index)[0]

    def take(self, pts_s: float, duration_s: float, index: int) -> Due:
        """What this frame brings; the ticks it reaches are done."""
        due, moved = self._reached(pts_s, duration_s, index)
        if self.origin is None:
            self.origin = pts_s
        self._last.update(moved)
        for name, waiting in self._filling.items():
            if f"node {name} 0" in moved:
                waiting.append((moved[f"node {name} 0"], self._frames))
        self._frames += 1
        for name in due.nodes:
            self._counts[name] = self._counts.get(name, 0) + 1
        return due

    def reset(self) -> None:
        """Start anew: the next frame is the stream's first."""
        self.origin = None
        self._last.clear()
        self._counts.clear()
        self._frames = 0
        for waiting in self._filling.values():
            waiting.clear()

    def state(self) -> dict[str, Any]:
        """Plain data for msgpack."""
        filling = {name: [list(one) for one in waiting] for name, waiting in self._filling.items()}
        return {
            "origin": self.origin,
            "last": dict(self._last),
            "counts": dict(self._counts),
            "frames": self._frames,
            "filling": filling,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self.origin = None if state["origin"] is None else float(state["origin"])
        self._last = {str(k): int(v) for k, v in state["last"].items()}
        self._counts = {str(k): int(v) for k, v in state["counts"].items()}
        self._frames = int(state["frames"])
        for name, waiting in self._filling.items():
            waiting.clear()
            waiting.extend((int(tick), int(frame)) for tick, frame in state["filling"].get(name, []))


@dataclass(frozen=True)
class NodeValue:
    """A node's newest output: arrays by ``node.output`` without batch axis, and whether its inputs were whole."""

    arrays: Mapping[str, NDArray[Any]]
    pts_s: float
    complete: bool


class StreamState:
    """Everything the executor holds for one stream: schedule, windows, newest outputs, caller's values."""

    def __init__(self, manifest: Manifest, caller: Mapping[str, Any], rates: Sequence[float] = ()) -> None:
        self._manifest = manifest
        self.schedule = Schedule(manifest, rates)
        self.windows: dict[InputKey, Window] = {
            (node.name, item.name): Window(node, item)
            for node in manifest.nodes
            for item in node.inputs
            if item.source != "caller" and item.last > 1
        }
        self.values: dict[str, NodeValue] = {}
        self.caller: dict[str, NDArray[np.float32]] = {}
        self.set_caller(caller)

    def set_caller(self, values: Mapping[str, Any]) -> None:
        """Set caller inputs by name; ExecutorError for a name that no node takes."""
        known = {i.name: i.shape for n in self._manifest.nodes for i in n.inputs if i.source == "caller"}
        for name, value in values.items():
            if name not in known:
                raise ExecutorError(f"no caller input '{name}'; the bundle takes {', '.join(sorted(known)) or 'none'}")
            array = np.asarray(value, np.float32)
            if known[name] not in (None, array.shape):
                raise ExecutorError(
                    f"caller input '{name}' has shape {list(array.shape)}; expected {list(known[name] or ())}"
                )
            if name not in self.caller or not np.array_equal(array, self.caller[name]):
                self._forget_caller_nodes(name)
            self.caller[name] = array

    def _forget_caller_nodes(self, changed: str | None = None) -> None:
        """Nodes fed by the caller alone, with that input if one is named, run again at the next frame."""
        for node in self._manifest.nodes:
            if _caller_only(node) and changed in (None, *(item.name for item in node.inputs)):
                self.values.pop(node.name, None)

    def caller_value(self, node: Node, item: NodeInput) -> NDArray[np.float32]:
        """The caller's value of an input, its default, or an EngineError that names it."""
        if item.name in self.caller:
            return self.caller[item.name]
        if item.default is not None:
            return default_value(item)
        raise EngineError(f"node '{node.name}' needs the caller's '{item.name}', which was not set and has no default")

    def triggered(self, node: Node, ran: set[str]) -> bool:
        """Whether a node without pictures and without a period runs, given the nodes that ran at this frame."""
        if node.period_s > 0 or any(item.source == "source" for item in node.inputs):
            return False
        if _caller_only(node):
            return node.name not in self.values
        if node.after is not None:
            return node.after in ran
        return any(item.source.partition(".")[0] in ran for item in node.inputs)

    def gather(
        self, node: Node, tick: int, pictures: Mapping[str, NDArray[np.uint8]]
    ) -> tuple[dict[str, Filled], bool, bool] | None:
        """Inputs of a node at a tick: values by input name, whether all were whole, whether one was resampled.

        ``pictures``: the present picture of each of the node's source inputs. None while an input has nothing yet.
        """
        gathered: dict[str, Filled] = {}
        complete, resampled = True, False
        for item in node.inputs:
            if item.source == "caller":
                filled: Filled | None = Filled([self.caller_value(node, item)], True, False)
            elif item.last > 1:
                window = self.windows[node.name, item.name]
                filled = window.fill(window.newest_tick(node, tick))
            elif item.source == "source":
                filled = Filled([pictures[item.name]], True, False)
            else:
                value = self.values.get(item.source.partition(".")[0])
                filled = None if value is None else Filled([value.arrays[item.source]], value.complete, False)
            if filled is None:
                return None
            gathered[item.name] = filled
            complete = complete and filled.complete
            resampled = resampled or filled.resampled
        return gathered, complete, resampled

    def accept(self, node: Node, value: NodeValue, duration_s: float, index: int) -> None:
        """A node ran: keep its outputs as newest, and in the windows that take them."""
        self.values[node.name] = value
        origin = self.schedule.origin or 0.0
        for other in self._manifest.nodes:
            for item in other.inputs:
                if item.last > 1 and item.source.partition(".")[0] == node.name and item.source in value.arrays:
                    window = self.windows[other.name, item.name]
                    step = float(window.step)
                    tick = tick_of(value.pts_s, duration_s, index, step, origin) if step else 0
                    window.push(max(tick, 0), value.pts_s, value.arrays[item.source], value.complete)

    def reset(self) -> None:
        """Forget the stream's past; the caller's values stay."""
        self.schedule.reset()
        self.values.clear()
        for window in self.windows.values():
            window.clear()

    def mark_partial(self) -> None:
        """Another engine takes over: windows of node outputs are partial until they are filled anew."""
        for (node_name, input_name), window in self.windows.items():
            item = next(i for i in self._manifest.node(node_name).inputs if i.name == input_name)
            if item.source != "source":
                window.mark_partial()
        self._forget_caller_nodes()
        self.values = {k: NodeValue(v.arrays, v.pts_s, False) for k, v in self.values.items()}

    def save(self, bundle_hash: str) -> bytes:
        """The state as msgpack bytes that name the bundle."""
        data = {
            "memedge_state": 1,
            "bundle": bundle_hash,
            "schedule": self.schedule.state(),
            "windows": [[*key, window.state()] for key, window in self.windows.items()],
            "values": [
                [name, v.pts_s, v.complete, {k: pack_array(a) for k, a in v.arrays.items()}]
                for name, v in self.values.items()
            ],
            "caller": {name: pack_array(a) for name, a in self.caller.items()},
        }
        return msgspec.msgpack.encode(data)

    def load(self, data: bytes, bundle_hash: str) -> None:
        """Take back what :meth:`save` gave.

        Raises:
            ExecutorError: not such bytes, or saved by another bundle. The state is then as it was before.
        """
        try:
            saved = msgspec.msgpack.decode(data)
            if saved["memedge_state"] != 1:
                raise ExecutorError(f"saved state of version {saved['memedge_state']}; expected 1")
            if saved["bundle"] != bundle_hash:
                raise ExecutorError(f"state was saved by bundle {saved['bundle'][:12]}, this is {bundle_hash[:12]}")
            fresh = StreamState(self._manifest, {})
            fresh.schedule.restore(saved["schedule"])
            for node, name, window in saved["windows"]:
                fresh.windows[node, name].restore(window)
            values = {
                name: NodeValue({k: unpack_array(a) for k, a in arrays.items()}, float(pts), bool(complete))
                for name, pts, complete, arrays in saved["values"]
            }
            caller = {name: unpack_array(a) for name, a in saved["caller"].items()}
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            raise ExecutorError(f"bytes given are not a saved stream state: {error}") from None
        self.schedule.restore(saved["schedule"])
        self.windows, self.values, self.caller = fresh.windows, values, caller
