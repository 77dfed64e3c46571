"""Features that MediaEval 2018 and 2019 handed out with VideoMem, read as they are: text, one file a video or a frame.

===================  =====  =======  ==========================================================================
folder               per    numbers  form
===================  =====  =======  ==========================================================================
C3D                  video  101      numbers with blanks, a trailing one
HMP                  video  6,075    ``bin:value`` pairs, bins from 1, missing ones are 0
LBP                  frame  122      numbers with blanks; fewer are filled up with zeros, ``label:value`` is placed
HOG                  frame  varies   numbers with blanks
InceptionV3          frame  1,000    ``class:activation`` pairs from 0, missing ones are 0
ColorHistogram       frame  3 x 256  a line a channel of ``bin:count`` pairs from 0
aesthetic            video  109      numbers with commas, as mean and as median over the frames
===================  =====  =======  ==========================================================================

Frames are 0, 56 and 112, whatever the readme calls them. ``ORB`` files are Python pickles, which can run programs: they
are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memedge.errors import UsageError

from ..errors import DataError
from .table import read_text
from .videomem import part_folder, video_name

FRAMES = (0, 56, 112)


@dataclass(frozen=True)
class _Form:
    folders: tuple[str, ...]
    length: int | None
    per_frame: bool = False
    first_bin: int = 0
    rows: int = 1


_FORMS = {
    "C3D": _Form(("C3D",), 101),
    "HMP": _Form(("HMP",), 6075, first_bin=1),
    "LBP": _Form(("LBP",), 122, per_frame=True),
    "HOG": _Form(("HOG",), None, per_frame=True),
    "InceptionV3": _Form(("InceptionV3",), 1000, per_frame=True),
    "ColorHistogram": _Form(("ColorHistogram",), 256, per_frame=True, rows=3),
    "aesthetic_mean": _Form(
        ("aesthetic_visual_features/aesthetic_feat_{}_mean", "Aesthetics/aesthetics_mean"), 109
    ),
    "aesthetic_median": _Form(
        ("aesthetic_visual_features/aesthetic_feat_{}_median", "Aesthetics/aesthetics_median"), 109
    ),
}  # fmt: skip
NAMES = tuple(_FORMS)


def read_feature(root: Path, name: str, video: str, part: str = "dev-set", frame: int = 0) -> NDArray[np.float32]:
    """One released feature: float32 ``[D]``, for ``ColorHistogram`` ``[3, 256]`` (red, green, blue as named there).

    Args:
        root: the folder that holds ``dev-set``.
        name: one of :data:`NAMES`.
        video: in any of the three spellings.
        part: ``dev-set`` or ``test-set``.
        frame: 0, 56 or 112; only for features of a frame.

    Raises:
        UsageError: no such feature, video or frame.
        DataError: ORB, which is refused; the file is not there, or has another form.
    """
    if name == "ORB":
        raise DataError(
            "videomem: ORB features are Python pickles, which can run programs when they are read; they are not read"
        )
    if name not in _FORMS:
        raise UsageError(f"no feature '{name}' of VideoMem; expected one of {', '.join(NAMES)}")
    form, known = _FORMS[name], video_name(video)
    if known is None or (form.per_frame and frame not in FRAMES):
        raise UsageError(
            f"videomem: feature {name} of '{video}', frame {frame}; expected a name such as video7494.webm and frame"
            f" {', '.join(map(str, FRAMES))}"
        )
    path = _path(part_folder(root, part) / "features", form, known.removesuffix(".webm"), part, frame)
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    if len(lines) != form.rows:
        raise DataError(f"'{path}' has {len(lines)} lines; expected {form.rows}")
    rows = [_dense(line, form, path) for line in lines]
    return np.stack(rows) if form.rows > 1 else rows[0]


def _path(base: Path, form: _Form, stem: str, part: str, frame: int) -> Path:
    file = f"{stem}-{frame}.txt" if form.per_frame else f"{stem}.txt"
    folders = [base / folder.format(part) for folder in form.folders]
    path = next((folder for folder in folders if folder.is_dir()), folders[0]) / file
    if not path.is_file():
        raise DataError(f"videomem: there is no '{path}'; expected the released feature files there")
    return path


def _dense(line: str, form: _Form, path: Path) -> NDArray[np.float32]:
    words = line.replace(",", " ").split()
    try:
        if ":" in line:
            pairs = [word.split(":") for word in words]
            bins = np.array([int(place) for place, _ in pairs]) - form.first_bin
            values = np.array([float(value) for _, value in pairs], np.float32)
        else:
            values = np.array([float(word) for word in words], np.float32)
            bins = np.arange(len(values))
    except ValueError:
        raise DataError(f"'{path}': '{line[:40]}...'; expected numbers, or pairs such as 7:0.25") from None
    if not np.isfinite(values).all():
        raise DataError(f"'{path}' holds a number that is not finite")
    if form.length is None:
        return values
    outside = bins[(bins < 0) | (bins >= form.length)]
    # Only LBP leaves out labels that do not occur; of the other lists each has its full length.
    short = ":" not in line and len(values) != form.length and form is not _FORMS["LBP"]
    if len(outside) or short:
        last = form.length + form.first_bin - 1
        found = f"bin {outside[0] + form.first_bin}" if len(outside) and ":" in line else f"{len(values)} numbers"
        raise DataError(f"'{path}': {found}; expected {form.length} numbers or bins {form.first_bin} to {last}")
    if len(np.unique(bins)) < len(bins):
        raise DataError(f"'{path}' names a bin twice; expected each at most once")
    dense = np.zeros(form.length, np.float32)
    dense[bins] = values
    return dense
