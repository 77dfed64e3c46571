"""The files behind records: which are missing, and which are the same file twice."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from memedge.console import status

from ..errors import DataError
from .records import DataSet, Record

Missing = Literal["refuse", "drop", "keep"]
"""What to do with records whose file is not there: refuse the set, leave them out and say so, or keep them."""
_HEAD = 4096
_NAMED = 3


def absent(records: Iterable[Record]) -> list[Record]:
    """Records whose file is not there. Each folder is listed once: sets have tens of thousands of files."""
    listed: dict[Path, set[str]] = {}
    found = []
    for record in records:
        parent = record.path.parent
        if parent not in listed:
            listed[parent] = _names(parent)
        if record.path.name not in listed[parent]:
            found.append(record)
    return found


def _names(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except OSError:
        return set()


def with_files(data: DataSet, missing: Missing) -> DataSet:
    """The set after its missing files were dealt with.

    Raises:
        DataError: files are missing and ``refuse``, or all of them are; count and first names are given.
    """
    gone = [] if missing == "keep" else absent(data.records)
    if not gone:
        return data
    text = f"{data.name}: {len(gone)} of {len(data.records)} {data.unit}s are not there, first {first_names(gone)}"
    if len(gone) == len(data.records):
        raise DataError(f"{text}; expected them where the data set keeps its files")
    if missing == "refuse":
        raise DataError(text, fix="--allow-missing leaves them out")
    status(f"{text}; they were left out")
    names = {record.id for record in gone}
    return kept(data, [record.id not in names for record in data.records])


def kept(data: DataSet, chosen: Sequence[bool]) -> DataSet:
    """The chosen records, with their columns of the halves."""
    records = tuple(record for record, keep in zip(data.records, chosen, strict=True) if keep)
    halves = None if data.halves is None else data.halves[:, :, list(chosen)]
    return replace(data, records=records, halves=halves)


def first_names(records: Sequence[Record]) -> str:
    """The first few paths, for messages."""
    shown = ", ".join(f"'{record.path}'" for record in records[:_NAMED])
    return shown + (", ..." if len(records) > _NAMED else "")


def duplicates(paths: Sequence[Path]) -> list[list[int]]:
    """Groups of indexes whose files hold the same bytes, in order; files that are not there are nobody's duplicate.

    Sizes are compared first, then beginnings, then whole files: most files are never read.
    """
    groups: dict[object, list[int]] = defaultdict(list)
    for index, path in enumerate(paths):
        try:
            groups[path.stat().st_size].append(index)
        except OSError:
            continue
    candidates = [group for group in groups.values() if len(group) > 1]
    for limit in (_HEAD, None):
        split: list[list[int]] = []
        for group in candidates:
            parts: dict[bytes, list[int]] = defaultdict(list)
            for index in group:
                parts[_digest(paths[index], limit)].append(index)
            split += [part for part in parts.values() if len(part) > 1]
        candidates = split
    return sorted(candidates)


def _digest(path: Path, limit: int | None) -> bytes:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            if limit is not None:
                digest.update(file.read(limit))
            else:
                while block := file.read(1 << 20):
                    digest.update(block)
    except OSError as error:
        raise DataError(f"cannot read '{path}': {error.strerror or error}") from None
    return digest.digest()
