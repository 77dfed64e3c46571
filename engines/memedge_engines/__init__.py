"""memedge_engines: runs a bundle on whatever silicon is there.

Frames, preprocessing, bundle and manifest, executor and back ends. Imports numpy and msgspec; every other library only
where and when it is used.
"""

from __future__ import annotations

from .bundle import Bundle
from .errors import (
    BackendUnavailable,
    BundleError,
    EngineError,
    ExecutorError,
    FrameError,
    MemedgeError,
    PreprocessError,
)
from .executor import Executor, Outputs, Ticket
from .frame import Frame
from .manifest import Manifest

__all__ = [
    "BackendUnavailable",
    "Bundle",
    "BundleError",
    "EngineError",
    "Executor",
    "ExecutorError",
    "Frame",
    "FrameError",
    "Manifest",
    "MemedgeError",
    "Outputs",
    "PreprocessError",
    "Ticket",
]
