"""What several cards check: one target, and options with a few values."""

from __future__ import annotations

from collections.abc import Sequence

from memedge.errors import UsageError


def only_target(system: str, targets: Sequence[str], cuts: Sequence[float] = ()) -> str:
    """The only target of a system that regresses one.

    Raises:
        UsageError: several targets, or classes.
    """
    if len(targets) != 1:
        raise UsageError(f"{system} predicts one target; found {', '.join(targets)}", fix="a model for each --target")
    if cuts:
        raise UsageError(f"{system} regresses its score; found classes cut at {list(cuts)}", fix="another loss")
    return targets[0]


def check_choice(system: str, option: str, value: str, allowed: Sequence[str]) -> None:
    """Raise UsageError for a value of an option that is none of those allowed."""
    if value not in allowed:
        raise UsageError(f"{system}: option {option}={value}; expected one of {', '.join(allowed)}")
