"""The synthetic back end: the engine seam's twin, which opens any graph node from the manifest alone, with numpy only.

Its numbers are a fixed function of its inputs, so that tests know them without any library. With ``x`` one sample of
one input as float64, flattened in C order to n elements (integer inputs multiplied by their scale first), element
``j`` of an output is::

    0.5 + 0.1 * mean over the inputs of mean_i(x_i * (1 + 0.5 * cos(2 pi (j + 1) frac(0.618034 i))))

rounded to float32. Each sample is computed by itself: batching changes no bit. Outputs of the roles score, decay and
contribution have one element, all others ``dims`` (8), and the embedding of a manifest's domain block its length.

Switches in ``EngineOptions.extra``: ``delay_s`` (every run takes that much longer), ``fail_on`` (the n-th run of the
engine fails, counted from 1), ``fail_open`` (opening fails with this text), ``dims``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..errors import EngineError
from ..manifest import LOWERINGS, Node, NodeInput, NodeOutput
from .base import Availability, Backend, Dim, Engine, EngineOptions, TensorSpec, contract_shape

_SINGLE = ("score", "decay", "contribution")


def weights(count: int, index: int) -> NDArray[np.float64]:
    """The functional's weights for an input of ``count`` elements and output element ``index``."""
    phase = np.modf(0.618034 * np.arange(count))[0]
    result: NDArray[np.float64] = 1.0 + 0.5 * np.cos(2.0 * np.pi * (index + 1) * phase)
    return result


class SyntheticEngine(Engine):
    """A node computed by the module's function; ``calls`` counts its runs."""

    def __init__(self, bundle: Bundle, node: Node, lowering: str, options: EngineOptions) -> None:
        extra = options.extra
        self._dims = int(extra.get("dims", "8"))
        self._delay_s = float(extra.get("delay_s", "0"))
        self._fail_on = int(extra.get("fail_on", "0"))
        self._scales: dict[str, float] = {}
        self._weights: dict[tuple[int, int], NDArray[np.float64]] = {}
        self.calls = 0
        domain = bundle.manifest.domain
        self._known = {} if domain is None else {domain.source: len(domain.mean)}
        entry = node.files.get(lowering)  # type: ignore[call-overload]
        inputs = []
        for item in node.inputs:
            storage = entry.inputs.get(item.name) if entry is not None else None
            dtype = np.dtype(storage.dtype if storage is not None else "float32")
            if storage is not None and storage.scale is not None:
                self._scales[item.name] = storage.scale
            shape = self._input_shape(bundle, item)
            inputs.append(TensorSpec(item.name, dtype, shape or (), any_rank=shape is None))
        outputs = [TensorSpec(o.name, np.dtype("float32"), (None, self._size(node, o))) for o in node.outputs]
        super().__init__("synthetic", lowering, inputs, outputs)

    def _size(self, node: Node, output: NodeOutput) -> int:
        length = self._known.get(f"{node.name}.{output.name}", self._dims)
        return 1 if output.role in _SINGLE else length

    def _input_shape(self, bundle: Bundle, item: NodeInput) -> tuple[Dim, ...] | None:
        window: tuple[Dim, ...] = (item.last,) if item.last > 1 else ()
        if item.preprocess is not None or item.shape is not None:
            return contract_shape(item)
        if item.source == "caller":
            return None if item.default is None else (None, *window, len(item.default))
        producer = bundle.manifest.node(item.source.partition(".")[0])
        if producer.kind != "graph":
            return None
        output = next(o for o in producer.outputs if o.name == item.source.partition(".")[2])
        return (None, *window, self._size(producer, output))

    def _run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self.calls += 1
        if self._delay_s:
            time.sleep(self._delay_s)
        if self.calls == self._fail_on:
            raise EngineError(f"engine synthetic: run {self.calls} failed, as it was asked to")
        batch = next(iter(inputs.values())).shape[0]
        results = {}
        for spec in self.outputs:
            size = int(spec.shape[1] or 1)
            result = np.empty((batch, size), np.float32)
            for sample in range(batch):
                flat = [
                    array[sample].reshape(-1).astype(np.float64) * self._scales.get(name, 1.0)
                    for name, array in inputs.items()
                ]
                for index in range(size):
                    parts = [float((x * self._weight(x.size, index)).mean()) for x in flat]
                    result[sample, index] = 0.5 + 0.1 * (sum(parts) / len(parts))
            results[spec.name] = result
        return results

    def _weight(self, count: int, index: int) -> NDArray[np.float64]:
        key = (count, index)
        if key not in self._weights:
            if len(self._weights) >= 64:  # inputs of ever new sizes must not fill memory
                self._weights.clear()
            self._weights[key] = weights(count, index)
        return self._weights[key]


class SyntheticBackend(Backend):
    """Runs every lowering of every node; found by name only, never by ``auto``."""

    name = "synthetic"
    lowerings = LOWERINGS

    def availability(self) -> Availability:
        """Usable everywhere."""
        return Availability(True, version=f"numpy {np.__version__}", devices=("synthetic",))

    def _open(self, bundle: Bundle, node: Node, lowering: str, options: EngineOptions) -> Engine:
        if "fail_open" in options.extra:
            raise EngineError(f"engine synthetic: {options.extra['fail_open']}")
        return SyntheticEngine(bundle, node, lowering, options)


BACKEND = SyntheticBackend()
