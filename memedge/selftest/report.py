"""Steps of a self-test, each its own try, and the report that they make."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from memedge_engines.backends.base import first_line
from memedge_engines.bundle import Bundle

from ..console import Progress
from ..environment import Environment, environment
from ..errors import MemedgeError

_ISSUE = "report it with these lines"
_BECAME = {"failed": "failed", "skipped": "was skipped"}


class Skipped(Exception):
    """A step that has nothing to test here: why, and what would change that."""

    def __init__(self, reason: str, fix: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fix = fix


class Failed(MemedgeError):
    """A step found that something is wrong."""


@dataclass(frozen=True)
class Step:
    """One thing that is tested.

    Attributes:
        name: as the report calls it.
        work: does it and says what was found; raises :class:`Skipped`, or anything else when it fails.
        needs: names of earlier steps without which it is skipped.
    """

    name: str
    work: Callable[[], str]
    needs: tuple[str, ...] = ()


class Outcome(msgspec.Struct, frozen=True):
    """What came of a step: what was found, or the reason; ``fix`` mends it."""

    name: str
    status: Literal["ok", "failed", "skipped"]
    text: str
    fix: str | None = None
    seconds: float = 0.0

    def line(self) -> str:
        """One line for people."""
        fix = f" (fix: {self.fix})" if self.fix else ""
        return f"{self.status:<7} {self.name}: {' '.join(self.text.split())}{fix} [{self.seconds:.1f} s]"


@dataclass(frozen=True)
class Report:
    """A whole self-test. ``created``: UTC, ISO 8601."""

    created: str
    environment: Environment
    bundle: str
    outcomes: tuple[Outcome, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed and something was tested."""
        return any(o.status == "ok" for o in self.outcomes) and not any(o.status == "failed" for o in self.outcomes)

    def lines(self) -> list[str]:
        """Whole lines, machine first."""
        counts = {status: sum(o.status == status for o in self.outcomes) for status in ("ok", "failed", "skipped")}
        told = ", ".join(f"{count} {status}" for status, count in counts.items())
        return [
            f"memedge selftest, {self.created}",
            *_machine(self.environment),
            f"bundle: {self.bundle}",
            *(outcome.line() for outcome in self.outcomes),
            f"selftest {'passed' if self.passed else 'FAILED'}: {told}",
        ]

    def to_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "created": self.created,
            "passed": self.passed,
            "bundle": self.bundle,
            "environment": msgspec.to_builtins(self.environment),
            "steps": [msgspec.to_builtins(outcome) for outcome in self.outcomes],
        }


def attempt(step: Step) -> Outcome:
    """Do one step; whatever it raises is an outcome."""
    began = time.monotonic()
    status: Literal["ok", "failed", "skipped"]
    try:
        status, text, fix = "ok", step.work(), None
    except Skipped as skipped:
        status, text, fix = "skipped", skipped.reason, skipped.fix
    except MemedgeError as error:
        status, text, fix = "failed", error.message, error.fix
    except Exception as error:  # what nobody thought of must not hide the other steps
        status, text, fix = "failed", f"{type(error).__name__}: {first_line(error)}", _ISSUE
    return Outcome(step.name, status, text, fix, round(time.monotonic() - began, 3))


def missing(step: Step, done: Iterable[Outcome]) -> Outcome | None:
    """The outcome of a step whose needs were not met; none where they were."""
    for outcome in done:
        if outcome.name in step.needs and outcome.status != "ok":
            return Outcome(step.name, "skipped", f"needs '{outcome.name}', which {_BECAME[outcome.status]}")
    return None


def selftest(bundle: Bundle, gpu: bool = False, progress: Progress | None = None) -> Report:
    """Test this machine with a bundle, the default one as a rule: at most 20 s, with ``gpu`` about two minutes more.

    Nothing is raised for what does not work: that is what the report is for. A GPU's steps run in a process of their
    own, so that a crash there is a line of the report; they leave a built plan in the user's cache.

    Args:
        progress: advanced by one for each step.
    """
    from .child import run_gpu_steps
    from .host import host_steps

    outcomes: list[Outcome] = []

    def tell(name: str) -> None:
        if progress is not None:
            progress.advance(1, name)

    for step in host_steps(bundle, gpu):
        tell(step.name)
        outcomes.append(missing(step, outcomes) or attempt(step))
    if gpu:
        outcomes += run_gpu_steps(bundle, tell)
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return Report(now, environment(), f"{bundle.manifest.name} ({bundle.hash[:12]})", tuple(outcomes))


def _machine(found: Environment) -> list[str]:
    board = f", {found.board}" if found.board else ""
    mode = f", power mode {found.power_mode}" if found.power_mode else ""
    packages = ", ".join(f"{name} {version}" for name, version in found.packages.items())
    return [
        f"system: {found.system} {found.machine}{board}{mode}, {found.python}",
        f"processor: {found.cpu}, {found.usable_cores} of {found.cores} logical ({' '.join(found.flags)})",
        *(f"gpu: {gpu}" for gpu in found.gpus),
        f"packages: {packages or 'none found'}",
    ]
