"""Golden frames: pictures the project renders itself, their exact tensors and the scores any device must reproduce.

``golden.npz`` holds ``frame_<i>`` (RGB uint8 ``[H,W,3]``), ``tensor_<node>_<input>_<i>`` (float32 ``[1,C,h,w]``, the
float reference of the preprocess contract, levels not rounded) and ``score_<lowering>`` (float64 ``[frames,
targets]``, clipped to 0..1 as the runtime clips). A score is that of the reference picture rounded to 8-bit levels,
which is what every fast path delivers: so a device's preprocessing is compared with the exact tensor, and its score
with what a perfect 8-bit preprocessing would give.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memedge.pictures import picture as render
from memedge_engines.frame import Frame
from memedge_engines.manifest import InputStorage, Preprocess
from memedge_engines.preprocess.reference import reference_picture, reference_tensor

from .data.pictures import read_picture
from .errors import DataError

# (width, height): ordinary, portrait, odd sides, smaller than any input, very wide.
SIZES = ((640, 360), (240, 320), (319, 241), (97, 61), (33, 257), (500, 120))
SEED = 77
MOST_FRAMES = 32
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")

Frames = list[NDArray[np.uint8]]


def rendered() -> Frames:
    """Six pictures of six sizes from the project's generator, RGB uint8 ``[H,W,3]``."""
    return [render(number, SEED, size) for number, size in enumerate(SIZES)]


def from_folder(folder: Path) -> Frames:
    """The pictures of a folder in the order of their names, at most 32.

    Raises:
        DataError: no such folder, or no pictures in it.
        PictureError: one of them cannot be read.
    """
    if not folder.is_dir():
        raise DataError(f"--golden '{folder}': there is no such folder")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise DataError(f"--golden '{folder}': no pictures in it; expected {', '.join(SUFFIXES)} files")
    if len(paths) > MOST_FRAMES:
        raise DataError(f"--golden '{folder}': {len(paths)} pictures; at most {MOST_FRAMES} travel with a bundle")
    return [read_picture(path) for path in paths]


def rounded_tensor(picture: NDArray[np.uint8], contract: Preprocess) -> NDArray[np.float32]:
    """The contract's tensor of the reference picture rounded to 8-bit levels, float32 ``[1,C,h,w]``."""
    levels = np.floor(reference_picture(Frame.from_rgb(picture), contract).astype(np.float64) + 0.5).clip(0, 255)
    tensor = (levels * contract.scale - np.array(contract.mean)) / np.array(contract.std)
    return np.ascontiguousarray(tensor.transpose(2, 0, 1)[None].astype(np.float32))


def archive(
    frames: Sequence[NDArray[np.uint8]],
    contract: Preprocess,
    score: Callable[[NDArray[np.float32]], ArrayLike],
    *,
    node: str = "model",
    tensor: str = "frames",
) -> tuple[bytes, NDArray[np.float64]]:
    """``golden.npz`` of a bundle with one graph, as bytes, and its scores, float64 ``[frames, targets]``.

    Args:
        score: the float graph on one tensor ``[1,C,h,w]``: a number for each target.
    """
    arrays: dict[str, NDArray[np.generic]] = {}
    rows = []
    for number, picture in enumerate(frames):
        arrays[f"frame_{number}"] = picture
        arrays[f"tensor_{node}_{tensor}_{number}"] = reference_tensor(Frame.from_rgb(picture), contract)
        rows.append(np.atleast_1d(np.asarray(score(rounded_tensor(picture, contract)), np.float64)).clip(0, 1))
    scores = np.stack(rows)
    arrays["score_fp32"] = scores
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue(), scores


def lowering_scores(
    archive_bytes: bytes,
    contract: Preprocess,
    model: bytes,
    inputs: Mapping[str, InputStorage],
    *,
    outputs: Sequence[str] = ("score",),
    optimise: bool = True,
) -> tuple[NDArray[np.float64], float]:
    """Golden scores of a lowering, float64 ``[frames, targets]``, and by how much random errors of one level in the
    picture move them: what verification on another device may find."""
    from .quant.scoring import score_frames

    with np.load(io.BytesIO(archive_bytes), allow_pickle=False) as data:
        pictures = [data[f"frame_{number}"] for number in range(len(data["score_fp32"]))]
    tensors = np.concatenate([rounded_tensor(picture, contract) for picture in pictures])
    rng = np.random.default_rng(0)
    step = contract.scale / np.array(contract.std, np.float32).reshape(1, -1, 1, 1)
    noisy = (tensors + rng.integers(-1, 2, tensors.shape).astype(np.float32) * step).astype(np.float32)

    def columns(given: NDArray[np.float32]) -> NDArray[np.float64]:
        found = [score_frames(model, given, output=name, inputs=inputs, optimise=optimise) for name in outputs]
        return np.stack(found, axis=1)

    scores = columns(tensors)
    return scores, float(np.abs(columns(noisy) - scores).max())


def with_scores(archive_bytes: bytes, scores: Mapping[str, NDArray[np.float64]]) -> bytes:
    """The archive with ``score_<lowering>`` arrays added."""
    with np.load(io.BytesIO(archive_bytes), allow_pickle=False) as data:
        arrays = {name: data[name] for name in data.files}
    arrays |= {f"score_{lowering}": found for lowering, found in scores.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
