"""Data sets that lie on disk, by kind. A set is named ``KIND:PATH`` or ``KIND:PATH#OPTION``; nothing is fetched.

Training, evaluation and calibration all read through :func:`open_data`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from memedge.errors import UsageError

from . import folder, lamem, lnsim, memento10k, sun, videomem
from .files import Missing, kept, with_files
from .records import SPLITS, DataSet

PRETRAINING = "tiny32"


@dataclass(frozen=True)
class Kind:
    """One kind of data set.

    Attributes:
        form: how it is named on the command line.
        text: what it is, in one line.
    """

    form: str
    text: str
    read: Callable[[Path, str, tuple[str, ...]], DataSet] | None


KINDS: dict[str, Kind] = {
    "lamem": Kind("lamem:DIR[#1..5]", "photographs; splits/ and images/ as released, one of five splits", lamem.read),
    "videomem": Kind(
        "videomem:DIR[#test500,split=FILE.csv]", "videos of 7 s, short and long term; dev-set/", videomem.read
    ),
    "memento10k": Kind("memento10k:DIR", "videos of 3 s with decay; memento_train_data.json, videos/", memento10k.read),
    "sun": Kind("sun:DIR[#1..25]", "scenes; Data/ as released, or AMNet's images/ and splits/", sun.read),
    "lnsim": Kind("lnsim:DIR", "nature photographs; scores.csv and images/, or the release", lnsim.read),
    "folder": Kind("folder:FILE.csv", "your own pictures or videos; columns file,score[,split]", folder.read),
    PRETRAINING: Kind("tiny32:DIR", "labelled 32x32 pictures, for pretraining only; train.npz", None),
}
SCORED = tuple(name for name, kind in KINDS.items() if kind.read is not None)


@dataclass(frozen=True)
class Spec:
    """``KIND:PATH#OPTION`` taken apart; ``option`` is empty where there is none."""

    kind: str
    path: Path
    option: str = ""

    @property
    def short(self) -> str:
        """A name without folders, for folders of runs."""
        name = self.path.stem if self.kind == "folder" else self.kind
        return f"{name}-{Path(self.option).name.replace('=', '-')}" if self.option else name

    @property
    def portable(self) -> str:
        """For cards, which travel: folders are written as DIR, files by their names."""
        place = self.path.name if self.kind == "folder" else "DIR"
        return f"{self.kind}:{place}" + (f"#{self.option}" if self.option else "")


def parse(spec: str, flag: str = "--data") -> Spec:
    """The parts of ``KIND:PATH`` or ``KIND:PATH#OPTION``. A ``#`` that belongs to an existing path is no option.

    Raises:
        UsageError: another form, or an unknown kind; ``flag`` is what the message blames.
    """
    kind, colon, rest = spec.partition(":")
    if not colon or not rest:
        raise UsageError(f"{flag} '{spec}'; expected KIND:PATH, for example lnsim:DIR or folder:FILE.csv")
    if kind not in KINDS:
        near = difflib.get_close_matches(kind.lower(), KINDS, 1)
        hint = f"; did you mean '{near[0]}'?" if near else "."
        raise UsageError(f"{flag} '{spec}': no data set of kind '{kind}'{hint} There are {', '.join(KINDS)}")
    path, option = rest, ""
    if "#" in rest and not Path(rest).expanduser().exists():
        path, _, option = rest.partition("#")
    return Spec(kind, Path(path).expanduser(), option)


def open_data(spec: str, *, splits: tuple[str, ...] = SPLITS, missing: Missing = "refuse") -> DataSet:
    """The scored data set that ``spec`` names.

    Args:
        splits: only these are read; where the set keeps them in files of their own, the others need not be there.
        missing: what to do with records whose picture or video is not there.

    Raises:
        UsageError: see :func:`parse`; or the kind has no scores, or not this option.
        DataError: the set is missing, incomplete or malformed; the file that was expected is named.
    """
    found = parse(spec)
    read = KINDS[found.kind].read
    if read is None:
        raise UsageError(f"--data '{spec}' has labels, no scores: it can only pretrain")
    data = read(found.path, found.option, splits)
    if set(splits) != set(SPLITS):
        data = kept(data, [record.split in splits for record in data.records])
    return with_files(data, missing)
