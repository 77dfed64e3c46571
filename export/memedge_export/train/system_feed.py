"""What the loop is fed where a system is trained: batches of calls with one augmentation a record, whole records for
validation."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memedge.console import Progress
from memedge.errors import SourceError
from memedge_engines.dataflow import picture_key
from memedge_engines.frame import Frame
from memedge_engines.manifest import NodeInput, Preprocess
from memedge_engines.preprocess import to_rgb

from ..data.kept import Recent
from ..data.pictures import Picture, reduced
from ..data.records import Record
from ..models import input_size
from ..models.system import System
from .assembly import Maker, Seen, Table, as_fitted, as_run
from .augment import colored, region
from .batches import Batches
from .clip_store import ClipStore, light
from .clips import Clip, Eye, Layout
from .inputs import Calls
from .material import Material, Sample, values_of
from .memo import Memo, frozen_parts
from .recipe import Augmentation, Phase, Recipe
from .system_run import evaluating, every_call, groups, run, scores_of, sources
from .viewing import Viewer

CallerOf = Callable[[Record], Mapping[str, NDArray[np.float32]]]
"""Values of caller inputs of a record (its title)."""
_MOST_THREADS = 8
_LIGHT_BYTES = 1 << 30
_AHEAD_BYTES = 2 << 30


def no_caller(record: Record) -> Mapping[str, NDArray[np.float32]]:
    """Records without values of caller inputs: these keep their defaults."""
    return {}


@dataclass(frozen=True)
class _Chosen:
    """A batch before its tensors are made; with ``sample`` they are."""

    records: NDArray[np.intp]
    seen: list[Seen]
    seed: list[int]
    sample: Sample | None = None


class SystemTrainingFeed(Batches[_Chosen]):
    """Batches of one training set for a system.

    A record gives one call of each target an epoch, drawn from those that the published sampling asks for. All pictures
    of a record are cut, mirrored and coloured alike; host nodes see pictures as they are. Without any augmentation
    the network sees what it sees at run time, and what its frozen parts give is computed once (:mod:`.memo`).

    Args:
        folder: keeps what was decoded of videos, or none.
    """

    def __init__(
        self,
        network: System,
        material: Material,
        recipe: Recipe,
        seed: int,
        *,
        part: tuple[int, int] = (0, 1),
        ahead: int = 1,
        folder: Path | None = None,
        caller_of: CallerOf = no_caller,
    ) -> None:
        size = recipe.batch * sum(_bytes(item) for node in network.nodes for item in node.inputs)
        ahead = max(ahead, min(os.cpu_count() or 1, _MOST_THREADS, _AHEAD_BYTES // max(size, 1)))
        super().__init__(material, recipe, seed, part=part, ahead=ahead)
        self._network = network
        self._viewer = Viewer(network)
        self._targets = network.system_targets
        self._sources = sources(network)
        self._caller_of = caller_of
        self._folder = folder
        self._stores: dict[bool, ClipStore] = {}
        self._light: Recent[int, Clip] = Recent(_LIGHT_BYTES, lambda clip: clip.nbytes)
        self._how: Augmentation = recipe.augmentation
        self._memo: Memo | None = None
        self._checked = False

    def begin(self, network: System, phase: Phase) -> None:
        """A phase begins: its augmentation, and what its frozen parts are. The network is in the phase's modes."""
        self._how = phase.augmentation or self.recipe.augmentation
        parts = frozen_parts(network) if self._how.none else {}
        if self._memo is None or self._memo.parts != parts:
            self._memo = Memo(parts) if self._spares(parts) else None
            self._checked = False

    def _spares(self, parts: Mapping[str, Sequence[str]]) -> bool:
        """Whether each node that takes pictures has frozen parts: else pictures are needed in any case."""
        layout = Layout(self._viewer.manifest)
        looks = {node for (node, _), item in layout.inputs.items() if item.source == "source"} & layout.live
        return bool(looks) and looks <= set(parts)

    def forget(self) -> None:
        """The network has other weights now."""
        if self._memo is not None:
            self._memo = Memo(self._memo.parts)

    def settle(self) -> None:
        """Parts were fitted: what frozen parts give is forgotten where it hangs on them."""
        known = self._memo
        if known is None:
            return
        self._memo = Memo(known.parts)
        self._learn_one(every_call(0, self.clip(0)))
        if self._memo is not None and self._memo.agrees(known):
            self._memo = known

    @property
    def store(self) -> ClipStore:
        """Clips as the phase at hand wants them."""
        plain = self._how.none
        if plain not in self._stores:
            if plain:
                eye, how = Eye(self._viewer), "as run"
            else:
                # Half as large again as the tensor, so that a region of half the area still has a pixel for its own.
                sides = [max(input_size(contract)) for contract in Eye(self._viewer).layout.contracts.values()]
                side = 3 * max(sides, default=1) // 2
                eye, how = Eye(self._viewer, _Reduced(side), shared=True), f"rgb {side}"
            self._stores[plain] = ClipStore(eye, self._folder, how)
        return self._stores[plain]

    def clip(self, record: int) -> Clip:
        """A training record's clip."""
        one = self.material.records[record]
        return self.store.open(one, self._caller_of(one))

    def whole(self, numbers: Sequence[int]) -> Generator[tuple[list[Seen], Table, dict[str, Tensor]], None, None]:
        """Records with all their calls and the outputs of these, group by group, without augmentation and in the
        network's present state, evaluation mode."""
        found = ahead_of(numbers, lambda number: every_call(number, self.clip(number)))
        with evaluating(self._network):
            for group in groups(found):
                for one in group:
                    self._learn_one(one)
                table = self._table(group)
                yield group, table, run(self._network, table, self._plain(group), self._memo)

    def _plain(self, seen: Sequence[Seen]) -> Maker:
        return as_run(seen) if self._how.none else as_fitted(seen)

    def epoch(self, number: int, first_step: int = 0, *, whole: bool = False) -> Iterator[tuple[int, Sample]]:
        """See :class:`Batches`. A whole set's pictures would not fit into memory: what frozen parts make of them is
        computed before, record by record."""
        if whole and self._memo is not None:
            chosen = self.order(number)[self._part[0] :: self._part[1]]
            seeds = _seeds([self.seed, number, 0, self._part[0]], len(chosen))
            for one in ahead_of(range(len(chosen)), lambda place: self._seen(int(chosen[place]), seeds[place])):
                self._learn([one])
        yield from super().epoch(number, first_step, whole=whole)

    def _prepare(self, chosen: NDArray[np.intp], seed: Sequence[int]) -> _Chosen:
        seeds = _seeds(seed, len(chosen))
        seen = [self._seen(int(record), one) for record, one in zip(chosen, seeds, strict=True)]
        prepared = _Chosen(chosen, seen, list(seed))
        return prepared if self._memo is not None else replace(prepared, sample=self._made(prepared, None))

    def _seen(self, record: int, seed: int) -> Seen:
        rng = np.random.default_rng(seed)
        clip = self._light.get(record) or self.clip(record)
        one = Seen(record, clip, {name: [call] for name, call in clip.viewing.choose(self._targets, rng).items()})
        if clip.pictures or self._knows(self._table([one])):
            return one
        return Seen(record, self.clip(record), one.wanted)

    def _table(self, seen: Sequence[Seen]) -> Table:
        return Table(self.store.eye.layout, self._sources, seen)

    def _knows(self, table: Table) -> bool:
        """Whether no picture is needed: no node takes any, or what its parts make of them is known."""
        memo = self._memo
        return all(
            not rows.pictures or (memo is not None and memo.knows(node, rows.keys))
            for node, rows in table.nodes.items()
        )

    def _sample(self, prepared: _Chosen) -> Sample:
        if prepared.sample is not None:
            return prepared.sample
        return self._made(prepared, self._memo if self._learn(prepared.seen) else None)

    def _made(self, prepared: _Chosen, memo: Memo | None) -> Sample:
        table = self._table(prepared.seen)
        make = self._augmented(prepared)
        feeds = {}
        for node in table.order():
            known = memo is not None and memo.knows(node, table.nodes[node].keys)
            feeds[node] = table.feed(node, None if known else make)
        rows = {source: torch.tensor([r[0] for r in table.rows[target]]) for target, source in self._sources.items()}
        keys = {node: table.nodes[node].keys for node in feeds}
        extra = {name: torch.from_numpy(values[prepared.records]) for name, values in self.material.extra.items()}
        targets = torch.from_numpy(self.material.targets[prepared.records])
        return Sample(Calls(feeds, rows, keys, memo), targets, extra)

    def _learn(self, seen: list[Seen]) -> bool:
        """Make the memo know these records, each alone; whether it knows all of them. Where not, all have pictures."""
        for number, one in enumerate(seen):
            if self._learn_one(one):
                self._light.put(one.record, light(one.clip))
                seen[number] = Seen(one.record, light(one.clip), one.wanted)
        if self._memo is not None and self._knows(self._table(seen)):
            return True
        for number, one in enumerate(seen):
            if not one.clip.pictures and any(rows.pictures for rows in self._table([one]).nodes.values()):
                seen[number] = Seen(one.record, self.clip(one.record), one.wanted)
        return False

    def _learn_one(self, one: Seen) -> bool:
        """Make the memo know one record's calls, where there is a memo; whether it does."""
        table = self._table([one])
        if self._memo is None or self._knows(table):
            return self._memo is not None
        clip = one.clip if one.clip.pictures else self.clip(one.record)
        with evaluating(self._network):
            # Row by row: what is kept must not depend on what was asked for together.
            found = run(self._network, table, as_run([Seen(one.record, clip, one.wanted)]), self._memo, most=1)
            if not self._checked:
                self._checked = True
                blank = run(self._network, table, _nothing, self._memo, most=1) if self._knows(table) else {}
                # Pictures must reach the scores through frozen parts alone; where not, nothing is kept.
                if not all(s in blank and torch.allclose(found[s], blank[s], atol=1e-5) for s in self._scores(table)):
                    self._memo = None
        if self._memo is not None and not self._spares(self._memo.parts):
            self._memo = None
        return self._memo is not None and self._knows(table)

    def _scores(self, table: Table) -> list[str]:
        return [source for source in self._sources.values() if source.partition(".")[0] in table.nodes]

    def _augmented(self, prepared: _Chosen) -> Maker:
        if self._how.none:
            return as_run(prepared.seen)
        seeds = [[*prepared.seed, sample] for sample in range(len(prepared.seen))]

        def make(contract: Preprocess, wanted: Sequence[tuple[int, int]]) -> Tensor:
            key = picture_key(contract)
            tensors = []
            for sample, places in itertools.groupby(wanted, lambda place: place[0]):
                kept = prepared.seen[sample].clip.pictures
                # The same seed for every picture of a record: one region, one mirroring, one change of colour.
                seed = seeds[sample]
                cut = [region(kept[key, at], contract, self._how, np.random.default_rng(seed)) for _, at in places]
                color = np.random.default_rng([*seed, 1])
                flat = msgspec.structs.replace(contract, layout="nchw")
                tensors.append(colored(np.stack(cut), flat, self._how, color, alike=True))
            return torch.cat(tensors)

        return make


def _bytes(item: NodeInput) -> int:
    """Of one value of a picture input, as a tensor."""
    contract = item.preprocess
    if contract is None or (contract.crop.size is None and contract.resize.rule != "exact"):
        return 0
    height, width = input_size(contract)
    return 4 * item.last * contract.channels * height * width


class _Reduced:
    """RGB with the short side reduced, for a region to be cut out of it."""

    def __init__(self, short_side: int) -> None:
        self._short_side = short_side

    def __call__(self, frame: Frame, contract: Preprocess) -> Picture:
        return reduced(to_rgb(frame), self._short_side)


def _seeds(seed: Sequence[int], count: int) -> list[int]:
    """A seed for each record of a batch."""
    return np.random.default_rng(seed).integers(1 << 62, size=count).tolist()


def _nothing(contract: Preprocess, wanted: Sequence[tuple[int, int]]) -> Tensor:
    raise AssertionError("no picture is needed where all frozen parts are known")


class SystemValidationFeed:
    """Records with everything that the targets' published sampling asks for, as at run time; the score of a video is
    the ``video_score`` of ``memedge run``.

    Args:
        limit_bytes: of pictures kept in memory.

    Attributes:
        targets: float64 ``[N, T]``, nan where a record has no such score.
    """

    def __init__(
        self,
        network: System,
        records: Sequence[Record],
        limit_bytes: int = 2 << 30,
        caller_of: CallerOf = no_caller,
        folder: Path | None = None,
    ) -> None:
        self.records = records
        self.targets = values_of(records, network.targets)
        self.store = ClipStore(Eye(Viewer(network)), folder, "as run", limit_bytes)
        self._caller_of = caller_of
        self._memo: Memo | None = None
        self._sources = sources(network)
        self._light: Recent[int, Clip] = Recent(_LIGHT_BYTES, lambda clip: clip.nbytes)

    def begin(self, network: System, phase: Phase) -> None:
        """A phase begins: what its frozen parts give is kept. The network is in the phase's modes."""
        parts = frozen_parts(network)
        if self._memo is None or self._memo.parts != parts:
            self._memo = Memo(parts) if parts else None

    def forget(self) -> None:
        """Parts were fitted: what is behind them gives something else now."""
        if self._memo is not None:
            self._memo = Memo(self._memo.parts)

    def predict(self, network: System, progress: Progress | None = None) -> NDArray[np.float64]:
        """The network's scores, 0..1, float64 ``[N, T]``; leaves the network in evaluation mode.

        Raises:
            SourceError: a record cannot be read, or gives no score.
        """
        found = np.zeros((len(self.records), len(network.targets)))
        for group, table, outputs in self.whole(network):
            for sample, one in enumerate(group):
                found[one.record] = scores_of(network, one, table, sample, outputs)
                if not np.isfinite(found[one.record]).all():
                    path = self.records[one.record].path
                    raise SourceError(f"{path}: no score; expected a video of the system's least length")
            if progress is not None:
                progress.advance(len(group))
        return found

    def whole(self, network: System) -> Iterator[tuple[list[Seen], Table, dict[str, Tensor]]]:
        """Records with all their calls and the outputs of these, group by group."""
        network.eval()
        for group in groups(ahead_of(range(len(self.records)), self._seen)):
            table = Table(self.store.eye.layout, self._sources, group)
            yield group, table, run(network, table, as_run(group), self._memo)
            for one in group:
                if self._memo is not None and self._recalls(one):
                    self._light.put(one.record, light(one.clip))

    def _recalls(self, one: Seen) -> bool:
        """Whether no picture of a record is needed again."""
        memo, table = self._memo, Table(self.store.eye.layout, self._sources, [one])
        return all(
            not rows.pictures or (memo is not None and memo.knows(node, rows.keys))
            for node, rows in table.nodes.items()
        )

    def _seen(self, number: int) -> Seen:
        clip = self._light.get(number)
        record = self.records[number]
        if clip is not None and self._recalls(every_call(number, clip)):
            return every_call(number, clip)
        return every_call(number, self.store.open(record, self._caller_of(record)))


def ahead_of(numbers: Sequence[int], make: Callable[[int], Seen]) -> Iterator[Seen]:
    """``make`` of each number in order, a few made ahead by threads."""
    ahead = min(os.cpu_count() or 1, _MOST_THREADS)
    with ThreadPoolExecutor(ahead, "memedge-clips") as pool:
        waiting: deque[Future[Seen]] = deque()
        for number in numbers:
            waiting.append(pool.submit(make, number))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
