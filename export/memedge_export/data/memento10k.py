"""Memento10k as released (Newman et al., ECCV 2020): ``memento_{train,val,test}_data.json`` and ``videos/``.

MediaEval 2023 calls the validation file ``memento_dev_data.json``. Test records have no score in some releases, and the
file may be missing. A name stands in three spellings: ``action/name.mp4`` with plus signs (as in the addresses),
``action_name.mp4`` with hyphens, and either with ``.npy`` where somebody turned clips into arrays: records and files
are matched by one normalised stem, so both layouts of ``videos/`` are read.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import msgspec

from memedge.errors import UsageError
from memedge.sources import VIDEO_SUFFIXES

from ..errors import DataError
from .records import SPLITS, DataSet, Record
from .table import tell_left_out

TITLE = (
    "Memento10k, 10,000 videos of 3 s with human memorability scores (A. Newman, C. Fosco, V. Casser, A. Lee,"
    " B. McNamara, A. Oliva: Multimodal Memorability, ECCV 2020)"
)
LICENCE = "Memento10k: on request from its authors, for research; may not be passed on"
_FILES = {"train": ("train",), "val": ("val", "dev"), "test": ("test",)}


class _Entry(msgspec.Struct):
    filename: str
    mem_score: float | None = None
    alpha: float | None = None
    captions: list[str] = []
    action_labels: list[str] = []
    audio_description: str | None = None


def stem(name: str) -> str:
    """What the three spellings of one video have in common: ``action_name``, hyphens for plus signs, no suffix.

    Only the action's plus signs become hyphens: a name may hold its own.
    """
    text = name.strip().replace("\\", "/").removeprefix("./")
    head, dot, suffix = text.rpartition(".")
    if dot and suffix.lower() in ("mp4", "npy", "webm"):
        text = head
    folders, slash, rest = text.rpartition("/")
    action, _, own = (folders.rpartition("/")[2], slash, rest) if slash else text.partition("_")
    return f"{action.replace('+', '-')}_{own}"


def read(root: Path, option: str = "", splits: tuple[str, ...] = SPLITS) -> DataSet:
    """``memento10k:DIR``.

    Raises:
        UsageError: an option; there are none.
        DataError: a file or ``videos/`` is missing, a record has another form, or no record has a score.
    """
    if option:
        raise UsageError(f"memento10k:DIR#{option}; there is nothing to choose")
    videos = root / "videos"
    if not videos.is_dir():
        raise DataError(f"memento10k: there is no folder '{videos}'; expected the clips action_name.mp4 in it")
    index = _index(videos)
    records: list[Record] = []
    unscored: list[Record] = []
    seen: dict[str, str] = {}
    for split in (name for name in SPLITS if name in splits):
        path = _file(root, split)
        if path is None:
            continue
        before = len(unscored)
        for number, entry in enumerate(_entries(path), start=1):
            key = stem(entry.filename)
            if key in seen:
                raise DataError(f"'{path}' record {number}: {entry.filename} is in {seen[key]}, too; expected it once")
            seen[key] = path.name
            record = _record(entry, key, index.get(key, videos / f"{key}.mp4"), split)
            if entry.mem_score is None:
                unscored.append(record)
                continue
            if not 0 <= entry.mem_score <= 1:
                raise DataError(f"'{path}' record {number}: mem_score {entry.mem_score:g}; expected 0..1")
            records.append(record)
        tell_left_out(path, len(unscored) - before, "records without a score")
    if not records:
        raise DataError(f"memento10k: no record below '{root}' has a mem_score; expected some")
    return DataSet(
        "memento10k",
        tuple(records),
        TITLE,
        LICENCE,
        unit="video",
        sampling="S7",
        kind="hit rate corrected to a delay of about 80 videos; alpha: decay a video between",
        unscored=tuple(unscored),
    )


def _record(entry: _Entry, key: str, path: Path, split: str) -> Record:
    score = math.nan if entry.mem_score is None else float(entry.mem_score)
    labels = {
        "caption": tuple(entry.captions),
        "action": tuple(label.replace("+", " ") for label in entry.action_labels),
        "audio": (entry.audio_description,) if entry.audio_description else (),
    }
    extra = {} if entry.alpha is None else {"alpha": entry.alpha}
    kept = {name: words for name, words in labels.items() if words}
    targets = {} if entry.mem_score is None else {"short_term": score}
    return Record(key, path, score, split, targets, extra=extra, labels=kept)


def _file(root: Path, split: str) -> Path | None:
    """The split's file; none where the test part was not handed out."""
    paths = [root / f"memento_{name}_data.json" for name in _FILES[split]]
    found = next((path for path in paths if path.is_file()), None)
    if found is None and split != "test":
        names = " or ".join(path.name for path in paths)
        raise DataError(f"memento10k: '{root}' has no {names}; expected it there, beside videos/")
    return found


def _entries(path: Path) -> list[_Entry]:
    try:
        return msgspec.json.decode(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), type=list[_Entry])
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(
            f"'{path}' cannot be read: {error}; expected a list of records with filename and mem_score"
        ) from None


def _index(videos: Path) -> dict[str, Path]:
    """Normalised stem to file, of the folder and the folders of actions in it."""
    found: dict[str, Path] = {}
    for folder, _, names in os.walk(videos):
        for name in sorted(names):
            file = Path(folder) / name
            if file.suffix.lower() in VIDEO_SUFFIXES:
                found[stem(file.relative_to(videos).as_posix())] = file
    return found
