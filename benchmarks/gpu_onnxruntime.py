"""A bundle's float graphs on the engine ``onnxruntime-cuda`` beside ``onnxruntime``: same scores, and a batch's time.

    python benchmarks/gpu_onnxruntime.py BUNDLE

Opened as `memedge run` opens them: inputs and outputs bound to device memory, no TF32. Prints one line of JSON; exit
code 3 where this onnxruntime has no CUDA provider.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence

import numpy as np

from memedge_engines import backends
from memedge_engines.backends.base import EngineOptions, contract_shape
from memedge_engines.bundle import Bundle
from memedge_engines.manifest import PRECISION_OF

_BATCH = 8
_RUNS = 20
_NO_PROVIDER = 3
# The first one's scores are what the others' are compared with.
RUNS = (("onnxruntime", "fp32"), ("onnxruntime-cuda", "fp32"), ("onnxruntime-cuda", "trt-fp16"))


def main(path: str, runs: Sequence[tuple[str, str]] = RUNS) -> int:
    """The command; its exit code."""
    found = backends.get(runs[-1][0]).availability()
    if not found.usable:
        print(found.reason)
        return _NO_PROVIDER
    bundle = Bundle.open(path)
    node = next(node for node in bundle.manifest.nodes if node.kind == "graph")
    dice = np.random.default_rng(0)
    shapes = {item.name: contract_shape(item) or () for item in node.inputs}
    feed = {
        name: dice.normal(0, 1, (_BATCH, *(224 if side is None else side for side in shape[1:]))).astype(np.float32)
        for name, shape in shapes.items()
    }
    told: dict[str, object] = {"onnxruntime": found.version, "batch": _BATCH}
    scores: list[np.ndarray] = []
    apart: dict[str, float] = {}
    for name, lowering in runs:
        label = f"{name} {PRECISION_OF[lowering]}"
        with backends.get(name).open(bundle, node, lowering, EngineOptions(max_batch=_BATCH)) as engine:
            scores.append(engine.run(feed)[node.outputs[0].name])
            times = []
            for _ in range(_RUNS):
                began = time.perf_counter()
                engine.run(feed)
                times.append(time.perf_counter() - began)
        told[f"{label}, ms"] = float(np.median(times)) * 1e3
        apart[PRECISION_OF[lowering]] = float(np.abs(scores[-1] - scores[0]).max())
    print(json.dumps({**told, "largest_differences": apart}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
