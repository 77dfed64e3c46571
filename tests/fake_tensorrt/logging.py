"""Base classes that callers derive from: loggers, monitors, recorders, allocators."""

from __future__ import annotations

import sys
from typing import Any


class ILogger:
    """A caller derives from it and calls its ``__init__``."""

    def __init__(self) -> None:
        self._initialised = True

    def log(self, severity: Any, msg: str) -> None:
        """Pure virtual in the bindings."""
        raise NotImplementedError("ILogger.log must be overridden")


class Logger:
    """Prints to stderr what is severe enough."""

    _defaults = {"min_severity": None}  # noqa: RUF012 - read only

    def __init__(self, min_severity: Any = None) -> None:
        self._initialised = True
        self._stored_min_severity = min_severity

    def log(self, severity: Any, msg: str) -> None:
        """Print it."""
        if severity.name != "VERBOSE":
            print(f"[TRT] [{severity.name[0]}] {msg}", file=sys.stderr)


class IProgressMonitor:
    """A caller derives from it and calls its ``__init__``."""

    def __init__(self) -> None:
        self._initialised = True

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """Pure virtual in the bindings."""
        raise NotImplementedError("IProgressMonitor.phase_start must be overridden")

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Pure virtual in the bindings."""
        raise NotImplementedError("IProgressMonitor.step_complete must be overridden")

    def phase_finish(self, phase_name: str) -> None:
        """Pure virtual in the bindings."""
        raise NotImplementedError("IProgressMonitor.phase_finish must be overridden")


CLASSES = {"ILogger": ILogger, "Logger": Logger, "IProgressMonitor": IProgressMonitor}
