from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from memedge.errors import SinkError, UsageError
from memedge.sinks import sink_class, sink_names
from memedge.sinks.base import Sink


def test_every_name_is_a_sink() -> None:
    for name in sink_names():
        assert issubclass(sink_class(name), Sink)


def test_unknown_names_get_a_hint() -> None:
    with pytest.raises(UsageError, match="did you mean 'jsonl'"):
        sink_class("jsnol")
    with pytest.raises(UsageError, match="known: csv"):
        sink_class("zzz")


def test_other_packages_add_sinks(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    points = [
        EntryPoint("mqtt", "memedge.sinks.synthetic:SyntheticSink", "memedge.sinks"),
        EntryPoint("broken", "no_such_package:Sink", "memedge.sinks"),
    ]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
    assert sink_class("mqtt").__name__ == "SyntheticSink"
    assert "mqtt" in sink_names()
    with pytest.raises(SinkError, match="no_such_package"):
        sink_class("broken")


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    modules = [f"memedge.{m}" for m in ("sinks", "rolling", "stats", "content", "moments", "sampling")]
    modules += [f"memedge.sinks.{m}" for m in ("jsonl", "csv", "summary_csv", "video", "terminal", "moments", "show")]
    code = (
        f"import sys, {', '.join(modules)}; "
        "print([m for m in ('av', 'cv2', 'PIL', 'rich', 'onnxruntime', 'torch') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert done.stdout.strip() == "[]"
