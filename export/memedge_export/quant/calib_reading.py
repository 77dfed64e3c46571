"""Reading the chosen frames: damaged ones are counted and replaced, equal ones are left out, empty ones are refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from memedge.console import status
from memedge.errors import MemedgeError
from memedge_engines.manifest import Preprocess
from memedge_engines.preprocess import Preprocessor, to_tensor

from ..errors import DataError
from ..system_clips import Fitted, Fitter
from .calib_clips import pictures_of, read_clips
from .calib_origins import Item, Picture

T = TypeVar("T")
Parts = Callable[[T], Sequence[Picture]]
"""The pictures that a thing consists of."""

LEAST_CALIBRATE = 32
"""Fewer calibration frames say nothing about the range of a tensor."""
LEAST_GATE = 8
"""Fewer gate frames have no meaningful rank correlation; 200 are wanted."""
DAMAGED_SHARE = 0.1
# A picture whose channels each stay within so many levels shows nothing.
_FLAT_LEVELS = 8


@dataclass(frozen=True)
class Loaded:
    """Frames in memory.

    Attributes:
        items: what they are.
        pictures: prepared pictures, uint8 ``[h, w, C]`` each.
        contract: the preprocess contract that prepared them.
        input_name: of the graph.
    """

    items: tuple[Item, ...]
    pictures: tuple[Picture, ...]
    contract: Preprocess
    input_name: str

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def human(self) -> NDArray[np.float64] | None:
        """Human score of each frame, float64 ``[N]``, or none where the source has no scores."""
        scores = [item.score for item in self.items]
        return None if any(score is None for score in scores) else np.array(scores, np.float64)

    def feeds(self) -> Iterator[dict[str, NDArray[np.float32]]]:
        """Inputs of the graph, one frame each, float32 ``[1, C, h, w]``."""
        for picture in self.pictures:
            yield {self.input_name: to_tensor([picture], self.contract)}


@dataclass
class Frames:
    """Frames of one purpose, read when they are asked for, the same ones each time.

    Attributes:
        what: ``calibration`` or ``gate``.
        items: the chosen ones, then reserves that replace what turns out to be damaged or equal to another.
        wanted: how many are used.
        least: fewer are an error.
        refused: hashes of pictures that may not be used (those of the other purpose).
        damaged: names of items that could not be read, with the reason; filled by reading.
        hashes: SHA-256 of each prepared picture that was used; filled by reading.
    """

    what: str
    items: Sequence[Item]
    wanted: int
    least: int
    refused: set[bytes] = field(default_factory=set, repr=False)
    damaged: dict[str, str] = field(default_factory=dict, repr=False)
    hashes: set[bytes] = field(default_factory=set, repr=False)

    def __len__(self) -> int:
        return self.wanted

    @property
    def key(self) -> str:
        """Hash over what was chosen, for :func:`memedge_export.quant.collect.state_path`."""
        text = "\n".join(f"{item.origin!r} {item.number}" for item in self.items)
        return hashlib.sha256(f"{self.wanted}\n{text}".encode()).hexdigest()

    def pictures(self, contract: Preprocess) -> Iterator[tuple[Item, Picture]]:
        """Item and prepared picture, uint8 ``[h, w, C]``, of the first ``wanted`` usable frames.

        Raises:
            DataError: more than a tenth is damaged, too few different pictures, or pictures of one colour.
            SourceError: a live source cannot be opened.
        """
        preprocessor = Preprocessor(contract)
        yield from self._usable(lambda items: items[0].origin.read(items, preprocessor), lambda picture: [picture])

    def clips(self, fitter: Fitter) -> Iterator[tuple[Item, Fitted]]:
        """Item and clip, as a system looks at it, of the first ``wanted`` usable frames; raises as :meth:`pictures`."""
        yield from self._usable(lambda items: read_clips(items, fitter), pictures_of)

    def _usable(
        self, read_group: Callable[[Sequence[Item]], Iterator[tuple[Item, T | MemedgeError]]], parts: Parts[T]
    ) -> Iterator[tuple[Item, T]]:
        """What is read of the items, group by group, unless it is damaged, of one colour or equal to another."""
        self.damaged.clear()
        self.hashes.clear()
        read = equal = flat = 0
        groups = (list(group) for _, group in groupby(self.items, key=lambda item: id(item.origin)))
        for item, found in (pair for group in groups for pair in read_group(group)):
            if isinstance(found, MemedgeError):
                self._add_damaged(item, found)
                continue
            pictures = parts(found)
            read, flat = read + 1, flat + all(_is_flat(picture) for picture in pictures)
            if flat == read >= self.least:
                break  # nothing else so far: the rest is not waited for
            digest = digest_of(pictures)
            if digest in self.hashes or digest in self.refused:
                equal += 1
                continue
            self.hashes.add(digest)
            yield item, found
            if len(self.hashes) == self.wanted:
                break
        self._check(read, equal, flat)

    def feeds(self, contract: Preprocess, input_name: str = "frames") -> Feeds:
        """The frames as inputs of a graph; may be iterated again and again."""
        return Feeds(self, contract, input_name)

    def load(self, contract: Preprocess, input_name: str = "frames") -> Loaded:
        """All frames in memory, as uint8 (150 KiB a frame of 224 x 224). Raises as :meth:`pictures`."""
        pairs = list(self.pictures(contract))
        return Loaded(tuple(i for i, _ in pairs), tuple(p for _, p in pairs), contract, input_name)

    def _add_damaged(self, item: Item, error: MemedgeError) -> None:
        self.damaged[item.name] = str(error)
        if len(self.damaged) > max(1, int(DAMAGED_SHARE * self.wanted)):
            first = next(iter(self.damaged.values()))
            raise DataError(
                f"{len(self.damaged)} of the {self.what} frames cannot be read, more than a tenth of {self.wanted};"
                f" first {next(iter(self.damaged))}: {first}",
                fix="mend or remove the damaged files",
            )

    def _check(self, read: int, equal: int, flat: int) -> None:
        count = len(self.hashes)
        if self.damaged:
            names = ", ".join(list(self.damaged)[:5]) + (", ..." if len(self.damaged) > 5 else "")
            status(f"{len(self.damaged)} damaged {self.what} frames were left out: {names}")
        if flat * 2 > read:
            raise DataError(
                f"{flat} of the first {read} {self.what} pictures are of one colour: they say nothing about the model;"
                " expected pictures such as it will see",
                fix=FIX,
            )
        if count < self.least:
            raise DataError(
                f"{count} different {self.what} pictures, {equal} more are equal to others;"
                f" expected at least {self.least}",
                fix=FIX,
            )
        if count < self.wanted:
            status(f"{count} different {self.what} frames instead of {self.wanted}")


FIX = "give --calib more pictures, or leave it out: generated pictures are used then"


@dataclass(frozen=True)
class Feeds:
    """Inputs of a graph, one frame each: ``{input: float32 [1, C, h, w]}``. May be iterated again."""

    frames: Frames
    contract: Preprocess
    input_name: str

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Mapping[str, NDArray[np.float32]]]:
        for _, picture in self.frames.pictures(self.contract):
            yield {self.input_name: to_tensor([picture], self.contract)}


def digest_of(pictures: Iterable[Picture]) -> bytes:
    """SHA-256 over the bytes of pictures."""
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(np.ascontiguousarray(picture).data)
    return digest.digest()


def _is_flat(picture: Picture) -> bool:
    spread = picture.reshape(-1, picture.shape[-1])
    return int((spread.max(axis=0) - spread.min(axis=0)).max()) <= _FLAT_LEVELS
