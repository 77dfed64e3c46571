"""What a building child process is asked and what it tells: one line of JSON each."""

from __future__ import annotations

import msgspec

from .. import errors
from ..errors import MemedgeError, PlanError
from .machine import Machine
from .profile import Profile

LONGEST_LINE = 1 << 20
CANCEL = b"cancel\n"
PARENT_GONE = 75
"""Exit code of a child whose parent ended first."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The work: every graph node of one lowering; the fields are :class:`.process.BuildProcess`'s arguments."""

    bundle: str
    lowering: str
    profile: Profile
    machine: Machine | None = None
    force: bool = False
    module: str = "tensorrt"


class Step(msgspec.Struct, frozen=True, tag="step"):
    """How far the whole build is, 0..1."""

    fraction: float
    text: str
    node: str = ""


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """Every plan is stored: (node, path of the plan, whether it was there already)."""

    plans: list[tuple[str, str, bool]]
    seconds: float


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Why there is no plan; ``kind`` is the error's class."""

    kind: str
    message: str
    fix: str | None = None
    log: list[str] = []
    cause: str = ""
    reason: str = ""


Message = Step | Finished | Failed

_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
# Kinds that are rebuilt with their message and fix alone.
_PLAIN = ("BundleError", "DriverMissing", "DriverTooOld", "NoDevice", "DeviceOutOfMemory", "BackendUnavailable",
          "EngineError")  # fmt: skip


def encode(message: Message | Request) -> bytes:
    """One line."""
    return msgspec.json.encode(message) + b"\n"


def decode(line: bytes) -> Message | None:
    """The message of a line, or none where it is something else: libraries print what they like."""
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, RecursionError, PlanError):
        return None


def failure(error: BaseException) -> Failed:
    """An error as a message."""
    known = isinstance(error, MemedgeError)
    return Failed(
        kind=type(error).__name__ if known else "PlanError",
        message=error.message if isinstance(error, MemedgeError) else f"{type(error).__name__}: {error}"[:500],
        fix=error.fix if isinstance(error, MemedgeError) else None,
        log=list(getattr(error, "log", ()))[-100:],
        cause=getattr(error, "cause", "") if known else "crash",
        reason=getattr(error, "reason", "") if isinstance(error, errors.PlanMismatch) else "",
    )


def error_of(told: Failed) -> MemedgeError:
    """The error that a child told of, of the same class where it is one that callers tell apart."""
    if told.kind == "PlanMismatch":
        return errors.PlanMismatch(told.reason, told.message, log=tuple(told.log), fix=told.fix)
    if told.kind == "BuildCancelled":
        return errors.BuildCancelled(told.message, log=tuple(told.log), fix=told.fix, cause=told.cause)
    if told.kind in _PLAIN:
        plain: type[MemedgeError] = getattr(errors, told.kind)
        return plain(told.message, fix=told.fix)
    return PlanError(told.message, log=tuple(told.log), fix=told.fix, cause=told.cause)
