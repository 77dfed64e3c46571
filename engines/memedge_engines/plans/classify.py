"""What TensorRT's log texts mean: causes of failed builds, reasons of plans that do not load.

Fragments are matched loosely, in lower case, since wording differs between versions; the order of the tables decides
where several fit. Mismatch fragments: the texts inside the 11.4 runtime.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_EXPORT = "memedge export (write the bundle again)"
_OTHER_PRECISION = "memedge build --precision fp16"


@dataclass(frozen=True)
class Cause:
    """Why a build failed: ``code`` for programs, ``text`` for people, ``fix`` or none."""

    code: str
    text: str
    fix: str | None


UNKNOWN = Cause("unknown", "TensorRT does not say why", None)
CANCELLED = Cause("cancelled", "the build was cancelled", None)

_CAUSES: tuple[tuple[Cause, tuple[str, ...]], ...] = (
    (CANCELLED, ("buildcanceled", "buildcancelled")),
    (
        Cause("disk", "the disk is full", "free space, or set MEMEDGE_CACHE to a folder on another disk"),
        ("no space left on device", "enospc", "disk quota exceeded"),
    ),
    (
        Cause(
            "memory",
            "memory ran out",
            "close other programs that use the GPU, give a Jetson swap, or memedge build --workspace 256",
        ),
        (
            "out of memory", "outofmemory", "out_of_memory", "cudaerrormemoryallocation", "bad_alloc",
            "insufficient memory", "insufficient workspace", "memory allocation failure", "failed to allocate",
            "requested amount of gpu memory",
        ),
    ),
    (
        Cause("quantization", "the graph is not quantized as TensorRT needs it (symmetric int8)", _EXPORT),
        ("zero point is not supported", "quantizelinear scale", "scale must be positive"),
    ),
    (
        Cause("typing", "types in the graph do not fit each other", _EXPORT),
        (
            "must be of same type", "must have the same type", "must have same type", "mismatched type",
            "type mismatch", "types do not match", "could not infer output types",
        ),
    ),
    (
        Cause("unsupported", "this TensorRT has no kernel or importer for a layer", _OTHER_PRECISION),
        (
            "plugin not found", "no importer registered", "unsupported_node", "unsupported_graph", "unsupported node",
            "could not find any implementation", "no implementation", "is not supported", "unsupported sm",
        ),
    ),
    (
        Cause("graph", "the file is not an ONNX graph that TensorRT reads", _EXPORT),
        ("model_deserialize_failed", "failed to parse the onnx model", "invalid_graph", "invalid_node", "invalid node"),
    ),
    (
        Cause("profile", "the shapes of the profile do not fit the graph", "memedge build --batch 1"),
        ("optimization profile", "min<=opt<=max"),
    ),
    # Last: a builder without a driver says this beside whatever else went wrong.
    (
        Cause("driver", "the CUDA driver is missing or too old for this TensorRT", "memedge doctor"),
        ("driver version is insufficient", "cuda initialization failure", "no cuda-capable device",
            "factory function returned nullptr"),
    ),
)  # fmt: skip

_MISMATCHES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "version",
        (
            "not compatible with this version of tensorrt", "incompatible serialization version",
            "version tag does not match", "plan major version does not match runtime major version",
            "getenginehostcodeallowed() is false",
        ),
    ),
    (
        "architecture",
        ("generated on an incompatible device", "not compatible with this hardware-compatible engine"),
    ),
    ("platform", ("platform specific tag mismatch",)),
    ("header", ("magictag", "magic tag does not match")),
)  # fmt: skip


def build_failure(lines: Iterable[str]) -> Cause:
    """The cause that a failed build's log tells, or :data:`UNKNOWN`."""
    said = list(lines)
    # Warnings only where nothing else was said: they tell of what a library did about a thing, too.
    text = _joined([line for line in said if not line.startswith("warning:")] or said)
    return next((cause for cause, fragments in _CAUSES if any(f in text for f in fragments)), UNKNOWN)


def mismatch(lines: Iterable[str]) -> str | None:
    """The reason of PlanMismatch that a refused plan's log tells, or none.

    That another model of the same architecture built the plan is a warning of TensorRT's, not a reason.
    """
    text = _joined(lines)
    return next((reason for reason, fragments in _MISMATCHES if any(f in text for f in fragments)), None)


def telling(lines: Iterable[str]) -> str:
    """The one line of a log that says most: the first error that is not about a missing driver, else the last line."""
    said = list(lines)
    errors = [line for line in said if "error:" in line[:16]]
    useful = [line for line in errors if "cuda runtime" not in line.lower()]
    chosen = (useful or errors or said[-1:] or [""])[0]
    return chosen.partition(": ")[2] or chosen


def _joined(lines: Iterable[str]) -> str:
    return "\n".join(lines).lower()
