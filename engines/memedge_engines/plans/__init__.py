"""TensorRT plans: built on the device that runs them, in a child process, kept in the user's cache, checked before use.

- :mod:`.library`: the ``tensorrt`` module, imported only where a driver is; the process's one logger.
- :mod:`.machine`, :mod:`.profile`: what a plan depends on beside its graph.
- :mod:`.builder`: one ONNX graph to one plan, with progress and cancellation.
- :mod:`.inspection`: how many layers of a plan really run int8.
- :mod:`.sidecar`: the record next to a plan that says what it is; the header of a plan's bytes.
- :mod:`.store`: plans and timing caches in the user's cache folder.
- :mod:`.lookup`: which stored plan serves a wish.
- :mod:`.runtime`: a plan in memory, its execution contexts; :mod:`.engine`: the engine seam over it.
- :mod:`.proof`: golden frames through plans before anything else runs on them.
- :mod:`.process`: building in a child process; :mod:`.child` is what runs there.
"""

from __future__ import annotations

LOWERINGS = ("trt-int8", "trt-fp16", "fp32")
"""Lowerings that become plans, in the order in which ``auto`` takes them."""
