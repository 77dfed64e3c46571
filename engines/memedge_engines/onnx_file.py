"""What must be known of an ONNX file before a library gets it, read from its bytes without the onnx package.

A bundle's graphs are self-contained: a tensor whose data lies in another file is refused, because libraries would look
for that file where the process runs, outside the bundle and its hashes.
"""

from __future__ import annotations

from collections.abc import Iterator

from .bundle import Bundle
from .errors import EngineError
from .manifest import FileEntry

# Field numbers of onnx.proto: where messages that may hold tensors lie inside each other.
_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _TENSOR, _SPARSE, _FUNCTION, _TRAINING = range(8)
_CHILDREN: dict[int, dict[int, int]] = {
    _MODEL: {7: _GRAPH, 20: _TRAINING, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
    _TRAINING: {1: _GRAPH, 2: _GRAPH},
    _TENSOR: {},
}
_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14
_GRAPH_OF_MODEL, _INITIALIZER, _DATA_TYPE, _FLOAT16 = 7, 5, 2, 10
_DEEPEST = 64


def graph_bytes(bundle: Bundle, entry: FileEntry) -> bytes:
    """The verified bytes of a graph file that is whole in itself.

    Raises:
        BundleError: missing or altered file.
        EngineError: not an ONNX model, or one with external data.
    """
    data = bundle.read(entry)
    try:
        name = external_tensor(data)
    except ValueError as error:
        raise EngineError(f"'{bundle.path / entry.file}' is not an ONNX model: {error}") from None
    if name is not None:
        raise EngineError(
            f"'{bundle.path / entry.file}': tensor '{name}' lies in another file; a bundle's graph holds all its data",
            fix="onnx.save(model, path, save_as_external_data=False)",
        )
    return data


def external_tensor(data: bytes) -> str | None:
    """Name of the first tensor with external data, or none. ValueError when the bytes are not a protobuf message."""
    return _external(memoryview(data), _MODEL, 0)


def has_half(data: bytes) -> bool:
    """Whether a graph holds constants in half precision. ValueError as for :func:`external_tensor`."""
    for field, graph in _fields(memoryview(data)):
        if field != _GRAPH_OF_MODEL or not isinstance(graph, memoryview):
            continue
        for inner, tensor in _fields(graph):
            if inner != _INITIALIZER or not isinstance(tensor, memoryview):
                continue
            if any(number == _DATA_TYPE and value == _FLOAT16 for number, value in _fields(tensor)):
                return True
    return False


def _external(data: memoryview, kind: int, depth: int) -> str | None:
    if depth > _DEEPEST:
        raise ValueError("graphs nested too deeply")
    children = _CHILDREN[kind]
    name, external = "?", False
    for field, value in _fields(data):
        if kind == _TENSOR:
            if field == _NAME and isinstance(value, memoryview):
                name = bytes(value).decode("utf-8", "replace")
            external |= field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value == 1)
        elif field in children and isinstance(value, memoryview):
            found = _external(value, children[field], depth + 1)
            if found is not None:
                return found
    return name if external else None


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) of a protobuf message; fixed-width values are skipped."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        field, wire = tag >> 3, tag & 7
        if field == 0:
            raise ValueError(f"field number 0 at byte {at}")
        if wire == 0:
            value, at = _varint(data, at)
            yield field, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if at + size > end:
            raise ValueError(f"cut short at byte {at}")
        if wire == 2:
            yield field, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError(f"cut short at byte {at}")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
