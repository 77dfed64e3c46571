"""The range table: what one calibration found out about the activations of one float graph.

It is all that a lowering needs from calibration. Calibration runs once, on the float graph, and every back end gets
its own lowering from the same table (uint8 on CPUs, symmetric int8 in TensorRT), so the table holds plain float ranges
and no scales. It is kept in the bundle as ``ranges.json`` and can be used again for the very same graph, which its hash
makes sure of.
"""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path

import msgspec

from ..errors import ExportError

SCHEMA = 1
METHODS = ("minmax", "percentile", "entropy")
"""The methods that turn statistics into ranges."""
_HASH = re.compile(r"[0-9a-f]{64}")
_AGAIN = "calibrate again, without --ranges"


class RangeTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ranges of the float activation tensors of one graph, from one calibration.

    Attributes:
        schema: version of this record.
        graph_sha256: hash of the float graph's ONNX bytes, in hex.
        method: ``minmax``, ``percentile`` or ``entropy``.
        source: what the frames were, in words (``lnsim:...``, ``synthetic``, ...).
        frames: number of calibration frames.
        frames_sha256: hash over the list of frame hashes, in order.
        tensors: activation tensor name -> (low, high), finite, low <= high, in the tensor's own unit.
        magnitudes: activation tensor name -> largest |x| ever seen, whatever the method cut off (for fp16
            blocking).
    """

    schema: int = SCHEMA
    graph_sha256: str
    method: str
    source: str
    frames: int
    frames_sha256: str
    tensors: dict[str, tuple[float, float]]
    magnitudes: dict[str, float]

    def __post_init__(self) -> None:
        """Refuse what no calibration writes.

        Raises:
            ExportError: another schema, an unknown method, no frames, a range that is not finite or is upside down.
        """
        if self.schema != SCHEMA:
            raise ExportError(f"the range table has schema {self.schema}, expected {SCHEMA}", fix=_AGAIN)
        if self.method not in METHODS:
            known = ", ".join(METHODS)
            raise ExportError(f"the range table's method is {self.method!r}, expected one of {known}", fix=_AGAIN)
        if self.frames < 1:
            raise ExportError(f"the range table comes from {self.frames} frames, expected at least 1", fix=_AGAIN)
        for field in ("graph_sha256", "frames_sha256"):
            value = getattr(self, field)
            if not _HASH.fullmatch(value):
                raise ExportError(f"the range table's {field} is {value!r}, expected 64 hex digits", fix=_AGAIN)
        if not self.tensors:
            raise ExportError("the range table names no tensor, expected the activations of a graph", fix=_AGAIN)
        for name, (low, high) in self.tensors.items():
            if not (math.isfinite(low) and math.isfinite(high)):
                raise ExportError(f"tensor {name!r} has the range {low} to {high}, expected finite numbers", fix=_AGAIN)
            if low > high:
                raise ExportError(f"tensor {name!r} has the range {low} to {high}, expected low <= high", fix=_AGAIN)
        if set(self.magnitudes) != set(self.tensors):
            odd = sorted(set(self.magnitudes) ^ set(self.tensors))[0]
            raise ExportError(f"tensor {odd!r} has a range or a magnitude, expected both", fix=_AGAIN)
        for name, size in self.magnitudes.items():
            if not math.isfinite(size) or size < 0:
                raise ExportError(f"tensor {name!r} has the magnitude {size}, expected a number >= 0", fix=_AGAIN)

    def check(self, graph: bytes) -> None:
        """Make sure that this table belongs to this float graph.

        Args:
            graph: ONNX bytes of the float graph.

        Raises:
            ExportError: the graph's hash differs.
        """
        found = graph_hash(graph)
        if found != self.graph_sha256:
            raise ExportError(
                f"the range table belongs to the graph {self.graph_sha256[:12]}, this graph is {found[:12]}:"
                " other weights or another export",
                fix=_AGAIN,
            )

    def absmax(self, name: str) -> float:
        """Largest magnitude inside the range of one tensor, the bound of a symmetric scale.

        Raises:
            ExportError: the table does not know the tensor.
        """
        try:
            low, high = self.tensors[name]
        except KeyError:
            raise ExportError(f"the range table knows no tensor {name!r}", fix=_AGAIN) from None
        return max(abs(low), abs(high))

    def zero_ranges(self) -> tuple[str, ...]:
        """Names of the tensors that were zero on every frame; they have no scale and stay float."""
        return tuple(name for name, (low, high) in self.tensors.items() if low == 0.0 == high)

    def encode(self) -> bytes:
        """JSON text of the table, the same bytes for the same table, with a newline at its end."""
        return msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=1) + b"\n"

    @classmethod
    def decode(cls, data: bytes, name: str = "the range table") -> RangeTable:
        """Read a table, strictly: unknown fields and wrong types are errors.

        Args:
            data: JSON text.
            name: what messages call it.

        Raises:
            ExportError: not JSON, not this form, or contents that ``RangeTable`` refuses.
        """
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError as error:
            raise ExportError(f"{name} cannot be read: {error}", fix=_AGAIN) from error

    @classmethod
    def load(cls, path: Path) -> RangeTable:
        """Read a table from a file, or from the ``ranges.json`` of a bundle folder.

        Raises:
            ExportError: no such file, or contents that :meth:`decode` refuses.
        """
        file = path / "ranges.json" if path.is_dir() else path
        try:
            data = file.read_bytes()
        except OSError as error:
            reason = error.strerror or error
            raise ExportError(f"{file}: cannot be read: {reason}; expected a range table (ranges.json)") from None
        return cls.decode(data, name=str(file))


def graph_hash(graph: bytes) -> str:
    """SHA-256 of a float graph's ONNX bytes, in hex."""
    return hashlib.sha256(graph).hexdigest()


def hash_frames(hashes: list[str]) -> str:
    """SHA-256 over a list of frame hashes, in order, in hex."""
    return hashlib.sha256("\n".join(hashes).encode("ascii")).hexdigest()
