"""The tree of errors of the runtime package, on the root that all three packages share."""

from __future__ import annotations

from memedge_engines.errors import (
    BackendUnavailable,
    BuildCancelled,
    BundleError,
    CudaError,
    EngineError,
    ExecutorError,
    FrameError,
    MemedgeError,
    PlanMissing,
    PreprocessError,
    UnknownName,
)

__all__ = [
    "BackendUnavailable",
    "BuildCancelled",
    "BundleError",
    "CudaError",
    "EngineError",
    "ExecutorError",
    "FrameError",
    "MemedgeError",
    "PictureError",
    "PlanMissing",
    "PreprocessError",
    "SinkError",
    "SourceError",
    "SourceLost",
    "UnknownName",
    "UsageError",
]


class UsageError(MemedgeError):
    """Arguments that cannot be meant: contradictory flags, zero or negative numbers. Exit code 2."""


class SourceError(MemedgeError):
    """A source cannot be opened or holds nothing that can be scored."""


class SourceLost(SourceError):
    """A live source stopped delivering; a reconnecting reader tries again."""


class PictureError(SourceError):
    """A picture that cannot be read or is larger than the stated pixel limit."""


class SinkError(MemedgeError):
    """An output cannot be opened or written; what was written before stays readable."""
