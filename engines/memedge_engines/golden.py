"""Golden frames: pictures that travel in a bundle with their exact tensors and scores, to check any device against.

``golden.npz`` holds, for each golden frame ``i`` from 0:

- ``frame_<i>``: the picture, RGB uint8 ``[height, width, 3]``;
- ``tensor_<node>_<input>_<i>``: for each input with a preprocess contract, the float32 tensor that the float reference
  makes of it, with a batch axis of one (``[1, C, h, w]``); where the layout has a time axis it may be there, of any
  length, since all its pictures are alike;

and for each lowering ``score_<lowering>``: float64 ``[frames, targets]``, targets in the manifest's order, what
``Scorer.score`` gives for the picture. A bundle that needs several frames is shown the picture repeatedly.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import extractors
from .bundle import Bundle
from .dataflow import default_value
from .errors import BundleError
from .frame import Frame
from .host_executor import to_input
from .manifest import InputStorage, Manifest, Node, NodeInput, Preprocess, lowering_of
from .npz import read_arrays

RunGraph = Callable[[Node, dict[str, NDArray[Any]]], Mapping[str, NDArray[Any]]]


@dataclass(frozen=True)
class GoldenFrames:
    """The decoded golden file.

    Attributes:
        frames: RGB uint8 ``[h, w, 3]`` each.
        tensors: (node, input) to one float32 tensor per frame, with a batch axis.
        scores: lowering to float64 ``[frames, targets]``.
    """

    frames: tuple[NDArray[np.uint8], ...]
    tensors: Mapping[tuple[str, str], tuple[NDArray[np.float32], ...]]
    scores: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class LevelDifference:
    """Difference of this device's pictures from the golden tensors, in levels of 0..255."""

    largest: float
    mean: float


@dataclass(frozen=True)
class ScoreDifference:
    """Largest absolute difference of one target's scores from the recorded ones, and the recorded tolerance."""

    target: str
    largest: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the difference stays within the tolerance; a score that is not a number never does."""
        return self.largest <= self.tolerance


def pack(
    frames: Sequence[NDArray[np.uint8]],
    tensors: Mapping[tuple[str, str], Sequence[NDArray[np.float32]]],
    scores: Mapping[str, NDArray[np.float64]],
) -> bytes:
    """The bytes of a golden file; arguments as in :class:`GoldenFrames`."""
    arrays: dict[str, NDArray[Any]] = {f"frame_{i}": np.asarray(frame, np.uint8) for i, frame in enumerate(frames)}
    for (node, name), values in tensors.items():
        arrays.update({f"tensor_{node}_{name}_{i}": np.asarray(v, np.float32) for i, v in enumerate(values)})
    arrays.update({f"score_{key}": np.asarray(v, np.float64) for key, v in scores.items()})
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def read(bundle: Bundle) -> GoldenFrames:
    """The bundle's golden frames, checked against its manifest.

    Raises:
        BundleError: the file is missing, altered, not an npz, or lacks what the manifest promises.
    """
    manifest = bundle.manifest
    entry = manifest.golden.file
    data = bundle.read(entry)
    where = f"'{bundle.path / entry.file}'"
    arrays = read_arrays(data, where, "golden file")
    count = manifest.golden.frames

    def take(name: str, dtype: str, check: Callable[[tuple[int, ...]], bool], expected: str) -> NDArray[Any]:
        array = arrays.get(name)
        if array is None:
            raise BundleError(f"{where} has no '{name}'; the manifest promises {count} golden frames")
        if array.dtype != np.dtype(dtype) or not check(array.shape):
            raise BundleError(f"{where}: '{name}' is {array.dtype} {list(array.shape)}; expected {dtype} {expected}")
        return array

    def is_picture(shape: tuple[int, ...]) -> bool:
        return len(shape) == 3 and shape[2] == 3 and 0 not in shape

    frames = tuple(take(f"frame_{i}", "uint8", is_picture, "[height, width, 3]") for i in range(count))
    tensors = {}
    for node, item, contract in source_inputs(manifest):
        check = _is_tensor(4 if contract.layout == "nchw" else 5)
        tensors[node.name, item.name] = tuple(
            take(f"tensor_{node.name}_{item.name}_{i}", "float32", check, "[1, channels, height, width]")
            for i in range(count)
        )
    shape = (count, len(manifest.targets))
    scores: dict[str, NDArray[np.float64]] = {
        key: take(f"score_{key}", "float64", lambda s: s == shape, str(list(shape)))
        for key in manifest.golden.tolerance
    }
    return GoldenFrames(frames, tensors, scores)


def _is_tensor(rank: int) -> Callable[[tuple[int, ...]], bool]:
    return lambda shape: 4 <= len(shape) <= rank and shape[0] == 1 and 0 not in shape


def source_inputs(manifest: Manifest) -> list[tuple[Node, NodeInput, Preprocess]]:
    """Every input that takes pictures, with its node and contract."""
    return [(n, i, i.preprocess) for n in manifest.nodes for i in n.inputs if i.preprocess is not None]


def to_levels(tensor: NDArray[np.float32], contract: Preprocess) -> NDArray[np.float64]:
    """A tensor's first picture in levels 0..255, float64 ``[h, w, channels]``: the contract's normalisation undone."""
    first = tensor[0]
    if first.ndim == 4:
        first = first[:, 0] if contract.layout == "ncthw" else first[0]
    mean, std = np.array(contract.mean)[:, None, None], np.array(contract.std)[:, None, None]
    levels: NDArray[np.float64] = ((first.astype(np.float64) * std + mean) / contract.scale).transpose(1, 2, 0)
    return levels


def check_preprocess(bundle: Bundle, golden: GoldenFrames) -> LevelDifference:
    """Preprocess every golden frame with this device's fast path and compare with the golden tensors, in levels.

    Raises:
        BundleError: a golden tensor has another size than the contract's picture.
    """
    from .preprocess import Preprocessor

    largest, total, count = 0.0, 0.0, 0
    for node, item, contract in source_inputs(bundle.manifest):
        maker = Preprocessor(contract)
        for rgb, tensor in zip(golden.frames, golden.tensors[node.name, item.name], strict=True):
            frame = Frame.from_rgb(rgb)
            try:
                picture = maker.picture(frame)
            finally:
                frame.release()
            expected = to_levels(tensor, contract)
            if picture.shape != expected.shape:
                raise BundleError(
                    f"node '{node.name}' input '{item.name}': golden tensor of {list(expected.shape)}, "
                    f"the contract makes {list(picture.shape)}",
                    fix="export the bundle again",
                )
            # Rounded to what float32 tensors carry for certain: a difference of one level is 1, not 1.00001.
            difference = np.round(np.abs(picture.astype(np.float64) - expected), 3)
            largest = max(largest, float(difference.max()))
            total += float(difference.sum())
            count += difference.size
    return LevelDifference(largest, total / max(1, count))


def check_scores(
    bundle: Bundle, golden: GoldenFrames, lowering: str, scores: Sequence[Mapping[str, float]]
) -> list[ScoreDifference]:
    """Compare this device's scores of the golden frames, one mapping of targets per frame, with the recorded ones.

    Raises:
        BundleError: the bundle has no recorded scores for this lowering.
    """
    if lowering not in golden.scores:
        raise BundleError(f"no golden scores for lowering '{lowering}'; there are {', '.join(golden.scores)}")
    recorded = golden.scores[lowering]
    tolerance = bundle.manifest.golden.tolerance[lowering]  # type: ignore[index]
    results = []
    for column, target in enumerate(bundle.manifest.targets):
        found = np.array([one[target.name] for one in scores], np.float64)
        difference = np.abs(found - recorded[: len(found), column])
        largest = float(difference.max()) if np.isfinite(difference).all() else float("nan")
        results.append(ScoreDifference(target.name, largest, tolerance))
    return results


def inputs_of(
    bundle: Bundle, golden: GoldenFrames, number: int, lowering: str, run: RunGraph
) -> dict[str, dict[str, NDArray[Any]]]:
    """Graph node name to its input tensors for golden frame ``number`` shown for ever, batch of one.

    ``run`` computes a graph node, so that the nodes behind it get real values; host nodes are computed here.
    """
    return _walk(bundle, golden, number, lowering, run)[0]


def values_of(
    bundle: Bundle, golden: GoldenFrames, number: int, lowering: str, run: RunGraph
) -> dict[str, NDArray[Any]]:
    """``node.output`` to its value, without batch axis, for a golden frame; arguments as of :func:`inputs_of`."""
    return _walk(bundle, golden, number, lowering, run)[1]


def _walk(
    bundle: Bundle, golden: GoldenFrames, number: int, lowering: str, run: RunGraph
) -> tuple[dict[str, dict[str, NDArray[Any]]], dict[str, NDArray[Any]]]:
    values: dict[str, NDArray[Any]] = {}
    fed: dict[str, dict[str, NDArray[Any]]] = {}
    for node in bundle.manifest.nodes:
        gathered: dict[str, Sequence[NDArray[Any]]] = {}
        for item in node.inputs:
            if item.preprocess is not None:
                levels = to_levels(golden.tensors[node.name, item.name][number], item.preprocess)
                one: NDArray[Any] = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
            elif item.source == "caller":
                one = default_value(item)
            else:
                one = values[item.source]
            gathered[item.name] = [one] * item.last
        if node.kind == "graph":
            entry = node.files.get(lowering_of(node, lowering))  # type: ignore[call-overload]
            storages: Mapping[str, InputStorage] = entry.inputs if entry is not None else {}
            fed[node.name] = {i.name: to_input(i, gathered[i.name], storages.get(i.name)) for i in node.inputs}
            results: Mapping[str, NDArray[Any]] = {k: np.asarray(v)[0] for k, v in run(node, fed[node.name]).items()}
        else:
            results = extractors.find(node)(gathered, node)
        values.update({f"{node.name}.{output.name}": results[output.name] for output in node.outputs})
    return fed, values
