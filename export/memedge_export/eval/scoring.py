"""One pass over a part of a data set: each picture or video is read once and scored by every contender."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memedge.console import Progress, progress, status
from memedge.errors import EngineError, FrameError, PreprocessError, SourceError

from ..data.pictures import read_picture
from ..data.records import Record
from ..errors import DataError
from .contenders import Contender, Device, Network
from .networks import SystemNetwork
from .parts import Part
from .videos import by_bundles, by_networks

_SHOWN = 3


def score(part: Part, contenders: Sequence[Contender], *, skip_unreadable: bool = False) -> None:
    """Fill ``part.predicted`` and ``part.skipped``; shows progress.

    Args:
        skip_unreadable: leave out what cannot be read, and count it.

    Raises:
        DataError: a record cannot be read (its path is named), or none can.
        EngineError: a model gave no finite score; model and record are named.
    """
    chosen = [c for c in contenders if any(target in part.human for target in c.model.targets)]
    rows = {c.model.label: np.full((len(part.records), len(c.model.targets)), np.nan) for c in chosen}
    with progress(f"{part.name} {part.split}", len(part.records)) as bar:
        each = _videos if part.data.unit == "video" else _pictures
        each(part, chosen, rows, skip_unreadable, bar)
    if len(part.skipped) == len(part.records):
        raise DataError(f"no {part.data.unit} of '{part.name}' {part.split} can be read; first {part.skipped[0]}")
    for reason in list(part.skipped.values())[:_SHOWN]:
        status(f"left out: {reason}")
    if part.skipped:
        count = len(part.skipped)
        status(f"{part.name} {part.split}: {count} of {len(part.records)} could not be read and were left out")
    for contender in chosen:
        found = rows[contender.model.label]
        part.predicted[contender.model.label] = {
            target: found[:, number] for number, target in enumerate(contender.model.targets) if target in part.human
        }


def _pictures(
    part: Part, contenders: Sequence[Contender], rows: dict[str, NDArray[np.float64]], skip: bool, bar: Progress
) -> None:
    for number, record in enumerate(part.records):
        try:
            picture = read_picture(record.path)
            for contender in contenders:
                contender.add(number, picture, record)
        except (SourceError, FrameError, PreprocessError) as error:
            _skip(part, number, error, skip)
        except EngineError as error:
            raise _named(record, error) from None
        bar.advance()
    for contender in contenders:
        for number, row in contender.finish().items():
            rows[contender.model.label][number] = row
    for number in part.skipped:  # a picture that only one of them refused is left out for all
        for found in rows.values():
            found[number] = np.nan


def _videos(
    part: Part, contenders: Sequence[Contender], rows: dict[str, NDArray[np.float64]], skip: bool, bar: Progress
) -> None:
    networks = [c for c in contenders if isinstance(c, Network)]
    systems = [c for c in contenders if isinstance(c, SystemNetwork)]
    devices = {c.model.label: c for c in contenders if isinstance(c, Device)}
    for number, record in enumerate(part.records):
        try:
            if networks:
                found = by_networks(record.path, networks, part.sampling)
                for network, row in zip(networks, found, strict=True):
                    rows[network.model.label][number] = row
            for system in systems:
                rows[system.model.label][number] = system.video(record)
            if devices:
                caller = dict(pair for device in devices.values() for pair in device.caller(record).items())
                scorers = {label: device.scorer for label, device in devices.items()}
                scores = by_bundles(record.path, scorers, caller)
                for label, device in devices.items():
                    rows[label][number] = [scores[label][target] for target in device.model.targets]
        except (SourceError, FrameError, PreprocessError) as error:
            _skip(part, number, error, skip)
            for network in networks:
                network.finish()
            for row_of in rows.values():
                row_of[number] = np.nan
        except EngineError as error:
            raise _named(record, error) from None
        bar.advance()


def _skip(part: Part, number: int, error: Exception, allowed: bool) -> None:
    record = part.records[number]
    reason = f"{record.id}: {error}" if str(record.path) not in str(error) else str(error)
    if not allowed:
        raise DataError(f"{part.name}: {reason}", fix="--skip-unreadable leaves it out and counts it") from None
    part.skipped[number] = reason


def _named(record: Record, error: EngineError) -> EngineError:
    return EngineError(f"{record.path}: {error.message}", fix=error.fix)
