"""The fake TensorRT under a name that a building child process imports: ``module="helpers_child_trt"``.

What goes wrong comes from the environment variable FAKE_TRT, a JSON object: fields of :class:`fake_tensorrt.Faults`,
and what a real library does to its process while it builds, ``act``: ``abort``, ``kill``, ``hang``, ``print`` (past
Python, to the process's first file) or ``slow`` (a thousand steps of 20 ms).
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from fake_tensorrt import Faults, fake_tensorrt
from memedge_engines.plans import proof

_fields = json.loads(os.environ.get("FAKE_TRT", "{}"))
_act = _fields.pop("act", "")
trt = fake_tensorrt("10.3", faults=Faults(**_fields))
proof.BACKEND = "helpers_plans"  # plans run by ONNX Runtime, since there is no GPU
_build = trt.Builder.build_serialized_network


def _acting(self: Any, network: Any, config: Any) -> Any:
    if _act == "abort":
        print("free(): invalid pointer", file=sys.stderr, flush=True)
        os.abort()
    elif _act == "kill":
        os.kill(os.getpid(), 9)
    elif _act == "hang":
        time.sleep(600)
    elif _act == "print":
        os.write(1, b"not JSON {\n\xff\xfe" + b"x" * 5000 + b"\n")
        time.sleep(0.3)
    elif _act == "slow":
        config.progress_monitor.phase_start("Timing tactics", None, 1000)
        for step in range(1000):
            time.sleep(0.02)
            if not config.progress_monitor.step_complete("Timing tactics", step):
                return None
    return _build(self, network, config)


trt.Builder.build_serialized_network = _acting
sys.modules[__name__] = trt
