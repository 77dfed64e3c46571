"""SUN memorability (Isola et al., CVPR 2011), as released or rewritten in LaMem's form for AMNet.

Released: MATLAB files in ``Data``: ``Experiment data/sorted_target_data.mat`` (hits, misses, false alarms, correct
rejections), ``Random splits/image_{train,test}_indices.mat`` (25 divisions, counted from 1, only pictures that 20
people or more saw) and ``subject_hrs{1,2}.mat``, ``Image data/target_images.mat``. Only the first 2,222 of the 2,400
targets count, the rest are textures. The pictures lie in one matrix: ``memedge data unpack sun:DIR`` writes them as PNG
files, losslessly, into ``Image data/targets``.

Rewritten: ``images/``, ``splits/train_1.txt`` to ``test_25.txt``.

``#1`` to ``#25`` chooses the division. Neither form has a validation part: a tenth of train, by a hash, is held out.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from memedge.console import progress

from ..errors import DataError
from .lists import division, read_lists
from .matlab import read_halves, read_matrix, read_variable
from .records import SPLITS, DataSet, Record, hashed, hashed_split

TITLE = (
    "SUN memorability, 2,222 photographs of scenes with human memorability scores (P. Isola, J. Xiao, A. Torralba,"
    " A. Oliva: What makes an image memorable?, CVPR 2011)"
)
LICENCE = "SUN memorability: public, no licence is stated by its authors"
TARGETS = 2222
DIVISIONS = 25
_VAL_SHARE = 0.1
_PICTURES = Path("Image data") / "targets"


def read(root: Path, option: str = "", splits: tuple[str, ...] = SPLITS) -> DataSet:
    """``sun:DIR`` or ``sun:DIR#7``; targets ``short_term`` (hit rate) and ``corrected`` (less the false-alarm rate).

    Raises:
        UsageError: another division.
        DataError: neither form lies there, or it is incomplete; the file that was expected is named.
    """
    number = division(option, DIVISIONS, "sun")
    name = "sun" if number == 1 else f"sun#{number}"
    base = _base(root)
    if base is None and (root / "splits").is_dir():
        lists = {split: root / "splits" / f"{split}_{number}.txt" for split in ("train", "test")}
        records = [_held_out(record) for record in read_lists("sun", root / "images", lists)]
        return DataSet(name, tuple(records), TITLE, LICENCE, kind="hit rate")
    if base is None:
        raise DataError(
            f"sun: '{root}' has neither 'Data/Experiment data/sorted_target_data.mat' (the release) nor splits/"
            " (rewritten in LaMem's form); expected one of them"
        )
    return _released(base, number, name)


def unpack(root: Path) -> int:
    """Write the targets of the release as PNG files beside their matrix; how many.

    Raises:
        DataError: the matrix is not there or has another form, or the folder cannot be written.
    """
    from PIL import Image

    base = _base(root)
    if base is None:
        raise DataError(f"sun: '{root}' has no 'Data/Image data/target_images.mat'; expected the release there")
    pictures = np.asarray(read_variable(base / "Image data" / "target_images.mat", "img"))
    if pictures.ndim != 4 or pictures.shape[2] != 3 or pictures.dtype != np.uint8:
        raise DataError(f"sun: img is {pictures.dtype} {list(pictures.shape)}; expected uint8 [256, 256, 3, 2400]")
    count = min(pictures.shape[3], TARGETS)
    try:
        (base / _PICTURES).mkdir(exist_ok=True)
        with progress("unpacking", count) as bar:
            for index in range(count):
                Image.fromarray(np.ascontiguousarray(pictures[..., index])).save(base / _PICTURES / _file(index))
                bar.advance()
    except OSError as error:
        raise DataError(f"sun: cannot write '{base / _PICTURES}': {error.strerror or error}") from None
    return count


def _base(root: Path) -> Path | None:
    """The folder that holds ``Experiment data``, if the release lies there."""
    return next((base for base in (root / "Data", root) if (base / "Experiment data").is_dir()), None)


def _file(index: int) -> str:
    return f"target_{index + 1:04d}.png"


def _held_out(record: Record) -> Record:
    """A tenth of train becomes val."""
    return replace(record, split="val") if record.split == "train" and hashed(record.id) < _VAL_SHARE else record


def _released(base: Path, number: int, name: str) -> DataSet:
    path = base / "Experiment data" / "sorted_target_data.mat"
    entries = list(np.atleast_1d(read_variable(path, "sorted_target_data")))[:TARGETS]
    folder = base / _PICTURES
    if not folder.is_dir():
        raise DataError(
            f"sun: there is no folder '{folder}'; expected the pictures of target_images.mat in it",
            fix="memedge data unpack sun:DIR",
        )
    split = _split(base / "Random splits", number, len(entries))
    records = [_record(entry, index, folder, split, path) for index, entry in enumerate(entries)]
    chosen = [index for index, record in enumerate(records) if record.split]
    halves = None
    if (base / "Random splits" / "subject_hrs1.mat").is_file():
        halves = read_halves(base / "Random splits", len(records))[:, :, chosen]
    return DataSet(
        name,
        tuple(_held_out(records[index]) for index in chosen),
        TITLE,
        LICENCE,
        targets=("short_term", "corrected"),
        kind="short_term: hit rate; corrected: hit rate less the false-alarm rate",
        halves=halves,
    )


def _record(entry: Any, index: int, folder: Path, split: dict[int, str], path: Path) -> Record:
    place = f"'{path}' entry {index + 1}"
    try:
        hits, misses, alarms, rejections = (
            float(entry[key]) for key in ("hits", "misses", "false_alarms", "correct_rejections")
        )
    except (KeyError, TypeError, ValueError, IndexError):
        raise DataError(
            f"{place}: expected a struct with the counts hits, misses, false_alarms, correct_rejections"
        ) from None
    if not hits + misses > 0 or min(hits, misses, alarms, rejections) < 0:
        raise DataError(f"{place}: {hits:g} hits, {misses:g} misses; expected counts, at least one person")
    score = hits / (hits + misses)
    targets, extra = {"short_term": score}, {}
    if alarms + rejections > 0:
        extra["false_alarms"] = alarms / (alarms + rejections)
        if score >= extra["false_alarms"]:
            targets["corrected"] = score - extra["false_alarms"]
    file = _file(index)
    people = {"short_term": int(hits + misses)}
    return Record(file, folder / file, score, split.get(index, ""), targets, people, extra)


def _split(folder: Path, number: int, count: int) -> dict[int, str]:
    """Index of a picture to its part; pictures in neither list are left out. By a hash where there are no lists."""
    paths = {split: folder / f"image_{split}_indices.mat" for split in ("train", "test")}
    if not any(path.is_file() for path in paths.values()):
        parts = hashed_split(_file(index) for index in range(count))
        return {index: parts[_file(index)] for index in range(count)}
    found: dict[int, str] = {}
    for split, path in paths.items():
        rows = read_matrix(path, path.stem)
        if number > len(rows):
            raise DataError(f"'{path}' has {len(rows)} divisions; expected at least {number}")
        for value in rows[number - 1]:
            index = int(value) - 1
            if index in found or not 0 <= index < count:
                what = "twice" if index in found else f"of {count}"
                raise DataError(f"'{path}' row {number}: picture {int(value)} {what}; expected 1 to {count}, each once")
            found[index] = split
    return found
