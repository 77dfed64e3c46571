"""Lists of LaMem's form: a file name, a blank, a score; one list for each split, one number for each division."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from memedge.errors import UsageError

from ..errors import DataError
from .records import Record
from .table import read_text


def division(option: str, most: int, kind: str) -> int:
    """The number after ``#``, 1 where there is none.

    Raises:
        UsageError: not a number of 1 to ``most``.
    """
    if not option:
        return 1
    if not option.isascii() or not option.isdigit() or not 1 <= int(option) <= most:
        raise UsageError(f"{kind}:DIR#{option}; expected one of its divisions, {kind}:DIR#1 to {kind}:DIR#{most}")
    return int(option)


def read_lists(kind: str, images: Path, lists: Mapping[str, Path]) -> list[Record]:
    """Records of several lists (split -> file) of one number.

    Raises:
        DataError: a list or the folder of pictures is missing, a line has another form, or a picture is named twice.
    """
    for path in lists.values():
        if not path.is_file():
            base = images.parent
            raise DataError(f"{kind}: there is no '{path}'; expected splits/{path.name} and images/ below '{base}'")
    if not images.is_dir():
        raise DataError(f"{kind}: there is no folder '{images}'; expected the pictures 00000001.jpg ... in it")
    records: list[Record] = []
    seen: dict[str, str] = {}
    for split, path in lists.items():
        for name, score in read_list(path, kind, images):
            if name in seen:
                raise DataError(f"'{path}' names {name}, which is in {seen[name]}, too; expected it once")
            seen[name] = path.name
            records.append(Record(name, images / name, score, split))
    return records


def read_list(path: Path, kind: str, images: Path) -> list[tuple[str, float]]:
    """(name, score) of one list.

    Raises:
        DataError: it cannot be read, is empty, or a line has another form.
    """
    found = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        score = _number(fields[1]) if len(fields) == 2 else math.nan
        if not 0 <= score <= 1:
            raise DataError(f"'{path}' line {number}: '{line[:60]}'; expected a file name and a score of 0..1")
        if Path(fields[0]).name != fields[0] or fields[0] == "..":
            raise DataError(f"'{path}' line {number}: file '{fields[0]}'; expected a plain name in '{images}'")
        found.append((fields[0], score))
    if not found:
        raise DataError(f"{kind}: '{path}' is empty; expected lines such as '00000001.jpg 0.750000'")
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
