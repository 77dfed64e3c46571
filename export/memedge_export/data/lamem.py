"""LaMem as released (Khosla et al., ICCV 2015): ``splits/{train,val,test}_{1..5}.txt`` and ``images/``.

A line is a file name, a blank and a score. Train, validation and test lists of one number belong together; across
numbers they overlap and the same picture has another score, so one number is read and no other.
"""

from __future__ import annotations

import math
from pathlib import Path

from ..errors import DataError
from .records import SPLITS, DataSet, Record

TITLE = (
    "LaMem, 58,741 photographs with human memorability scores (A. Khosla, A. Raju, A. Torralba, A. Oliva: Understanding"
    " and Predicting Image Memorability at a Large Scale, ICCV 2015)"
)
LICENCE = "LaMem: offered for academic research and education only"


def read_lamem(root: Path, number: int = 1, splits: tuple[str, ...] = SPLITS) -> DataSet:
    """Records of one split number. Whether each picture is there is not looked up: there are tens of thousands.

    Args:
        root: folder with ``splits/`` and ``images/``.
        number: 1 to 5.
        splits: which lists to read.

    Raises:
        DataError: a list or ``images/`` is missing, or a line has another form; the file is named.
    """
    lists = {split: root / "splits" / f"{split}_{number}.txt" for split in splits}
    for path in lists.values():
        if not path.is_file():
            raise DataError(f"lamem: there is no '{path}'; expected splits/{path.name} and images/ below '{root}'")
    images = root / "images"
    if not images.is_dir():
        raise DataError(f"lamem: there is no folder '{images}'; expected the pictures 00000001.jpg ... in it")
    records: list[Record] = []
    seen: dict[str, str] = {}
    for split, path in lists.items():
        for record in _lines(path, images, split):
            if record.id in seen:
                raise DataError(f"'{path}' names {record.id}, which is in {seen[record.id]}, too; expected it once")
            seen[record.id] = path.name
            records.append(record)
    return DataSet("lamem", tuple(records), TITLE, LICENCE)


def _lines(path: Path, images: Path, split: str) -> list[Record]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"lamem: cannot read '{path}': {error}") from None
    records = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        score = _number(fields[1]) if len(fields) == 2 else math.nan
        if not 0 <= score <= 1:
            raise DataError(f"'{path}' line {number}: '{line[:60]}'; expected a file name and a score of 0..1")
        if Path(fields[0]).name != fields[0] or fields[0] == "..":
            raise DataError(f"'{path}' line {number}: file '{fields[0]}'; expected a plain name in '{images}'")
        records.append(Record(fields[0], images / fields[0], score, split))
    if not records:
        raise DataError(f"lamem: '{path}' is empty; expected lines such as '00000001.jpg 0.750000'")
    return records


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
