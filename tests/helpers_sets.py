"""Small trees in the exact released forms of the data sets, with invented scores, pictures and clips."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from helpers_calib import noise, save
from helpers_video import write_video

VIDEOMEM_HEADER = (
    "video,short-term_memorability,nb_short-term_annotations,long-term_memorability,nb_long-term_annotations"
)


def lamem_tree(root: Path, train: int = 60, val: int = 20, test: int = 0, numbers: Sequence[int] = (1,)) -> Path:
    """LaMem: lines of 22 bytes, names of eight digits; each number divides the pictures anew, with other scores."""
    (root / "splits").mkdir(parents=True)
    names = [f"{number:08}.jpg" for number in range(1, train + val + test + 1)]
    for number, name in enumerate(names, start=1):
        save(root / "images" / name, number)
    for number in numbers:
        rng = np.random.default_rng(number - 1)
        order = names if number == 1 else rng.permutation(names).tolist()
        begin = 0
        for split, count in (("train", train), ("val", val), ("test", test)):
            part, begin = order[begin : begin + count], begin + count
            lines = [f"{name} {rng.uniform(0.2, 0.999):.6f}\n" for name in part]
            assert {len(line) for line in lines} <= {22}
            if part:
                (root / "splits" / f"{split}_{number}.txt").write_bytes("".join(lines).encode())
    return root


def videomem_tree(root: Path, count: int = 64, rows: list[str] | None = None) -> Path:
    """VideoMem's development set: VP8 in WebM; a table with byte order mark and CR LF, sorted as text."""
    sources = root / "dev-set" / "sources"
    sources.mkdir(parents=True)
    (root / "dev-set" / "ground-truth").mkdir()
    first = write_video(sources / "video1.webm", [noise(n, 32, 32) for n in range(3)], codec="libvpx", rate=24)
    for number in range(2, count + 1):
        (sources / f"video{number}.webm").write_bytes(first.read_bytes())
    made = [f"video{n}.webm,{0.4 + n / 250:.3f},36,{n / 1000:.3f},12" for n in range(1, count + 1)]
    videomem_table(root / "dev-set" / "ground-truth" / "ground-truth_dev-set.csv", rows or sorted(made))
    return root


def videomem_table(path: Path, rows: Sequence[str], header: str = VIDEOMEM_HEADER) -> None:
    """A table of VideoMem."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(("\ufeff" + "\r\n".join([header, *rows]) + "\r\n").encode())


def videomem_captions(path: Path, names: Sequence[str]) -> None:
    """Captions of VideoMem: no header, no newline after the last line."""
    lines = [f"{name}\ta-slow-pan-over-{name.partition('.')[0]}" for name in names]
    path.write_bytes("\r\n".join(lines).encode())


def gray_clips(folder: Path, levels: Sequence[float], seconds: float = 3.2, rate: int = 5) -> list[Path]:
    """VP8 clips ``video1.webm ...`` whose grey level, 0..1, drifts a little around the given one."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number, level in enumerate(levels, start=1):
        rng = np.random.default_rng(number)
        pictures = [
            np.clip(255 * level + n + rng.normal(0, 12, (32, 40, 3)), 0, 255).astype(np.uint8)
            for n in range(round(seconds * rate))
        ]
        made.append(write_video(folder / f"video{number}.webm", pictures, codec="libvpx", rate=rate))
    return made


GRAY_LEVELS = tuple(0.15 + 0.7 * n / 15 for n in range(16))


def gray_videomem(root: Path) -> Path:
    """16 clips of 3.2 s with a division of their own, ``#split=split.csv``: brighter ones are more memorable in the
    short term and less in the long term."""
    paths = gray_clips(root / "dev-set" / "sources", GRAY_LEVELS)
    rows = [f"{p.name},{v:.3f},36,{1 - v:.3f},12" for p, v in zip(paths, GRAY_LEVELS, strict=True)]
    videomem_table(root / "dev-set" / "ground-truth" / "ground-truth_dev-set.csv", sorted(rows))
    split = ["video,split", *(f"{p.stem},{('train', 'train', 'val', 'test')[n % 4]}" for n, p in enumerate(paths))]
    (root / "split.csv").write_text("\n".join(split))
    return root


def gray_memento(root: Path) -> Path:
    """Memento10k with 16 clips of 3.2 s; all three files have scores."""
    clips = gray_clips(root / "clips", GRAY_LEVELS)
    records = [memento_record("bowling", path.stem, 0.4 + n / 30) for n, path in enumerate(clips)]
    parts = {"train": records[::2], "val": records[1::4], "test": records[3::4]}
    tree = memento_tree(root / "set", parts)
    for path in clips:
        path.rename(tree / "videos" / f"bowling_{path.stem}.mp4")  # what is in it counts, not its suffix
    return tree


def memento_record(action: str, name: str, score: float | None = 0.8, **more: Any) -> dict[str, Any]:
    """One record of Memento10k's files."""
    record = {
        "filename": f"{action.replace('+', '-')}_{name}.mp4",
        "url": f"https://data.csail.mit.edu/soundnet/actions3/{action}/{name}.mp4",
        "mem_score": score,
        "alpha": -0.0016,
        "audio_description": "a person sings",
        "captions": [f"caption {n} of {name}" for n in range(5)],
        "action_labels": [action, "singing"],
        **more,
    }
    return {key: value for key, value in record.items() if value is not None}


def memento_tree(root: Path, parts: dict[str, list[dict[str, Any]]], clips: Sequence[str] = ()) -> Path:
    """Memento10k: ``parts`` are the names of the files to their records; ``clips`` are files below ``videos``."""
    (root / "videos").mkdir(parents=True)
    for part, records in parts.items():
        (root / f"memento_{part}_data.json").write_text(json.dumps(records))
    for clip in clips:
        (root / "videos" / clip).parent.mkdir(exist_ok=True)
        (root / "videos" / clip).write_bytes(b"clip " + clip.encode())
    return root


def sun_tree(root: Path, count: int = 30, divisions: int = 25) -> list[tuple[int, int, int, int]]:
    """SUN memorability as MATLAB v5 files, textures behind the targets left away; the counts of each picture."""
    data = root / "Data"
    for name in ("Image data", "Experiment data", "Random splits"):
        (data / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    counts = [tuple(int(v) for v in rng.integers((30, 10, 1, 60), (60, 30, 10, 90))) for _ in range(count)]
    cells = np.empty((count, 1), object)
    keys = ("hits", "misses", "false_alarms", "correct_rejections")
    for index, values in enumerate(counts):
        cells[index, 0] = {"filename": f"sun_{index}_crop.jpg", **dict(zip(keys, values, strict=True))}
    savemat(data / "Experiment data" / "sorted_target_data.mat", {"sorted_target_data": cells})
    pictures = rng.integers(0, 256, (16, 16, 3, count), np.uint8)
    savemat(data / "Image data" / "target_images.mat", {"img": pictures})
    half = count // 2
    orders = [rng.permutation(count - 2) + 1 for _ in range(divisions)]  # two pictures were seen by too few people
    splits = data / "Random splits"
    for name, rows in (("train", [o[:half] for o in orders]), ("test", [o[half:] for o in orders])):
        savemat(splits / f"image_{name}_indices.mat", {f"image_{name}_indices": np.array(rows, np.float64)})
    write_halves(splits, np.array([h / (h + m) for h, m, _, _ in counts]), divisions)
    return counts  # type: ignore[return-value]


def write_halves(folder: Path, scores: np.ndarray, halvings: int = 25, spread: float = 0.02) -> None:
    """``subject_hrs1.mat`` and ``subject_hrs2.mat``: two halves whose mean is the score."""
    folder.mkdir(parents=True, exist_ok=True)
    off = np.random.default_rng(1).normal(0, spread, (halvings, len(scores)))
    for number, halves in ((1, scores + off), (2, scores - off)):
        savemat(folder / f"subject_hrs{number}.mat", {f"subject_hrs{number}": halves})


def lnsim_tree(root: Path, count: int = 40) -> np.ndarray:
    """LNSIM as released; pictures 3 and 7 are the same file. The scores."""
    scores = np.linspace(0.2, 0.9, count)
    for number in range(1, count + 1):
        save(root / "Image_data" / f"{number:04}.jpg", 3 if number == 7 else number)
    write_halves(root / "Random_splits", scores)
    return scores


def picture(path: Path, level: float) -> Path:
    """A grey picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), round(255 * level), np.uint8)).save(path)
    return path
