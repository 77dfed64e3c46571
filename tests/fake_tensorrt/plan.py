"""Plans of the fake: the header of a real one (tag, serialization version, the library's version), then the graph."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

from .state import Fake

TAG = b"ftrt"
_HEADER = 28
# Magic, serialization version, length, tag of the platform, compute capability.
_LAYOUT = struct.Struct("<4sIQII")


def pack(fake: Fake, model: bytes, description: dict[str, Any]) -> bytes:
    """A plan."""
    told = json.dumps(description, sort_keys=True).encode()
    body = struct.pack("<I", len(told)) + told + model
    body += hashlib.sha256(body).digest()
    head = _LAYOUT.pack(TAG, 0, _HEADER + len(body), _platform(fake), int(fake.sm))
    return head + bytes(number & 255 for number in fake.version) + body


def refusal(fake: Fake, data: bytes) -> tuple[str, ...]:
    """What the log says of a plan that is not for this fake; empty where it is."""
    if len(data) < _HEADER or data[:4] != TAG:
        found = data[:4].hex()
        return (
            f"Error Code 1: Serialization (Serialization assertion magicTagRead == kMAGIC_TAG failed. {found} "
            "Magic tag does not match)",
        )
    _, _, length, platform, sm = _LAYOUT.unpack(data[: _LAYOUT.size])
    if tuple(data[24:28]) != tuple(number & 255 for number in fake.version):
        here, there = (".".join(map(str, one)) for one in (fake.version, data[24:28]))
        return (
            "Error Code 6: API Usage Error (The engine plan file is not compatible with this version of TensorRT, "
            f"expecting library version {here} got {there}, please rebuild.)",
            "Error Code 4: Internal Error (Engine deserialization failed.)",
        )
    if platform != _platform(fake):
        return ("Error Code 6: API Usage Error (Platform specific tag mismatch detected. Expected another platform.)",)
    if sm != int(fake.sm):
        return (
            "Error Code 6: API Usage Error (The engine plan file is generated on an incompatible device, expecting "
            f"compute {_dotted(int(fake.sm))} got compute {_dotted(sm)}, please rebuild.)",
        )
    if length != len(data) or hashlib.sha256(data[_HEADER:-32]).digest() != data[-32:]:
        return (
            "Error Code 1: Serialization (Serialization assertion sizeRead == static_cast<uint64_t>(size) failed.)",
        )
    return ()


def unpack(data: bytes) -> tuple[bytes, dict[str, Any]]:
    """The graph and the description of a plan that was not refused."""
    size = struct.unpack("<I", data[_HEADER : _HEADER + 4])[0]
    start = _HEADER + 4
    return data[start + size : -32], json.loads(data[start : start + size])


def _platform(fake: Fake) -> int:
    return int.from_bytes(hashlib.sha256(fake.platform.encode()).digest()[:4], "little")


def _dotted(sm: int) -> str:
    return f"{sm // 10}.{sm % 10}"
