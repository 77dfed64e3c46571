"""Keras layers step by step in NumPy, channels last, and random weights with the names of AMNetVid's public files."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Layer = dict[str, Array]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def hard_sigmoid(x: Array) -> Array:
    return np.clip(0.2 * x + 0.5, 0, 1)


def dense(x: Array, layer: Layer) -> Array:
    return x @ layer["kernel"] + layer["bias"]


def lstm(steps: Array, layer: Layer) -> Array:
    """``[T, inputs]`` to ``[T, units]``."""
    units = len(layer["recurrent_kernel"])
    h, c, found = np.zeros(units), np.zeros(units), []
    for x in steps:
        i, f, g, o = np.split(x @ layer["kernel"] + h @ layer["recurrent_kernel"] + layer["bias"], 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        found.append(h)
    return np.stack(found)


def same_convolution(x: Array, kernel: Array) -> Array:
    """``[H, W, in]`` with ``[3, 3, in, out]``, zeros around."""
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    height, width = x.shape[:2]
    return sum(padded[r : r + height, s : s + width] @ kernel[r, s] for r in range(3) for s in range(3))


def conv_lstm(steps: Array, layer: Layer) -> Array:
    """``[T, H, W, inputs]`` to ``[T, H, W, filters]``."""
    filters = layer["recurrent_kernel"].shape[2]
    h = np.zeros((*steps.shape[1:3], filters))
    c, found = h, []
    for x in steps:
        gates = same_convolution(x, layer["kernel"]) + same_convolution(h, layer["recurrent_kernel"]) + layer["bias"]
        i, f, g, o = np.split(gates, 4, axis=2)
        c = hard_sigmoid(f) * c + hard_sigmoid(i) * np.tanh(g)
        h = hard_sigmoid(o) * np.tanh(c)
        found.append(h)
    return np.stack(found)


def max_pool_same(maps: Array, size: int) -> Array:
    """``[T, H, W, C]``: windows of ``size`` at steps of ``size``, what is missing padded half before, half after."""
    count, height, width, channels = maps.shape
    rows, columns = -(-height // size), -(-width // size)
    before = [(rows * size - height) // 2, (columns * size - width) // 2]
    wide = np.full((count, rows * size, columns * size, channels), -np.inf)
    wide[:, before[0] : before[0] + height, before[1] : before[1] + width] = maps
    return wide.reshape(count, rows, size, columns, size, channels).max((2, 4))


def batch_norm(x: Array, layer: Layer) -> Array:
    scale = layer["gamma"] / np.sqrt(layer["moving_variance"] + 1e-3)
    return (x - layer["moving_mean"]) * scale + layer["beta"]


def random_weights(shapes: dict[str, dict[str, tuple[int, ...]]], seed: int = 0) -> dict[str, Layer]:
    rng = np.random.default_rng(seed)
    return {
        name: {
            key: rng.uniform(0.5, 1.5, shape) if key == "moving_variance" else rng.normal(size=shape) * 0.3
            for key, shape in layer.items()
        }
        for name, layer in shapes.items()
    }


def _layer(*kernel: int) -> dict[str, tuple[int, ...]]:
    return {"kernel": kernel, "bias": kernel[-1:]}


SCORES = {
    "lstm": {"kernel": (1, 128), "recurrent_kernel": (32, 128), "bias": (128,)},
    "lstm_1": {"kernel": (32, 128), "recurrent_kernel": (32, 128), "bias": (128,)},
    "dense_3": _layer(128, 128),
}
TAIL = {
    "batch_normalization": dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (128,)),
    "dense_4": _layer(128, 64),
    "dense_5": _layer(64, 1),
}
MAPS = {
    "conv_lst_m2d": {"kernel": (3, 3, 9, 80), "recurrent_kernel": (3, 3, 20, 80), "bias": (80,)},
    "conv_lst_m2d_1": {"kernel": (3, 3, 20, 40), "recurrent_kernel": (3, 3, 10, 40), "bias": (40,)},
    "conv_lst_m2d_2": {"kernel": (3, 3, 10, 20), "recurrent_kernel": (3, 3, 5, 20), "bias": (20,)},
    "time_distributed_1": _layer(180, 512),
    "time_distributed_3": _layer(512, 64),
    "dense_2": _layer(256, 128),
}


def scores_branch(weights: dict[str, Layer], scores: Array) -> Array:
    """``[4, 1]`` scaled scores to 128 features."""
    return dense(lstm(lstm(scores, weights["lstm"]), weights["lstm_1"]).reshape(-1), weights["dense_3"])


def maps_branch(weights: dict[str, Layer], pictures: Array) -> Array:
    """``[4, 70, 70, 9]`` to 128 features."""
    steps = max_pool_same(conv_lstm(pictures, weights["conv_lst_m2d"]), 2)
    steps = max_pool_same(conv_lstm(steps, weights["conv_lst_m2d_1"]), 3)
    steps = max_pool_same(conv_lstm(steps, weights["conv_lst_m2d_2"]), 2)
    frames = dense(steps.reshape(4, -1), weights["time_distributed_1"])
    return dense(dense(frames, weights["time_distributed_3"]).reshape(-1), weights["dense_2"])


def tail(weights: dict[str, Layer], features: Array) -> float:
    mixed = dense(batch_norm(features, weights["batch_normalization"]), weights["dense_4"])
    return float(sigmoid(dense(mixed, weights["dense_5"]))[0])
