"""Which frames calibrate and which ones the fidelity gate measures on, from what ``--calib`` names.

- ``lnsim:DIR``, ``lamem:DIR``, ``videomem:DIR`` and every other data set with human scores that ``memedge data``
  lists; calibration takes from the training part, the gate from what is held out (val; of videos all but train).
- a folder: of pictures, searched with its sub-folders, or of videos; a video file; a glob.
- ``camera0``, ``rtsp://...`` and every other source of ``memedge run``: recorded, two frames a second.
- nothing: the environment variable ``MEMEDGE_CALIB`` (one of the above), else the folder ``./calib``, else 712 pictures
  of the project's own generator, recorded as ``synthetic``.

Frames are spread over the score range where scores are known, else over names, videos and time; two frames of one video
are never next to each other; what calibrates and what is held out never come from one video, or from one stretch of it
where there is one video only. The same seed gives the same frames.
"""

from __future__ import annotations

import difflib
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from memedge.console import status
from memedge.errors import MemedgeError, UsageError
from memedge.sources import PICTURE_SUFFIXES, VIDEO_SUFFIXES, expand, label
from memedge.sources.names import camera_name, is_picture, scheme

from ..data.readers import SCORED, open_data
from ..data.records import SPLITS, Record
from ..errors import DataError
from .calib_origins import Generated, Item, PictureFile, Stream, Video, picks_of
from .calib_reading import FIX, LEAST_CALIBRATE, LEAST_GATE, Feeds, Frames, Loaded
from .calib_select import check_counts, hold_out, shares, spread

__all__ = ["CalibrationSet", "Feeds", "Frames", "Item", "Loaded", "plan"]

COUNT = 512
GATE = 200
ENVIRONMENT = "MEMEDGE_CALIB"
USUAL_FOLDER = Path("calib")
_SYNTHETIC_SEED = 3000
Lengths = dict[Path, tuple[int, float]]
"""Video -> how many frames it offers, its length in seconds."""
_MOST_FILES = 1_000_000
_MOST_PARTS = 5  # frames from one video of a data set


@dataclass(frozen=True)
class CalibrationSet:
    """Frames for calibration and, apart from them, for the fidelity gate.

    Attributes:
        source: what they are, for people and for the manifest; no paths.
        synthetic: whether they come from the picture generator because nothing else was given.
        calibrate: frames whose activations give the ranges.
        gate: frames that calibration does not see; ``gate.load(...).human`` holds human scores where there are some.
        small_gate: whether fewer gate frames than asked for could be held out.
    """

    source: str
    synthetic: bool
    calibrate: Frames
    gate: Frames
    small_gate: bool = field(default=False)


def plan(spec: str | None = None, count: int = COUNT, gate: int = GATE, seed: int = 0) -> CalibrationSet:
    """Choose the frames; pictures and most videos are not opened yet.

    Args:
        spec: what ``--calib`` says, see the module; none looks at the usual places.
        count: calibration frames (``--calib-frames``).
        gate: frames held out for the fidelity gate.
        seed: of every choice.

    Raises:
        UsageError: a spec of no known form, or numbers too small.
        DataError: a data set that is incomplete, or too few frames; the file that was expected is named.
        SourceError: no such file or source.
    """
    check_counts(count, gate)
    chosen = spec if spec is not None else _usual()
    if chosen is None:
        return _synthetic(count, gate, seed)
    dice = random.Random(f"memedge-calibration:{seed}")
    kind, colon, rest = chosen.partition(":")
    if colon and not Path(chosen).exists() and scheme(chosen) is None and len(kind) > 1:
        if kind not in SCORED or not rest:
            near = difflib.get_close_matches(kind, SCORED, 1)
            hint = f"; did you mean '{near[0]}'?" if near else "."
            raise UsageError(f"--calib '{chosen}': no data set of kind '{kind}'{hint} There are {', '.join(SCORED)}")
        return _data_set(kind, chosen, count, gate, dice)
    kind_of_source = scheme(chosen)
    if chosen == "-" or camera_name(chosen) is not None or kind_of_source not in (None, "file"):
        return _stream(chosen, count, gate)
    return _files(chosen.removeprefix("file://"), count, gate, dice)


def _usual() -> str | None:
    named = os.environ.get(ENVIRONMENT)
    if named:
        status(f"calibrating on {label(named)} ({ENVIRONMENT})")
        return named
    if USUAL_FOLDER.is_dir():
        status(f"calibrating on the folder ./{USUAL_FOLDER}")
        return str(USUAL_FOLDER)
    return None


def _synthetic(count: int, gate: int, seed: int) -> CalibrationSet:
    status(
        "NO CALIBRATION PICTURES: calibrating on pictures that memedge renders itself (synthetic). Real pictures give"
        " better ranges: --calib with a folder of pictures, a video or a data set such as lamem:DIR"
    )
    origin = Generated(_SYNTHETIC_SEED + seed)
    items = [Item(f"generated picture {number}", origin, number) for number in range(count + gate)]
    return _made("synthetic: pictures of memedge's own generator", items[:count], items[count:], count, gate, True)


def _data_set(kind: str, spec: str, count: int, gate: int, dice: random.Random) -> CalibrationSet:
    # Missing files are damaged frames, which are counted and replaced; the test part need not be there.
    data = open_data(spec, splits=("train", "val") if kind == "lamem" else SPLITS, missing="keep")
    train = [record for record in data.records if record.split == "train"]
    held = [record for record in data.records if record.split == "val"]
    videos = data.unit == "video"
    if videos or not held:
        held = [record for record in data.records if record.split != "train"]
    if not train or not held:
        part = "to calibrate on" if not train else "to hold out"
        raise DataError(f"--calib '{kind}': the data set has no pictures {part}; expected splits train and val")
    wanted = min(count, len(train) * (_MOST_PARTS if videos else 1))
    wanted_gate = min(gate, len(held) * (_MOST_PARTS if videos else 1))
    if wanted < LEAST_CALIBRATE or wanted_gate < LEAST_GATE:
        raise DataError(
            f"--calib: {kind} gives {wanted} frames to calibrate and {wanted_gate} to hold out;"
            f" expected at least {LEAST_CALIBRATE} and {LEAST_GATE}",
            fix=FIX,
        )
    pools = [
        spread(_items(records, number, videos), number, dice)
        for records, number in ((train, wanted), (held, wanted_gate))
    ]
    name = f"{data.name} ({'video frames' if videos else 'pictures'} of train; gate on what is held out)"
    return _made(name, pools[0], pools[1], wanted, wanted_gate, gate_asked=gate)


def _items(records: Sequence[Record], wanted: int, videos: bool) -> list[Item]:
    """Items in order of their scores."""
    ordered = sorted(records, key=lambda record: (record.score, record.id))
    if not videos:
        return [Item(record.id, PictureFile(record.path), 0, record.score) for record in ordered]
    parts = min(_MOST_PARTS, -(-wanted // len(ordered)))
    made: list[Item] = []
    for record in ordered:
        origin = Video(record.path, parts)
        made.extend(Item(f"{record.id} part {n + 1}/{parts}", origin, n, record.score) for n in range(parts))
    return made


def _stream(uri: str, count: int, gate: int) -> CalibrationSet:
    origin = Stream(uri, count + gate)
    items = [Item(f"{label(uri)} frame {number}", origin, number) for number in range(count + gate)]
    return _made(label(uri), items[:count], items[count:], count, gate)


def _files(text: str, count: int, gate: int, dice: random.Random) -> CalibrationSet:
    path = Path(text).expanduser()
    files = _walk(path) if path.is_dir() else [Path(name) for name in expand(text)]
    pictures = [file for file in files if is_picture(file)]
    videos = [file for file in files if not is_picture(file)]
    what = f"{'folder' if path.is_dir() else 'file'} '{path.name or path.resolve().name}'"
    if pictures and videos:
        fewer, more = sorted((pictures, videos), key=len)
        kept = "pictures" if more is pictures else "videos"
        status(f"--calib {what}: {len(more)} {kept}; {len(fewer)} other files are not used")
        pictures, videos = (pictures, []) if more is pictures else ([], videos)
    if pictures:
        wanted, wanted_gate = shares(len(pictures), count, gate, what)
        pools = hold_out(pictures, wanted_gate / (wanted + wanted_gate))
        items = [[Item(file.name, PictureFile(file)) for file in pool] for pool in pools]
        wanted, wanted_gate = min(wanted, len(items[0])), min(wanted_gate, len(items[1]))
    else:
        items, wanted, wanted_gate = _video_items(videos, count, gate, what)
    chosen = [spread(pool, number, dice) for pool, number in zip(items, (wanted, wanted_gate), strict=True)]
    source = f"{what}, {len(pictures or videos)} {'pictures' if pictures else 'videos'}"
    return _made(source, chosen[0], chosen[1], wanted, wanted_gate, gate_asked=gate)


def _video_items(videos: list[Path], count: int, gate: int, what: str) -> tuple[list[list[Item]], int, int]:
    """Pools of calibration and gate frames of videos, in order of name and time, and how many to take of each."""
    if len(videos) >= count + gate:
        # One frame of each is enough: none has to be opened to learn its length.
        pools = [_cut(pool, {}, 1) for pool in hold_out(videos, gate / (count + gate))]
        return pools, min(count, len(pools[0])), min(gate, len(pools[1]))
    lengths: Lengths = {}
    broken: list[str] = []
    for video in videos:
        try:
            lengths[video] = picks_of(video)
        except MemedgeError as error:
            broken.append(str(error))
    if broken:
        if len(broken) > max(1, len(videos) // 10) or not lengths:
            raise DataError(
                f"--calib {what}: {len(broken)} of {len(videos)} videos cannot be read, more than a tenth;"
                f" first {broken[0]}",
                fix="mend or remove the damaged files",
            )
        status(f"--calib {what}: {len(broken)} damaged videos were left out: {'; '.join(broken[:5])}")
    available = sum(picks for picks, _ in lengths.values())
    wanted, wanted_gate = shares(available, count, gate, what)
    share = wanted_gate / (wanted + wanted_gate)
    if len(lengths) == 1:
        pools = list(hold_out(_cut(list(lengths), lengths, count + gate), share))
    else:
        groups = _by_frames(sorted(lengths), lengths, share)
        pools = [
            _cut(pool, lengths, _parts(pool, lengths, number))
            for pool, number in zip(groups, (wanted, wanted_gate), strict=True)
        ]
    if len(pools[0]) < LEAST_CALIBRATE or len(pools[1]) < LEAST_GATE:
        raise DataError(
            f"--calib: {what} gives {len(pools[0])} frames to calibrate and {len(pools[1])} from other videos to hold"
            f" out; expected at least {LEAST_CALIBRATE} and {LEAST_GATE}",
            fix=FIX,
        )
    return pools, min(wanted, len(pools[0])), min(wanted_gate, len(pools[1]))


def _by_frames(videos: list[Path], lengths: Lengths, share: float) -> tuple[list[Path], list[Path]]:
    """(calibration, gate) videos: each goes where more of the share is missing, long ones first."""
    total = sum(lengths[video][0] for video in videos)
    missing = [(1 - share) * total, share * total]
    groups: tuple[list[Path], list[Path]] = ([], [])
    for video in sorted(videos, key=lambda video: (-lengths[video][0], str(video))):
        side = 0 if missing[0] >= missing[1] else 1
        groups[side].append(video)
        missing[side] -= lengths[video][0]
    return sorted(groups[0]), sorted(groups[1])


def _parts(videos: list[Path], lengths: Lengths, wanted: int) -> int:
    """The least number of parts, the same for each video that is long enough, that gives ``wanted`` frames."""
    most = max(lengths[video][0] for video in videos)
    for parts in range(1, most):
        if sum(min(parts, lengths[video][0]) for video in videos) >= wanted:
            return parts
    return most


def _cut(videos: Sequence[Path], lengths: Lengths, parts: int) -> list[Item]:
    items: list[Item] = []
    for video in videos:
        picks, duration = lengths.get(video, (1, None))
        number = min(parts, picks)
        origin = Video(video, number, duration)
        items.extend(Item(f"{video.name} part {n + 1}/{number}", origin, n) for n in range(number))
    return items


def _walk(root: Path) -> list[Path]:
    """Pictures and videos of a folder and its sub-folders, sorted; hidden ones and links to folders left out."""
    found: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = (Path(folder) / name for name in sorted(names) if not name.startswith("."))
        found.extend(file for file in here if file.suffix.lower() in PICTURE_SUFFIXES | VIDEO_SUFFIXES)
        if len(found) > _MOST_FILES:
            raise DataError(f"--calib '{root}': more than {_MOST_FILES:,} files; expected a folder of pictures")
    if not found:
        raise DataError(f"--calib '{root}': no pictures or videos in it; expected at least 40 frames", fix=FIX)
    return found


def _made(
    source: str,
    calibrate: Sequence[Item],
    gate: Sequence[Item],
    count: int,
    gate_count: int,
    synthetic: bool = False,
    gate_asked: int | None = None,
) -> CalibrationSet:
    """The set, with frames of one video next to each other so that each video is decoded once."""
    first = Frames("calibration", _grouped(calibrate, count), count, LEAST_CALIBRATE)
    held = Frames("gate", _grouped(gate, gate_count), gate_count, LEAST_GATE, refused=first.hashes)
    small = gate_asked is not None and gate_count < gate_asked
    if small:
        status(f"the fidelity gate has {gate_count} frames instead of {gate_asked}")
    return CalibrationSet(source, synthetic, first, held, small)


def _grouped(items: Sequence[Item], count: int) -> list[Item]:
    """Items of one origin together, in order of first appearance; reserves stay behind the chosen ones."""
    ordered: list[Item] = []
    for part in (items[:count], items[count:]):
        groups: dict[int, list[Item]] = {}
        for item in part:
            groups.setdefault(id(item.origin), []).append(item)
        ordered.extend(item for group in groups.values() for item in group)
    return ordered
