"""A small graph as ONNX bytes, written without the onnx package: what a TensorRT that works at all builds in seconds.

``frames`` float32 [batch, 3, 32, 32] -> 3x3 convolution (16 channels) -> ReLU -> global average -> ``score``
float32 [batch, 16, 1, 1].
"""

from __future__ import annotations

import numpy as np

SHAPE = (3, 32, 32)
CHANNELS = 16
_FLOAT, _INTS = 1, 7
_OPSET, _IR_VERSION = 19, 9


def small_network() -> bytes:
    """The graph; the same bytes every time."""
    weights = np.random.default_rng(7).normal(0, 0.3, (CHANNELS, 3, 3, 3)).astype(np.float32)
    bias = np.linspace(-0.5, 0.5, CHANNELS, dtype=np.float32)
    pads = _text(1, "pads") + b"".join(_number(8, 1) for _ in range(4)) + _number(20, _INTS)
    graph = [
        _part(1, _node("Conv", ["frames", "weights", "bias"], "features", "stem") + _part(5, pads)),
        _part(1, _node("Relu", ["features"], "positive", "relu")),
        _part(1, _node("GlobalAveragePool", ["positive"], "score", "mean")),
        _text(2, "small"),
        _part(5, _constant("weights", weights)),
        _part(5, _constant("bias", bias)),
        _part(11, _value("frames", SHAPE)),
        _part(12, _value("score", (CHANNELS, 1, 1))),
    ]
    opset = _text(1, "") + _number(2, _OPSET)
    return _number(1, _IR_VERSION) + _text(2, "memedge") + _part(7, b"".join(graph)) + _part(8, opset)


def _node(operator: str, inputs: list[str], output: str, name: str) -> bytes:
    return b"".join(_text(1, one) for one in inputs) + _text(2, output) + _text(3, name) + _text(4, operator)


def _constant(name: str, array: np.ndarray) -> bytes:
    dims = b"".join(_number(1, size) for size in array.shape)
    return dims + _number(2, _FLOAT) + _text(8, name) + _part(9, array.astype("<f4").tobytes())


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    axes = [_part(1, _text(2, "batch")), *(_part(1, _number(1, size)) for size in shape)]
    tensor = _number(1, _FLOAT) + _part(2, b"".join(axes))
    return _text(1, name) + _part(2, _part(1, tensor))


# Protocol buffers: a field is its number and wire type, then a number or a length and bytes.


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _part(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _text(field: int, text: str) -> bytes:
    return _part(field, text.encode())


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
