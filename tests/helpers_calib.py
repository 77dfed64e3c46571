"""A small residual graph, its inputs, and folders of pictures for the calibration tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SIDE = 16


def residual_graph(seed: int = 0, gain: float = 1.0) -> bytes:
    """Conv, Relu, max-pool, a residual Add, Concat, mean, Gemm, Sigmoid: float32 ``frames [N,3,16,16]`` -> score."""
    rng = np.random.default_rng(seed)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((gain * rng.normal(0, 0.4, shape)).astype(np.float32), name)

    node = helper.make_node
    nodes = [
        node("Conv", ["frames", "w1", "b1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"], name="relu1"),
        node("MaxPool", ["r1"], ["p1"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p1", "w2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        node("Add", ["c2", "p1"], ["a1"], name="add"),
        node("Relu", ["a1"], ["r2"], name="relu2"),
        node("Concat", ["r2", "c2"], ["cat"], name="cat", axis=1),
        node("ReduceMean", ["cat", "axes"], ["mean"], name="mean", keepdims=0),
        node("Gemm", ["mean", "w3", "b3"], ["logit"], name="head", transB=1),
        node("Sigmoid", ["logit"], ["score"], name="sigmoid"),
    ]
    weights = [
        weight("w1", 4, 3, 3, 3),
        weight("b1", 4),
        weight("w2", 4, 4, 3, 3),
        weight("w3", 1, 8),
        weight("b3", 1),
        numpy_helper.from_array(np.array([2, 3], np.int64), "axes"),
    ]
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("frames", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 1])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data


ACTIVATIONS = ("frames", "c1", "r1", "p1", "c2", "a1", "r2", "cat", "mean", "logit", "score")
RANGE_ONLY = ("c1", "a1")  # a Relu alone reads them


def feeds(count: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Inputs with very different magnitudes, so that histograms have to grow."""
    rng = np.random.default_rng(seed)
    return [
        {"frames": (rng.normal(0, 1, (1, 3, SIDE, SIDE)) * 10.0 ** rng.uniform(-2, 1)).astype(np.float32)}
        for _ in range(count)
    ]


def noise(seed: int, width: int = 32, height: int = 24) -> np.ndarray:
    """White noise, RGB uint8."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save(path: Path, seed: int) -> Path:
    """A picture of noise on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(seed)).save(path, quality=95)
    return path


def folder(root: Path, count: int, suffix: str = ".png") -> Path:
    """``count`` different pictures, named by their number."""
    for number in range(count):
        save(root / f"{number:04}{suffix}", number)
    return root


def names(frames: Any) -> list[str]:
    """Names of the chosen frames, without reserves."""
    return [item.name for item in frames.items[: frames.wanted]]


def files(frames: Any) -> set[Path]:
    """Files of the chosen frames and reserves."""
    return {item.origin.path for item in frames.items}
