"""A self-test's process whose steps go wrong in every way: ``python -m helpers_selftest_child BUNDLE``."""

from __future__ import annotations

import os
import signal
import sys
import time

from memedge.selftest import child, gpu
from memedge.selftest.report import Skipped, Step


def _print() -> str:
    os.write(1, b"past Python\n")
    print("through Python")
    return "printed"


def _crash() -> str:
    print("free(): invalid pointer", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)
    return ""


def _hang() -> str:
    time.sleep(600)
    return ""


def _skip() -> str:
    raise Skipped("nothing here", "look elsewhere")


def _end() -> str:
    os._exit(3)


STEPS = {"print": _print, "crash": _crash, "hang": _hang, "skip": _skip, "end": _end, "after": lambda: f"{1 / 1:.0f}"}

if __name__ == "__main__":
    gpu.gpu_steps = lambda bundle: [Step(name, work) for name, work in STEPS.items()]
    sys.exit(child.main(sys.argv[1:]))
