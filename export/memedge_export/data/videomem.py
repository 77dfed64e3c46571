"""VideoMem as released (Cohendet et al., ICCV 2019) and as MediaEval handed it out in 2018 and 2019.

``dev-set/sources/videoN.webm``, ``dev-set/ground-truth/ground-truth_dev-set.csv``,
``dev-set/dev-set_video-captions.txt``, and the same below ``test-set/``. Course packages spell the folders
``Dev-set/Ground-truth/ground-truth.csv`` and name videos by their bare number.

The tables start with a byte order mark and end their lines with CR LF. The test set's scores were not part of the
release: where they are there, development is divided 6,500 to 1,500 and the test set is the test; where they are not,
development is divided by a hash of the name and the test set can be predicted only. Short and long scores correlate at
0.30 only: two targets.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

from memedge.errors import UsageError

from ..errors import DataError
from .files import kept
from .records import SPLITS, DataSet, Record, hashed, hashed_split, score_of
from .table import Table, read_table, read_text, tell_left_out

TITLE = (
    "VideoMem, 10,000 videos of 7 s with human memorability scores (R. Cohendet, C.-H. Demarty, N. Duong, M. Engilberge"
    ": VideoMem, ICCV 2019)"
)
LICENCE = "VideoMem: research under a signed agreement; neither videos nor scores may be passed on"
TARGETS = {"short_term": "short-term", "long_term": "long-term"}
TEST_SUBSET = 500
_TRAIN_SHARE = 6500 / 8000
_TABLES = ("ground-truth/ground-truth_{}.csv", "Ground-truth/ground-truth.csv", "ground-truth/ground-truth.csv")
_SOURCES = ("sources", "Sources")
_CAPTIONS = ("{}_video-captions.txt", "{}_videos-captions.txt", "Captions/{}_video-captions.txt")
_NAME = re.compile(r"(?:video)?(\d{1,9})(?:\.webm)?", re.IGNORECASE)


def video_name(text: str) -> str | None:
    """``video7.webm`` of ``video7.webm``, ``video7`` or ``7``; none for anything else."""
    match = _NAME.fullmatch(text.strip())
    return None if match is None else f"video{int(match.group(1))}.webm"


def part_folder(root: Path, part: str) -> Path:
    """Folder of ``dev-set`` or ``test-set`` below ``root``, or ``root`` itself where it is the part."""
    if part == "dev-set" and (_first(root, _TABLES, part) or _first(root, _SOURCES, part)):
        return root
    base = root.parent if root.name.lower() == "dev-set" else root
    return next((base / name for name in (part, part.capitalize()) if (base / name).is_dir()), base / part)


def read(root: Path, option: str = "", splits: tuple[str, ...] = SPLITS) -> DataSet:
    """``videomem:DIR``; options, joined by commas: ``test500``, ``split=FILE.csv``.

    Args:
        root: the folder that holds ``dev-set``, or ``dev-set`` itself.
        option: ``test500``: of the test part only the 500 videos with the most annotations; ``split=FILE.csv``: a
            division of one's own, columns video and split, relative to ``root``.
        splits: unused; the table is one.

    Raises:
        UsageError: an unknown option.
        DataError: the table or the folder of videos is missing, or a row has another form; the file is named.
    """
    subset, own = _options(option)
    dev = part_folder(root, "dev-set")
    records, unscored = _part(dev, "dev-set", root)
    if not records:
        raise DataError(f"'{_first(dev, _TABLES, 'dev-set')}' holds no scored videos")
    test_folder = part_folder(root, "test-set")
    released = _first(test_folder, _TABLES, "test-set") is not None
    test, to_predict = _part(test_folder, "test-set", root) if released else ([], _listed(test_folder))
    doubled = {record.id for record in records} & {record.id for record in test}
    if doubled:
        raise DataError(f"videomem: {sorted(doubled)[0]} is in the development and in the test table; expected it once")
    split = _split(records, test, None if own is None else root / own)
    divided = tuple(replace(r, split=split[r.id]) for r in (*records, *test) if r.id in split)
    scored = {record.id for record in (*records, *test)}
    without = {record.id: record for record in (*unscored, *to_predict) if record.id not in scored}
    targets = tuple(name for name in TARGETS if any(name in record.targets for record in divided))
    data = DataSet(
        "videomem",
        divided,
        TITLE,
        LICENCE,
        unit="video",
        targets=targets,
        sampling="S7",
        kind="short term: hit rate corrected for the delay; long term: hit rate after 24 to 72 hours",
        unscored=tuple(without.values()),
    )
    return most_annotated(data) if subset else data


def most_annotated(data: DataSet, count: int = TEST_SUBSET) -> DataSet:
    """The set with only those ``count`` test videos that have the most short-term annotations; equal ones by name."""
    test = [record for record in data.records if record.split == "test"]
    ranked = sorted(test, key=lambda record: (-record.responses.get("short_term", 0), record.id))
    chosen = {record.id for record in ranked[:count]}
    return kept(data, [record.split != "test" or record.id in chosen for record in data.records])


def _options(option: str) -> tuple[bool, str | None]:
    subset, own = False, None
    for word in filter(None, option.split(",")):
        if word == "test500":
            subset = True
        elif word.startswith("split="):
            own = word.removeprefix("split=")
        else:
            raise UsageError(f"videomem:DIR#{option}; expected test500 or split=FILE.csv, joined by a comma")
    return subset, own


def _split(dev: list[Record], test: list[Record], own: Path | None) -> dict[str, str]:
    if own is not None:
        return _own_split({record.id for record in (*dev, *test)}, own)
    if not test:
        return hashed_split(record.id for record in dev)
    ordered = sorted((record.id for record in dev), key=hashed)
    train = round(_TRAIN_SHARE * len(ordered))
    parts = {name: "train" if place < train else "val" for place, name in enumerate(ordered)}
    return parts | {record.id: "test" for record in test}


def _own_split(known: set[str], path: Path) -> dict[str, str]:
    if path.suffix.lower() in (".pkl", ".pickle", ".p"):
        raise DataError(f"videomem: '{path}' is a pickle, which can run programs and is never read", fix="write a CSV")
    if not path.is_file():
        raise DataError(f"videomem: there is no '{path}'; expected a CSV file with columns video,split")
    table = read_table(path, ("video", "split"))
    found: dict[str, str] = {}
    for index, row in enumerate(table.rows):
        name = _checked(row["video"], table, index)
        if row["split"] not in SPLITS:
            raise DataError(f"{table.place(index)}: split '{row['split']}'; expected {', '.join(SPLITS)}")
        if name in found or name not in known:
            what = "for the second time" if name in found else "which has no scores"
            raise DataError(f"{table.place(index)}: {name} {what}; expected each scored video at most once")
        found[name] = row["split"]
    return found


def _listed(base: Path) -> list[Record]:
    """The videos of a test set that came without a table; empty where there are none."""
    sources = _first(base, _SOURCES, "test-set")
    named = {video_name(path.name): path for path in sorted(sources.glob("*.webm"))} if sources else {}
    return [Record(name, path, math.nan, "test") for name, path in named.items() if name is not None]


def _part(base: Path, part: str, root: Path) -> tuple[list[Record], list[Record]]:
    """Records of one part with a short-term score, their split is set later, and those without any score."""
    path = _first(base, _TABLES, part)
    if path is None:
        first = _TABLES[0].format(part)
        raise DataError(f"videomem: there is no '{base / first}'; expected {part}/{first} below '{root}'")
    sources = _first(base, _SOURCES, part)
    if sources is None:
        raise DataError(
            f"videomem: there is no folder '{base / _SOURCES[0]}'; expected the videos video1.webm ... in it"
        )
    table = read_table(path, ("video", f"{TARGETS['short_term']}_memorability"))
    captions = _captions(base, part)
    found: dict[str, Record] = {}
    unscored: dict[str, Record] = {}
    left_out = 0
    for index, row in enumerate(table.rows):
        name = _checked(row["video"], table, index)
        if name in found or name in unscored:
            raise DataError(f"{table.place(index)}: {name} for the second time; expected each video once")
        scores = {t: score_of(row.get(f"{w}_memorability", ""), path, index + 2) for t, w in TARGETS.items()}
        targets = {target: score for target, score in scores.items() if score is not None}
        if "short_term" not in targets:
            left_out += 1
            if not targets:
                unscored[name] = Record(name, sources / name, math.nan, "test" if part == "test-set" else "train")
            continue
        labels = {"caption": (captions[name],)} if name in captions else {}
        found[name] = Record(
            name, sources / name, targets["short_term"], "", targets, _responses(row, table, index), labels=labels
        )
    tell_left_out(path, left_out)
    return list(found.values()), list(unscored.values())


def _responses(row: dict[str, str], table: Table, index: int) -> dict[str, int]:
    found = {}
    for target, word in TARGETS.items():
        text = row.get(f"nb_{word}_annotations", "")
        if text:
            try:
                found[target] = int(float(text))
            except (ValueError, OverflowError):
                raise DataError(f"{table.place(index)}: '{text}' annotations; expected a number") from None
    return found


def _captions(base: Path, part: str) -> dict[str, str]:
    """Titles by video, hyphens as blanks; empty where the file is not there."""
    path = _first(base, _CAPTIONS, part)
    found = {}
    for number, line in enumerate(read_text(path).splitlines() if path else (), start=1):
        text, tab, title = line.partition("\t")
        name = video_name(text)
        if not line.strip():
            continue
        if name is None or not tab:
            raise DataError(f"'{path}' line {number}: '{line[:60]}'; expected videoN.webm, a TAB and its title")
        found[name] = title.strip().replace("-", " ")
    return found


def _checked(text: str, table: Table, index: int) -> str:
    name = video_name(text)
    if name is None:
        raise DataError(f"{table.place(index)}: video '{text}'; expected a name such as video7494.webm")
    return name


def _first(base: Path, names: tuple[str, ...], part: str) -> Path | None:
    paths = (base / name.format(part) for name in names)
    return next((path for path in paths if path.exists()), None)
