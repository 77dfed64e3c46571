"""Scores of many pictures by one graph, in ONNX Runtime, with bounded memory; and how long graphs take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from memedge_engines.backends.base import first_line
from memedge_engines.backends.onnxruntime import DTYPES, session_options
from memedge_engines.manifest import InputStorage, Preprocess
from memedge_engines.preprocess import to_tensor

from ..errors import ExportError

BATCH = 4
_WARM_UP = 2


class Tensors(Protocol):
    """Input tensors by row: a float32 array ``[N, C, h, w]``, or something that makes them when asked."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> NDArray[np.float32]: ...


class PictureTensors:
    """Fitted pictures (uint8 ``[h, w, C]`` each, as the contract's resize and crop leave them) as tensors, made a few
    at a time: a quarter of the memory."""

    def __init__(self, pictures: Sequence[NDArray[np.uint8]], preprocess: Preprocess) -> None:
        self._pictures = pictures
        self._preprocess = preprocess

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, rows: Any, /) -> NDArray[np.float32]:
        """float32 ``[n, C, h, w]`` of a slice or an array of row numbers."""
        chosen = range(len(self))[rows] if isinstance(rows, slice) else rows
        tensors: NDArray[np.float32] = np.concatenate(
            [to_tensor([self._pictures[int(row)]], self._preprocess) for row in chosen]
        )
        return tensors


class Model(Protocol):
    """A graph's bytes and how it takes its inputs; a ``Lowered`` is one."""

    @property
    def model(self) -> bytes:
        """ONNX bytes."""
        ...

    @property
    def inputs(self) -> Mapping[str, InputStorage]:
        """How the graph takes each input."""
        ...


@dataclass(frozen=True)
class FloatModel:
    """The float graph itself, where a lowering is expected."""

    model: bytes
    inputs: Mapping[str, InputStorage] = field(default_factory=dict)


def open_model(model: bytes, threads: int = 0, *, optimise: bool = True) -> Any:
    """An ONNX Runtime session on the CPU, with the options of every session of the runtime.

    Args:
        optimise: let ONNX Runtime rewrite the graph. TensorRT's forms are run as they are written: ONNX Runtime 1.31's
            basic rewrites change the numbers of int8 Q/DQ in a half precision body where activations saturate
            (resnet-s: mean |difference| from float .0063 instead of .0007).

    Raises:
        ExportError: ONNX Runtime refuses the graph.
    """
    import onnxruntime as ort

    options = session_options(threads)
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base class
        raise ExportError(f"ONNX Runtime {ort.__version__} refuses the graph: {first_line(error)}") from None


def score_frames(
    model: bytes,
    tensors: Tensors,
    threads: int = 0,
    *,
    output: str = "score",
    inputs: Mapping[str, InputStorage] | None = None,
    batch: int = BATCH,
    progress: Callable[[int], None] | None = None,
    optimise: bool = True,
) -> NDArray[np.float64]:
    """Scores of all pictures, float64 ``[N]``, clipped to 0..1 as the runtime clips; what is not finite stays so.

    Args:
        tensors: float32 ``[N, C, h, w]``, or :class:`PictureTensors`; ``batch`` of them are in memory at once.
        threads: of ONNX Runtime; 0: one for each core.
        output: the graph's output of one number a picture.
        inputs: storage of the graph's input where it is not float (int8 with a scale).
        progress: told how many pictures are done, after each batch.
        optimise: see :func:`open_model`.

    Raises:
        ExportError: the graph is refused, fails, or has another output.
    """
    session = open_model(model, threads, optimise=optimise)
    argument = session.get_inputs()[0]
    names = [found.name for found in session.get_outputs()]
    if output not in names:
        raise ExportError(f"the graph has no output '{output}'; it has {', '.join(names)}")
    storage = (inputs or {}).get(argument.name)
    scores = np.empty(len(tensors))
    for begin in range(0, len(tensors), batch):
        given = stored(tensors[begin : begin + batch], DTYPES.get(argument.type, "float32"), storage)
        try:
            found = np.asarray(session.run([output], {argument.name: given})[0], np.float64).reshape(len(given), -1)
        except Exception as error:
            raise ExportError(f"ONNX Runtime fails on the graph: {first_line(error)}") from None
        if found.shape[1] != 1:
            raise ExportError(f"output '{output}' has {found.shape[1]} numbers a picture; expected 1")
        scores[begin : begin + len(given)] = found[:, 0]
        if progress is not None:
            progress(min(begin + batch, len(tensors)))
    return np.where(np.isfinite(scores), np.clip(scores, 0, 1), scores)


def stored(tensor: NDArray[np.float32], dtype: str, storage: InputStorage | None) -> NDArray[Any]:
    """The tensor as a graph takes it: in its dtype; int8 and uint8 by the storage's scale."""
    if dtype == "float32":
        return np.ascontiguousarray(tensor, np.float32)
    if dtype in ("int8", "uint8"):
        if storage is None or not storage.scale:
            raise ExportError(f"the graph takes {dtype}, but no scale is known for its input")
        limits = np.iinfo(dtype)
        return np.clip(np.rint(tensor / storage.scale), limits.min, limits.max).astype(dtype)
    return tensor.astype(dtype)


class FrameScores:
    """Scores of a fixed set of pictures by any lowering: what :func:`memedge_export.quant.gate.run_gate` asks.

    Args:
        tensors: see :func:`score_frames`.
        threads: of ONNX Runtime; 0: one for each core.
        optimise: see :func:`open_model`.
    """

    def __init__(self, tensors: Tensors, threads: int = 0, output: str = "score", *, optimise: bool = True) -> None:
        self._tensors = tensors
        self._threads = threads
        self._optimise = optimise
        self._output = output

    def __len__(self) -> int:
        return len(self._tensors)

    def __call__(self, lowered: Model, rows: NDArray[np.intp] | None = None) -> NDArray[np.float64]:
        """Scores of all pictures, or of those with the numbers ``rows``: float64 ``[N]``."""
        tensors = self._tensors if rows is None else _Rows(self._tensors, rows)
        return score_frames(
            lowered.model,
            tensors,
            self._threads,
            output=self._output,
            inputs=lowered.inputs,
            optimise=self._optimise,
        )


class _Rows:
    """Some rows of tensors, taken when asked."""

    def __init__(self, tensors: Tensors, rows: NDArray[np.intp]) -> None:
        self._tensors = tensors
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Any, /) -> NDArray[np.float32]:
        return self._tensors[self._rows[rows]]


def median_ms(
    models: Mapping[str, Model], tensor: NDArray[np.float32], threads: int = 0, runs: int = 15, budget_s: float = 10.0
) -> dict[str, float]:
    """Median milliseconds of one inference of each model on ``tensor`` (float32 ``[1, C, h, w]``).

    Runs are interleaved, so that changing clocks and other programs hit every model alike; fewer than ``runs``, at
    least 5, once ``budget_s`` seconds are spent. Raises ExportError.
    """
    sessions = {}
    for name, model in models.items():
        session = open_model(model.model, threads)
        argument = session.get_inputs()[0]
        given = stored(tensor, DTYPES.get(argument.type, "float32"), model.inputs.get(argument.name))
        sessions[name] = (session, {argument.name: given})
    spent: dict[str, list[float]] = {name: [] for name in models}
    started = time.perf_counter()
    for number in range(-_WARM_UP, runs):
        if number >= 5 and time.perf_counter() - started > budget_s:
            break
        for name, (session, feed) in sessions.items():
            begin = time.perf_counter()
            try:
                session.run(None, feed)
            except Exception as error:
                raise ExportError(f"{name}: ONNX Runtime fails on the graph: {first_line(error)}") from None
            if number >= 0:
                spent[name].append(time.perf_counter() - begin)
    return {name: float(np.median(seconds)) * 1e3 for name, seconds in spent.items()}
