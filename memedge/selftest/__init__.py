"""``memedge selftest``: does memedge work on this machine? A report in plain lines, to paste into an issue.

- :mod:`.report`: steps, what came of them, the report.
- :mod:`.host`: the default bundle's golden frames on every engine, preprocessing, a stream from end to end.
- :mod:`.gpu`: driver, kernel, TensorRT, CUDA graphs, timings; run by :mod:`.child` in a process of its own.
- :mod:`.frames`: pictures in all formats; :mod:`.network`: a small graph that needs no file.
"""

from __future__ import annotations

from .report import Outcome, Report, selftest

__all__ = ["Outcome", "Report", "selftest"]
