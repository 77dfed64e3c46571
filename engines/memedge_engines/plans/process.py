"""Building in a child process, so that a builder that crashes, hangs or runs out of memory never stops scoring."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import PlanError
from .machine import Machine
from .profile import Profile
from .sidecar import SideCar


@dataclass(frozen=True)
class BuildProgress:
    """How far a build is. ``fraction``: of the whole bundle, 0..1, never falling; ``text``: what is being done."""

    fraction: float
    text: str
    node: str = ""


@dataclass(frozen=True)
class BuiltPlan:
    """A node's plan in the store. ``reused``: it was there already."""

    node: str
    path: Path
    sidecar: SideCar
    reused: bool


@dataclass(frozen=True)
class BuildResult:
    """Every graph node's plan of one lowering, and the seconds that it took."""

    lowering: str
    plans: tuple[BuiltPlan, ...]
    seconds: float


class BuildProcess:
    """Builds every graph node of one lowering of a bundle in a child process. Not thread-safe; a context manager.

    Args:
        bundle_path: the bundle's folder.
        lowering: ``trt-int8``, ``trt-fp16`` or ``fp32``.
        profile: batch range and effort.
        machine: what the plans are keyed by; none asks the driver here.
        force: build even where a fitting plan is stored.
        module: name of the module that is TensorRT; another than ``tensorrt`` skips the driver check.
        limit_s: the build is ended after this many seconds.
        silence_s: and when nothing was heard of it for this long.
    """

    def __init__(
        self,
        bundle_path: str | os.PathLike[str],
        lowering: str,
        profile: Profile | None = None,
        machine: Machine | None = None,
        *,
        force: bool = False,
        module: str = "tensorrt",
        limit_s: float = 7200.0,
        silence_s: float = 1800.0,
    ) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Start the child process.

        Raises:
            PlanError: it cannot be started, or was started before.
            DriverMissing, NoDevice, BackendUnavailable: nothing can be built on this machine.
        """
        raise NotImplementedError

    def poll(self) -> list[BuildProgress]:
        """What happened since the last call, at most 64 entries; never waits. Also enforces the limits."""
        raise NotImplementedError

    @property
    def done(self) -> bool:
        """Whether the child has ended, in whatever way; ``poll`` keeps this up to date."""
        raise NotImplementedError

    @property
    def error(self) -> PlanError | None:
        """Why there is no result, once done; none when there is one."""
        raise NotImplementedError

    def result(self) -> BuildResult:
        """The plans. Raises the error where there is none, and PlanError while the build goes on."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Ask the child to stop at the builder's next step; does not wait. Safe to call at any time."""
        raise NotImplementedError

    def close(self) -> None:
        """Cancel, wait a few seconds, then kill; nothing of the child is left. Safe to call twice."""
        raise NotImplementedError
