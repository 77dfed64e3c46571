"""VideoMem as released (Cohendet et al., ICCV 2019): ``dev-set/sources/videoN.webm`` and
``dev-set/ground-truth/ground-truth_dev-set.csv``.

The table starts with a byte order mark and ends its lines with CR LF. Its videos have no public split: one is made by a
hash of the name. The scores of the test set are not released.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from memedge.console import status

from ..errors import DataError
from .records import DataSet, Record, hashed_split, score_of

TITLE = (
    "VideoMem, 10,000 videos of 7 s with human memorability scores (R. Cohendet, C.-H. Demarty, N. Duong, M. Engilberge"
    ": VideoMem, ICCV 2019), short-term scores of the development set"
)
LICENCE = "VideoMem: research under a signed agreement; neither videos nor scores may be passed on"
TABLE = Path("ground-truth") / "ground-truth_dev-set.csv"
SHORT = "short-term_memorability"
LONG = "long-term_memorability"
_NAME = re.compile(r"(?:video)?(\d{1,9})(?:\.webm)?", re.IGNORECASE)


def read_videomem(root: Path, column: str = SHORT) -> DataSet:
    """Records of the development set; ``path`` is a video. Whether each video is there is not looked up.

    Args:
        root: the folder that holds ``dev-set``, or ``dev-set`` itself.
        column: which score.

    Raises:
        DataError: the table or the folder of videos is missing, or a row has another form; the file is named.
    """
    base = root if (root / TABLE).is_file() or (root / "sources").is_dir() else root / "dev-set"
    table, sources = base / TABLE, base / "sources"
    if not table.is_file():
        raise DataError(f"videomem: there is no '{table}'; expected dev-set/{TABLE.as_posix()} below '{root}'")
    if not sources.is_dir():
        raise DataError(f"videomem: there is no folder '{sources}'; expected the videos video1.webm ... in it")
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            rows = [{(k or "").strip(): (v or "").strip() for k, v in row.items() if k} for row in reader]
            columns = [name.strip() for name in reader.fieldnames or []]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"videomem: cannot read '{table}': {error}") from None
    absent = [name for name in ("video", column) if name not in columns]
    if absent:
        raise DataError(f"'{table}' lacks the column {', '.join(absent)}; found {', '.join(columns) or 'none'}")
    scores: dict[str, float] = {}
    unscored = 0
    for line, row in enumerate(rows, start=2):
        match = _NAME.fullmatch(row["video"])
        if match is None:
            raise DataError(f"'{table}' line {line}: video '{row['video']}'; expected a name such as video7494.webm")
        name = f"video{int(match.group(1))}.webm"
        if name in scores:
            raise DataError(f"'{table}' line {line}: {name} for the second time; expected each video once")
        score = score_of(row[column], table, line)
        if score is None:
            unscored += 1
        else:
            scores[name] = score
    if not scores:
        raise DataError(f"'{table}' holds no scored videos")
    if unscored:
        status(f"{table}: {unscored} rows without a score were left out")
    split = hashed_split(scores)
    return DataSet(
        "videomem",
        tuple(Record(name, sources / name, score, split[name]) for name, score in scores.items()),
        TITLE,
        LICENCE,
    )
