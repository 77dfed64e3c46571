"""Several processes of one training: each runs the whole command, the first one speaks, and they end together."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any

from ..errors import TrainingError

# How Fabric's launcher and torchrun tell a process its number.
_NUMBERS = ("LOCAL_RANK", "NODE_RANK", "RANK")
# A process that ends closes its connections some time before it is gone.
_ENDING_S = 10.0


@contextlib.contextmanager
def first_speaks() -> Iterator[None]:
    """Only the first process prints what is printed within; errors that leave are told by each."""
    if all(os.environ.get(name, "0") in ("", "0") for name in _NUMBERS):
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


@contextlib.contextmanager
def together(fabric: Any) -> Iterator[None]:
    """Processes of one training end together. What the end of another one raises here becomes one line; a process whose
    first one is gone says nothing: that one has said why, or was killed.

    Raises:
        TrainingError: another process ended, or a device failed.
    """
    parent = os.getppid()
    try:
        yield
    except RuntimeError as error:
        if fabric.world_size == 1:
            raise
        if not fabric.is_global_zero and _ends(parent):
            raise SystemExit(1) from None
        reason = str(error).partition("\n")[0]
        raise TrainingError(
            f"process {fabric.global_rank + 1} of {fabric.world_size} cannot go on: another one ended, or its device "
            f"failed: {reason}",
            fix="mend what the others say; --resume goes on with what was saved last",
        ) from None


def _ends(parent: int) -> bool:
    """Whether the process that started this one ends within some seconds."""
    until = time.monotonic() + _ENDING_S
    while os.getppid() == parent:
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True
