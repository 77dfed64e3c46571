"""The record next to a plan, ``<name>.engine.json``: what it is, what it runs on, what it was made from.

The plan itself stays a plain file that other tools open; its SHA-256 binds the two. Nothing is ever put in front of a
plan's bytes.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ..errors import PlanError, PlanMismatch
from ..manifest import Calibration, Preprocess
from .machine import Machine
from .profile import Profile

SCHEMA_VERSION = 1
SUFFIX = ".engine.json"


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the side-car's records."""


class Header(_Record, frozen=True, kw_only=True):
    """First bytes of a plan. ``version``: major, minor, patch, build of the TensorRT that wrote it; empty for RTX."""

    tag: Literal["ftrt", "vtrt"]
    serialization: int
    version: tuple[int, ...] = ()


class TensorSpec(_Record, frozen=True, kw_only=True):
    """One input or output.

    Attributes:
        shape: -1 where free.
        minimum, optimum, maximum: shapes of the profile; none for outputs.
        scale: of an int8 input, real = int8 * scale; none otherwise.
    """

    name: str
    mode: Literal["input", "output"]
    dtype: str
    layout: str
    shape: tuple[int, ...]
    minimum: tuple[int, ...] | None = None
    optimum: tuple[int, ...] | None = None
    maximum: tuple[int, ...] | None = None
    scale: float | None = None


class Source(_Record, frozen=True, kw_only=True):
    """What the plan was made from: bundle and graph by SHA-256, and the range table's where the graph is int8."""

    bundle: str
    bundle_name: str
    node: str
    lowering: Literal["fp32", "trt-int8", "trt-fp16"]
    file: str
    onnx_sha256: str
    ranges_sha256: str | None = None
    calibration: Calibration | None = None


class Options(_Record, frozen=True, kw_only=True):
    """Builder options. ``typing`` is ``weak`` only below TensorRT 10.12, after strong typing failed (``fallback``)."""

    typing: Literal["strong", "weak"] = "strong"
    fallback: str = ""
    flags: tuple[str, ...] = ()
    level: int = 3
    workspace_bytes: int | None = None
    max_aux_streams: int = 0
    timing_cache_bytes: int = 0


class Layers(_Record, frozen=True, kw_only=True):
    """Layers of a plan by what they compute in; ``moves``: reformats and copies, in none of the other counts."""

    total: int
    int8: int = 0
    fp16: int = 0
    fp32: int = 0
    other: int = 0
    moves: int = 0


class Difference(_Record, frozen=True, kw_only=True):
    """Largest difference of one target's golden scores from the recorded ones, and the tolerance they met."""

    target: str
    largest: float
    tolerance: float


class SideCar(_Record, frozen=True, kw_only=True):
    """The whole record.

    Attributes:
        preprocess: contract of each input that takes pictures.
        score_range: what a score is clipped to; nothing else follows the graph.
        layers: from the engine inspector; none where the plan could not be loaded.
        golden: measured differences; none while the plan has not run its golden frames.
        attempt: which build in a row passed its golden frames, from 1.
        seconds: duration of the build.
        created: UTC, ISO 8601.
    """

    schema: int
    plan_sha256: str
    plan_bytes: int
    header: Header
    machine: Machine
    profile: Profile
    source: Source
    options: Options
    tensors: tuple[TensorSpec, ...]
    preprocess: dict[str, Preprocess]
    score_range: tuple[float, float] = (0.0, 1.0)
    layers: Layers | None = None
    golden: tuple[Difference, ...] | None = None
    attempt: int = 1
    seconds: float
    created: str
    tool: str


_TAGS: dict[bytes, Literal["ftrt", "vtrt"]] = {b"ftrt": "ftrt", b"vtrt": "vtrt"}
_HEADER_BYTES = 28
_LARGEST = 1 << 20
_LARGEST_METADATA = 1 << 20


def read_header(data: bytes) -> Header:
    """What the first 28 bytes of a plan say; no TensorRT is needed for it.

    Raises:
        PlanMismatch: reason ``header``: too short, another tag, or metadata in front of the plan.
    """
    tag = _TAGS.get(bytes(data[:4]))
    if tag is None:
        metadata, plan = split_prefix(data)
        if metadata is not None:
            raise PlanMismatch(
                "header",
                f"{len(data) - len(plan)} bytes of metadata stand before the plan, as ultralytics writes it "
                f"({', '.join(list(metadata)[:5])}); memedge's plans are plain files with a side-car",
                fix="memedge build (from the bundle)",
            )
        text = f"begins with {bytes(data[:4])!r}; a TensorRT plan begins with 'ftrt', of TensorRT for RTX with 'vtrt'"
        raise PlanMismatch("header", text)
    if len(data) < _HEADER_BYTES:
        raise PlanMismatch("header", f"has {len(data)} bytes; a plan's header alone has {_HEADER_BYTES}")
    serialization = int.from_bytes(data[4:8], "little")
    # Where the version stands is known for serialization version 0 only.
    known = tag == "ftrt" and serialization == 0
    return Header(tag=tag, serialization=serialization, version=tuple(data[24:28]) if known else ())


def split_prefix(data: bytes) -> tuple[dict[str, Any] | None, bytes]:
    """Metadata that ultralytics puts before a plan (4-byte length, JSON), and the plan behind it; none where it is not.

    Read only: nothing of memedge's writes it, since such a file opens in no other tool.
    """
    length = int.from_bytes(data[:4], "little")
    if not 2 <= length <= min(_LARGEST_METADATA, len(data) - 4) or bytes(data[4 + length : 8 + length]) not in _TAGS:
        return None, data
    try:
        metadata = msgspec.json.decode(data[4 : 4 + length])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None, data
    return (metadata, data[4 + length :]) if isinstance(metadata, dict) else (None, data)


def decode(data: bytes) -> SideCar:
    """Decode a side-car.

    Raises:
        PlanMismatch: reason ``schema``: not JSON, another schema, an unknown or missing field.
    """
    try:
        if len(data) > _LARGEST:
            raise PlanMismatch("schema", f"the side-car has {len(data)} bytes; at most {_LARGEST}")
        head = msgspec.json.decode(data)
        version = head.get("schema") if isinstance(head, dict) else None
        if version != SCHEMA_VERSION or isinstance(version, bool):
            raise PlanMismatch("schema", f"the side-car has schema {version}; this memedge reads {SCHEMA_VERSION}")
        return msgspec.json.decode(data, type=SideCar)
    except (msgspec.DecodeError, RecursionError, PlanError, UnicodeDecodeError) as error:
        if isinstance(error, PlanMismatch):
            raise
        raise PlanMismatch("schema", f"the side-car does not decode: {error}") from None


def encode(record: SideCar) -> bytes:
    """The record as indented JSON, UTF-8, with a final newline."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the side-car."""
    schema = msgspec.json.schema(SideCar)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "memedge plan side-car", **schema}
