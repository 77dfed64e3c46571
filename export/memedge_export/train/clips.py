"""What a system needs of one record: pictures for its graph nodes, values of its host nodes, made while the video is
decoded."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memedge.sources.names import is_picture
from memedge_engines import extractors
from memedge_engines.dataflow import default_value, picture_key
from memedge_engines.frame import Frame
from memedge_engines.manifest import Manifest, NodeInput, Preprocess
from memedge_engines.preprocess import Preprocessor
from memedge_engines.trace import Call

from ..data.frames import MOST_FRAMES, Stamp, watch
from ..data.pictures import Picture, read_picture
from ..errors import DataError
from .viewing import Viewer, Viewing

Key = tuple[object, ...]
Place = tuple[Key, int]
"""Which picture: of which contract, at which position of the viewing's frames."""
Values = Mapping[str, NDArray[Any]]
Convert = Callable[[Frame, Preprocess], Picture]


@dataclass(frozen=True)
class Clip:
    """One record as a system sees it.

    Attributes:
        hosts: number of a host node's call to its outputs by name, for those with no graph node before them whose
            values graph nodes, and what stands behind these, read.
        pictures: of the graph nodes' inputs, uint8 ``[h, w, C]`` each.
        caller: values of caller inputs, where the record has some.
    """

    viewing: Viewing
    hosts: Mapping[int, Values]
    pictures: Mapping[Place, Picture]
    caller: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of pictures and values; pictures that several contracts share count once."""
        different = {id(picture): picture.nbytes for picture in self.pictures.values()}
        return sum(different.values()) + sum(a.nbytes for one in self.hosts.values() for a in one.values())


class Layout:
    """Which inputs of a dataflow take what: read once from its manifest.

    Attributes:
        live: nodes that run in the network: graph nodes, and what stands behind them.
        contracts: of the live nodes' picture inputs, by key.
        looks: whether any node takes pictures.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.nodes = {node.name: node for node in manifest.nodes}
        self.inputs: dict[tuple[str, str], NodeInput] = {(n.name, i.name): i for n in manifest.nodes for i in n.inputs}
        self.looks = any(item.source == "source" for item in self.inputs.values())
        self.live: set[str] = set()
        self.contracts: dict[Key, Preprocess] = {}
        for node in manifest.nodes:
            if node.kind == "graph" or any(i.source.partition(".")[0] in self.live for i in node.inputs):
                self.live.add(node.name)
                for item in node.inputs:
                    if item.preprocess is not None:
                        self.contracts[picture_key(item.preprocess)] = item.preprocess

    def places(self, call: Call) -> list[Place]:
        """The pictures of a call."""
        found = []
        for name, refs in call.inputs.items():
            contract = self.inputs[call.node, name].preprocess
            if contract is not None:
                found += [(picture_key(contract), ref) for ref in refs]
        return found

    def values(self, call: Call) -> list[int]:
        """The calls whose outputs a call reads, once for each time it does."""
        found: list[int] = []
        for name, refs in call.inputs.items():
            if self.inputs[call.node, name].source not in ("source", "caller"):
                found += refs
        return found


class Eye:
    """Looks at records for one system.

    Args:
        convert: what to keep of a frame for a graph node's contract; none: the contract's own picture, through the
            runtime's preprocessing. Host nodes always see that.
        shared: contracts' pictures are all the same, so that each frame is converted once.
    """

    def __init__(self, viewer: Viewer, convert: Convert | None = None, *, shared: bool = False) -> None:
        self.viewer = viewer
        self.layout = Layout(viewer.manifest)
        self.shared = shared
        self._convert = convert
        self._preprocessors: dict[Key, Preprocessor] = {}
        self._lock = threading.Lock()

    def look(self, path: Path, caller: Mapping[str, NDArray[np.float32]] | None = None) -> Clip:
        """A record's clip; a still picture fills every window.

        Raises:
            SourceError, PictureError: it cannot be read.
            DataError: its graph nodes need more than 4,096 pictures.
        """
        if is_picture(path) or not self.layout.looks:
            return self.still(read_picture(path) if self.layout.looks else None, caller)
        watcher = watch(path, lambda stamps: _Watcher(self, self.viewer.of_video(stamps), caller or {}))
        if len(watcher.pictures) > MOST_FRAMES:
            raise DataError(f"{path}: more than {MOST_FRAMES} pictures for one system; expected a clip")
        return Clip(watcher.viewing, watcher.hosts, watcher.pictures, caller or {})

    def still(self, picture: Picture | None, caller: Mapping[str, NDArray[np.float32]] | None = None) -> Clip:
        """The clip of a still picture, RGB uint8 ``[H, W, 3]``; none for a system that looks at none."""
        watcher = _Watcher(self, self.viewer.of_picture(), caller or {})
        if picture is not None:
            watcher.take(0, Frame.from_rgb(picture))
        watcher.run_hosts(None)
        return Clip(watcher.viewing, watcher.hosts, watcher.pictures, caller or {})

    def picture(self, frame: Frame, contract: Preprocess, *, host: bool) -> Picture:
        """One frame as a node takes it."""
        if self._convert is not None and not host:
            return self._convert(frame, contract)
        key = picture_key(contract)
        with self._lock:
            preprocessor = self._preprocessors.setdefault(key, Preprocessor(contract))
        return preprocessor.picture(frame)


class _Watcher:
    """Takes the frames of one viewing; runs host nodes as soon as their last frame is there, and then forgets frames
    that no other needs."""

    def __init__(self, eye: Eye, viewing: Viewing, caller: Mapping[str, NDArray[np.float32]]) -> None:
        self.viewing = viewing
        self.pictures: dict[Place, Picture] = {}
        self.hosts: dict[int, Values] = {}
        self._eye = eye
        self._caller = caller
        layout = eye.layout
        self._waiting = deque(call for call in viewing.calls.values() if call.node not in layout.live)
        self._graph = {p for call in viewing.calls.values() if call.node in layout.live for p in layout.places(call)}
        self._uses: dict[Place, int] = {}
        for call in self._waiting:
            for place in layout.places(call):
                self._uses[place] = self._uses.get(place, 0) + 1
        self._host_pictures: dict[Place, Picture] = {}
        # Values of host nodes that only other host nodes read are forgotten after the last of these.
        self._readers: dict[int, int] = {}
        self._lasting: set[int] = set()
        for call in viewing.calls.values():
            for ref in layout.values(call):
                if call.node in layout.live:
                    self._lasting.add(ref)
                else:
                    self._readers[ref] = self._readers.get(ref, 0) + 1
        self._contracts: dict[Key, Preprocess] = dict(layout.contracts)
        for call in self._waiting:
            for name in call.inputs:
                contract = layout.inputs[call.node, name].preprocess
                if contract is not None:
                    self._contracts[picture_key(contract)] = contract
        self.wanted = {position for _, position in (*self._graph, *self._uses)}

    def take(self, number: int, frame: Frame) -> None:
        """Keep what is wanted of a frame, and run what has waited for it."""
        first: Picture | None = None
        for key, contract in self._contracts.items():
            place = (key, number)
            if place in self._graph and len(self.pictures) <= MOST_FRAMES:
                if first is None or not self._eye.shared:
                    first = self._eye.picture(frame, contract, host=False)
                self.pictures[place] = first
            if place in self._uses:
                self._host_pictures[place] = self._eye.picture(frame, contract, host=True)
        self.run_hosts(number)

    def run_hosts(self, number: int | None) -> None:
        """Run the host nodes that are due up to frame ``number``; none: all of them."""
        while self._waiting and (number is None or self._waiting[0].frame <= number):
            call = self._waiting.popleft()
            node = self._eye.layout.nodes[call.node]
            values = {name: self._elements(call, name, refs) for name, refs in call.inputs.items()}
            self.hosts[call.number] = extractors.find(node)(values, node)
            for ref in self._eye.layout.values(call):
                self._readers[ref] -= 1
                if not self._readers[ref] and ref not in self._lasting:
                    self.hosts.pop(ref, None)
            for place in self._eye.layout.places(call):
                self._uses[place] -= 1
                if not self._uses[place]:
                    self._host_pictures.pop(place, None)

    def _elements(self, call: Call, name: str, refs: Sequence[int]) -> list[NDArray[Any]]:
        item = self._eye.layout.inputs[call.node, name]
        if item.preprocess is not None:
            key = picture_key(item.preprocess)
            return [self._host_pictures[key, ref] for ref in refs]
        if item.source == "caller":
            return [self._caller.get(item.name, default_value(item))]
        output = item.source.partition(".")[2]
        return [self.hosts[ref][output] for ref in refs]

    def suits(self, stamps: Sequence[Stamp]) -> bool:
        """Whether a video of these times asks for the very calls that were made."""
        right = self._eye.viewer.of_video(stamps)
        same = right.calls.keys() == self.viewing.calls.keys() and all(
            (call.node, call.frame, call.inputs) == (own.node, own.frame, own.inputs)
            for call, own in zip(right.calls.values(), self.viewing.calls.values(), strict=True)
        )
        if same:
            self.viewing = right
            self.run_hosts(None)
        return same
