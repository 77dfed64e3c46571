"""A float graph on ONNX Runtime's CUDA provider beside its CPU provider: same scores, and how long a batch takes.

    python benchmarks/gpu_onnxruntime.py GRAPH.onnx

Prints one line of JSON; exit code 3 where this onnxruntime has no CUDA provider.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np

_BATCH = 8
_RUNS = 20


def main(path: str) -> int:
    """The command; its exit code."""
    try:
        import onnxruntime
    except ImportError:
        return 3
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return 3
    found: dict[str, float | str] = {"onnxruntime": onnxruntime.__version__, "batch": _BATCH}
    scores = []
    for name in ("CPU", "CUDA"):
        session = onnxruntime.InferenceSession(path, providers=[f"{name}ExecutionProvider"])
        if session.get_providers()[0] != f"{name}ExecutionProvider":
            print(f"the {name} provider was not taken: {session.get_providers()}")
            return 1
        taken = session.get_inputs()[0]
        shape = (_BATCH, *(side if isinstance(side, int) else 224 for side in taken.shape[1:]))
        feed = {taken.name: np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)}
        scores.append(session.run(None, feed)[0])
        times = []
        for _ in range(_RUNS):
            began = time.perf_counter()
            session.run(None, feed)
            times.append(time.perf_counter() - began)
        found[f"{name}, ms"] = float(np.median(times)) * 1e3
    found["largest_difference"] = float(np.abs(scores[0] - scores[1]).max())
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
